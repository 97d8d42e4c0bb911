"""People's marked passages under the reward model's token shares: `python -m reward explain RUN --spans PAIRS`.

One page shows each marked answer with both, and how far they agree (`reward.verbs.span_agreement`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reward.verbs.explain import Tint, tints
from reward.verbs.explain_tokens import TokenShares, mean_shares, token_shares
from reward.verbs.span_agreement import Agreement, MarkedShares, marked_tokens, measure
from workbench.data.readers import read_preferences
from workbench.data.records import Message, Preference
from workbench.data.rules import RowRules
from workbench.data.tokenise import decode_response, encode_prompt, encode_response
from workbench.evaluate.pages import render_page
from workbench.evaluate.role_models import reward_roles
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder
from workbench.run.progress import progress

TEMPLATE = Path(__file__).parent / "templates/explain_spans.html.jinja"
_SEED = 0


@dataclass(frozen=True)
class MarkedAnswer:
    """An answer with the passages that people marked in it."""

    group: str
    prompt: tuple[Message, ...]
    text: str
    passages: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    """[start, end) in code points -> the labels."""

    def places(self, label: str | None = None) -> list[tuple[int, int]]:
        """The passages with this label; None: all."""
        return [place for place, labels in self.passages.items() if label is None or label in labels]


@dataclass(frozen=True)
class Explained:
    """A marked answer with its shares."""

    answer: MarkedAnswer
    shares: TokenShares
    tokens: list[tuple[Tint, bool]]
    """Each token of the text with its colour, and whether people marked it."""
    ends: list[int]
    """Where each of these tokens ends in the text."""

    def marked(self, label: str | None = None) -> MarkedShares | None:
        """The shares and marks of one label; None if all or none of the tokens are marked."""
        marks = marked_tokens(self.ends, self.answer.places(label))
        values = np.array(self.shares.shares[: len(self.ends)])
        return MarkedShares(self.answer.group, values, marks) if marks.any() and not marks.all() else None


def marked_answers(records: Sequence[Preference]) -> list[MarkedAnswer]:
    """Every answer with a marked passage, once, in order of appearance: pairs may share an answer."""
    found: dict[tuple[tuple[Message, ...], str], MarkedAnswer] = {}
    for record in records:
        for span in record.spans:
            text = record.chosen_text if span.answer == "chosen" else record.rejected_text
            answer = found.setdefault((record.prompt, text), MarkedAnswer(record.group, record.prompt, text))
            labels = answer.passages.setdefault((span.start, span.end), [])
            if span.label not in labels:
                labels.append(span.label)
    return list(found.values())


def token_ends(tokenizer: Any, ids: Sequence[int], text: str) -> list[int] | None:
    """Where each token of a response ends in its text, in code points; None if the tokens do not spell the text.

    A token that ends within a character ends, here, before that character.

    Args:
        ids: of the response, end token last.
    """
    ends = []
    for count in range(1, len(ids)):
        spelt = decode_response(tokenizer, ids[:count])
        common = next(
            (n for n, (a, b) in enumerate(zip(spelt, text, strict=False)) if a != b), min(len(spelt), len(text))
        )
        ends.append(common)
    return ends if ends and ends[-1] == len(text) and ends == sorted(ends) else None


def explain_spans(
    run: Path, pairs: Path, out: Path, *, answers: int, base: str | None = None, rules: RowRules | None = None
) -> str:
    """Write the page; returns the agreement as one line.

    Args:
        run: a finished reward run; for an ensemble the mean score of its members is explained.
        pairs: preference records with `spans`.
        out: page to write.
        answers: marked answers to explain at most, from the start of the file.
        base: where the base is now, if not where the run says.
        rules: how rows of the pairs are read.

    Raises:
        WorkbenchError: the run or the pairs are missing or bad.
    """
    folder = RunFolder.open(run, phase="reward").require_finished()
    every = marked_answers(read_preferences(pairs, rules))
    members = reward_roles(folder.path)
    roles = open_runs(members, base=base)
    taken = progress(every[:answers], description="explaining marked answers", unit="answer")
    made = [_explained(roles, tuple(members), answer) for answer in taken]
    explained = [one for one in made if one is not None]
    found = _agreements(explained)
    page = render_page(
        TEMPLATE,
        run=str(folder.path),
        pairs=str(pairs),
        explained=explained,
        agreements=found,
        total=len(every),
        unplaced=len(made) - len(explained),
    )
    write_text_atomically(out, page)
    return f"{out}: {_summary(found, len(explained), len(made) - len(explained), len(every))}"


def _explained(roles: Roles, members: Sequence[str], answer: MarkedAnswer) -> Explained | None:
    response = encode_response(roles.tokenizer, answer.prompt, answer.text)
    ends = token_ends(roles.tokenizer, response, answer.text)
    if ends is None:
        return None
    prompt = encode_prompt(roles.tokenizer, answer.prompt)
    shares = mean_shares([token_shares(roles, name, prompt, response) for name in members])
    marks = marked_tokens(ends, answer.places())
    return Explained(answer, shares, list(zip(tints(shares)[: len(ends)], marks.tolist(), strict=True)), ends)


def _agreements(explained: Sequence[Explained]) -> dict[str, Agreement]:
    """The agreement on all passages (under an empty name), then by label."""
    labels = sorted({label for one in explained for own in one.answer.passages.values() for label in own})
    found = {}
    for name, label in (("", None), *((label, label) for label in labels)):
        measured = [marked for one in explained if (marked := one.marked(label)) is not None]
        if measured:
            found[name] = measure(measured, seed=_SEED)
    return found


def _summary(found: dict[str, Agreement], explained: int, unplaced: int, total: int) -> str:
    counts = f"{explained:,} of {total:,} marked answers"
    if unplaced:
        counts += f" ({unplaced:,} left out: their tokens do not spell their text)"
    if "" not in found:
        return f"{counts}; no answer has both marked and unmarked tokens"
    auc, control = found[""].auc, found[""].control
    return (
        f"{counts}; a marked token adds less to the score than another with probability {auc.mean:.2f} "
        f"({auc.low:.2f} to {auc.high:.2f}); with shifted marks {control[0]:.2f} ({control[1]:.2f} to {control[2]:.2f})"
    )
