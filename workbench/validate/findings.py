"""The kinds of findings, and one finding. Knows no file and no record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
"""`error`: the phase refuses the file. `warning`: it reads the file, and something is wrong. `note`: worth knowing."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    title: str
    """The finding in a few words."""
    remedy: str
    """What to do; the error of a reader has its own."""
    level: Level = "warning"


def _row(title: str) -> Kind:
    return Kind(title, "fix the rows; --fix leaves them out")


KINDS: dict[str, Kind] = {
    # Whole files
    "refused": Kind("the phase refuses the file", "fix the rows below", "error"),
    "encoding": Kind("not UTF-8: the encoding was detected", "convert the file: iconv -f ENCODING -t utf-8 OLD > NEW"),
    "single-label": Kind("fewer than two labels", "add texts of another label", "error"),
    # Rows that the phase cannot read
    "broken-row": _row("a row is not JSON or CSV"),
    "duplicate-key": _row("a key appears twice in one object"),
    "bad-bytes": _row("a line is not UTF-8"),
    "half-character": _row("half a character (a lone surrogate)"),
    "mixed-forms": Kind("rows in different forms", "put each form into its own file"),
    "missing-column": _row("a column is missing"),
    "wrong-type": _row("a value of the wrong type"),
    "wrong-role": _row("a conversation with the wrong speakers"),
    "tool-call": _row("a conversation with tool calls"),
    "template-refuses": _row("the chat template of the base refuses the conversation"),
    "empty-text": _row("an empty text"),
    "same-answers": _row("the two answers are the same"),
    "no-judgement": _row("answers without a judgement, or one that names neither"),
    "id-conflict": Kind("one id for different records", "fix the ids, or --ignore id"),
    "bad-row": _row("a row that cannot be read"),
    "set-aside": Kind("answers marked as bad are not imitated", "nothing, if that is meant", "note"),
    "unused-column": Kind("columns that are not read", "nothing, if they hold no text of the prompt", "note"),
    # Texts
    "speaker-mark": Kind("a speaker's mark is left in a text", "split the turns into messages, or remove the mark"),
    "prompt-repeated": Kind("the answer repeats the prompt", "remove the prompt from the answer"),
    "special-token": Kind("text that looks like a special token", "remove it: the template adds special tokens itself"),
    "html": Kind("HTML tags or entities", "convert to plain text (html.unescape)"),
    "mojibake": Kind("UTF-8 that was read as Latin-1", "convert the source again, or repair the texts with ftfy"),
    "replacement-character": Kind("characters that were lost (U+FFFD)", "read the source in its right encoding"),
    "control-character": Kind("invisible control characters", "remove them; --fix does"),
    "outer-whitespace": Kind("blanks around an answer, which would be trained", "strip them; --fix does"),
    "repetition": Kind("an answer repeats itself", "leave the rows out"),
    "placeholder": Kind("a placeholder instead of an answer", "leave the rows out"),
    "echo": Kind("the answer is the prompt", "leave the rows out"),
    "cut-off": Kind("an answer ends in the middle of a sentence", "complete the answers, or leave the rows out"),
    "refusal": Kind("the answer to imitate is a refusal", "keep them only if the model should refuse"),
    "other-language": Kind("texts in another language than the rest", "leave them out, or add more of that language"),
    # Lengths
    "too-long": Kind("longer than the limit", "a larger limit (--max-length), or shorter texts"),
    "unknown-characters": Kind("characters without a token", "replace them, or take a byte-level base"),
    # Repeats and leakage
    "exact-duplicate": Kind("rows that repeat an earlier one", "leave them out; --fix does"),
    "near-duplicate": Kind(
        "rows that nearly repeat another one", "leave them out, or keep them on one side of a split"
    ),
    "leaked-row": Kind("rows that are also in another split", "leave them out of training; --fix does"),
    "leaked-prompt": Kind("prompts that are also in another split", "leave them out of training; --fix does"),
    "leaked-near": Kind("near duplicates of rows in another split", "leave them out of training; --fix does"),
    # Labels
    "contradiction": Kind("the same row with opposite labels", "judge them again; --fix leaves them out"),
    "label-variants": Kind("labels that differ only in case or blanks", "write each label in one way"),
    "rare-label": Kind("a label with few texts", "add texts, or merge the label with another"),
    "imbalance": Kind("one label has most of the texts", "report macro F1; train.class_weights=balanced"),
    "label-in-text": Kind("the label is written in the text", "remove it: the model would only copy it"),
    "label-error": Kind("labels that are probably wrong", "look at them, worst first"),
    "length-bias": Kind("the length tells the label", "add examples against the bias, or control for length"),
    "position-bias": Kind("the position tells the judgement", "judge again with the sides swapped"),
    "preference-cycle": Kind("A over B, B over C, and C over A", "judge them again; --fix leaves them out"),
    "noisy-labels": Kind("annotators disagree often", "better guidelines, or more judgements per pair"),
}
"""Kind → its title and remedy. docs/validate.md lists them with their measured recall and precision."""


@dataclass(frozen=True)
class Spot:
    """One row of a finding."""

    place: str
    """File and line."""
    text: str = ""
    """What is wrong there."""
    remedy: str = ""
    """What the reader says to do, if it says something else than the kind."""


@dataclass(frozen=True)
class Finding:
    """All rows of one kind in one file, or something that is true of the whole file."""

    kind: str
    """A key of `KINDS`."""
    file: str
    message: str
    spots: tuple[Spot, ...] = ()
    """The rows; empty: the whole file."""

    @property
    def level(self) -> Level:
        """How bad it is."""
        return KINDS[self.kind].level

    @property
    def remedy(self) -> str:
        """What to do."""
        own = {spot.remedy for spot in self.spots if spot.remedy}
        return own.pop() if len(own) == 1 else KINDS[self.kind].remedy


def rows_finding(kind: str, file: str, spots: Sequence[Spot], total: int, what: str = "rows") -> list[Finding]:
    """A finding about some rows of a file; none if there are no such rows."""
    if not spots:
        return []
    counted = f"{len(spots):,} of {total:,} {what}"
    return [Finding(kind, file, f"{KINDS[kind].title}: {counted}", tuple(spots))]


def exit_code(findings: Sequence[Finding]) -> int:
    """0 nothing but notes, 1 findings, 2 a file that the phase refuses."""
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if "warning" in levels else 0
