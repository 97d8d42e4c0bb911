"""Token lengths against a limit, and examples exactly as they are trained, with the base's own tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from workbench.data.batching import LossOn, encode_demonstrations, encode_pairs, encode_prompts
from workbench.data.records import LabelledItem
from workbench.data.refusals import refusals
from workbench.data.tokenise import (
    encode_prompt,
    encode_rows,
    encode_text,
    knows_all_characters,
    render,
    unknown_characters,
)
from workbench.run.errors import WorkbenchError
from workbench.validate.entries import Entry
from workbench.validate.findings import Finding, Spot, rows_finding
from workbench.validate.reading import heard

AnyT = TypeVar("AnyT")


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of an example that are treated in the same way."""

    text: str
    kind: str
    """`special`, `loss` (in the loss, or the token that is scored) or `context`."""


@dataclass(frozen=True)
class Shown:
    """One row as the trainer gets it."""

    place: str
    title: str
    pieces: tuple[Piece, ...]
    tokens: int
    marked: int
    """Tokens in the loss, or scored."""


@dataclass(frozen=True)
class TokenReport:
    """What the tokenizer makes of one file."""

    path: str
    base: str
    limit: int
    positions: int
    lengths: tuple[int, ...]
    """Tokens of each row, before anything is cut or left out."""
    summary: str
    examples: tuple[Shown, ...]


def check_tokens(
    path: str, entries: Sequence[Entry], tokenizer: Any, base: str, *, limit: int, loss_on: LossOn
) -> tuple[list[Finding], TokenReport | None]:
    """Findings about lengths, characters and the chat template; lengths and examples.

    Args:
        path: of the file.
        entries: of one purpose.
        tokenizer: of the base, with its frozen template.
        base: its name.
        limit: most tokens of a row.
        loss_on: the assistant turns in the loss of supervised tuning.
    """
    prompted = [entry for entry in entries if entry.prompt]
    refused = refusals(partial(render, tokenizer), [_asked(entry) for entry in prompted])
    spots = [Spot(prompted[index].place, reason) for index, reason in refused.items()]
    found = rows_finding("template-refuses", path, spots, len(entries))
    unfit = {id(prompted[index]) for index in refused}
    taken = [entry for entry in entries if id(entry) not in unfit]
    if not taken:
        return found, None
    lengths = [_length(tokenizer, entry) for entry in taken]
    cut = "cut to" if not taken[0].prompt else "left out, longer than"
    spots = [Spot(e.place, f"{n:,} tokens") for e, n in zip(taken, lengths, strict=True) if n > limit]
    lost = sum(max(0, n - limit) if not taken[0].prompt else n for n in lengths if n > limit)
    found += rows_finding("too-long", path, spots, len(entries))
    found += _unknown(path, taken, tokenizer)
    longest, total = max(lengths), sum(lengths)
    summary = (
        f"{total:,} tokens in {len(lengths):,} rows: "
        f"median {sorted(lengths)[len(lengths) // 2]:,}, longest {longest:,}; "
        f"{len(spots):,} rows are {cut} {limit:,} tokens, which loses {lost:,} tokens ({lost / total:.1%})"
    )
    refusal, examples = _as_trained(path, taken, tokenizer, limit, loss_on)
    found += refusal
    positions = int(tokenizer.model_max_length)
    return found, TokenReport(path, base, limit, positions, tuple(lengths), summary, tuple(examples))


def _asked(entry: Entry) -> Any:
    """The record whose conversation the template renders."""
    return entry.record.item if isinstance(entry.record, LabelledItem) else entry.record


def _length(tokenizer: Any, entry: Entry) -> int:
    if not entry.prompt:
        return len(encode_text(tokenizer, entry.answers[0]))
    if not entry.answers:
        return len(encode_prompt(tokenizer, _asked(entry).prompt))
    return max(map(len, encode_rows(tokenizer, _asked(entry).prompt, *entry.answers)))


def _unknown(path: str, entries: Sequence[Entry], tokenizer: Any) -> list[Finding]:
    if knows_all_characters(tokenizer):
        return []
    spots = []
    for entry in entries:
        characters = unknown_characters(tokenizer, [entry.prompt, *entry.answers])
        if characters:
            spots.append(Spot(entry.place, " ".join(map(repr, list(characters)[:10]))))
    return rows_finding("unknown-characters", path, spots, len(entries))


def _as_trained(
    path: str, entries: Sequence[Entry], tokenizer: Any, limit: int, loss_on: LossOn
) -> tuple[list[Finding], list[Shown]]:
    """The refusal of the phase's encoder, if it refuses, and the rows of the first, middle and last record it keeps."""

    def shown(entry: Entry, title: str, ids: Sequence[int], mask: Sequence[int]) -> Shown:
        return Shown(entry.place, title, _pieces(tokenizer, ids, mask), len(ids), sum(mask))

    def scored(ids: Sequence[int]) -> list[int]:
        return [0] * (len(ids) - 1) + [1]

    if not entries[0].prompt or isinstance(entries[0].record, LabelledItem):
        made = []
        for entry in _three(entries):
            if entry.prompt:
                answers = encode_rows(tokenizer, _asked(entry).prompt, *entry.answers)
                made += [shown(entry, f"answer {n}", ids, [0] * len(ids)) for n, ids in enumerate(answers, start=1)]
            else:
                ids = encode_text(tokenizer, entry.answers[0])
                made.append(shown(entry, f"text of {', '.join(entry.labels) or 'no label'}", ids, scored(ids)))
        return [], made
    records = [entry.record for entry in entries]
    encode: Any = {"Preference": encode_pairs, "Demonstration": partial(encode_demonstrations, loss_on=loss_on)}.get(
        type(records[0]).__name__, encode_prompts
    )
    try:
        with heard():
            encoded = encode(tokenizer, records, max_length=limit, source=path)
    except WorkbenchError as error:
        spot = Spot(error.place, error.problem, error.remedy or "")
        return [Finding("refused", path, error.problem, (spot,))], []
    made = []
    for index, row in _three(list(zip(encoded.kept, encoded.rows, strict=True))):
        entry = entries[index]
        if "input_ids" in row:
            made.append(shown(entry, "demonstration", row["input_ids"], row["completion_mask"]))
        elif "prompt_ids" in row:
            made.append(shown(entry, "prompt", row["prompt_ids"], [0] * len(row["prompt_ids"])))
        else:
            made += [
                shown(entry, name, row[f"{name}_ids"], scored(row[f"{name}_ids"])) for name in ("chosen", "rejected")
            ]
    return [], made


def _three(values: Sequence[AnyT]) -> list[AnyT]:
    """The first, the middle and the last."""
    return [values[index] for index in sorted({0, len(values) // 2, len(values) - 1})] if values else []


def _pieces(tokenizer: Any, ids: Sequence[int], mask: Sequence[int]) -> tuple[Piece, ...]:
    """The tokens as text; consecutive ones of one kind are joined, special ones stay single."""
    special = {*tokenizer.all_special_ids}
    pieces: list[Piece] = []
    start, done = 0, ""
    for end in range(1, len(ids) + 1):
        kind = _kind(ids[end - 1], mask[end - 1], special)
        if end < len(ids) and _kind(ids[end], mask[end], special) == kind and kind != "special":
            continue
        text = str(tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        own = text[len(done) :] if text.startswith(done) else str(tokenizer.decode(list(ids[start:end])))
        pieces.append(Piece(own, "special loss" if kind == "special" and mask[end - 1] else kind))
        start, done = end, text
    return tuple(pieces)


def _kind(token: int, in_loss: int, special: set[int]) -> str:
    return "special" if token in special else "loss" if in_loss else "context"


def open_tokenizer(base: str) -> Any:
    """The tokenizer as every phase loads it; this imports torch.

    Raises:
        WorkbenchError: no such base, or one that the phases do not support.
    """
    from workbench.model.base import load_tokenizer

    return load_tokenizer(base)
