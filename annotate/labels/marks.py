"""Reasons and marked passages of several judgements, as fields of one preference record."""

import json
from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict

from annotate.store.statements import CurrentJudgement
from workbench.data.records import Span

Side = Literal["chosen", "rejected"]


class Marks(TypedDict):
    """Two fields of a preference record."""

    reasons: tuple[str, ...]
    spans: tuple[Span, ...]


def marks_of(judgements: Iterable[CurrentJudgement], sides: Mapping[int, Side]) -> Marks:
    """What these judgements say of two answers.

    Args:
        judgements: of the annotators whose judgements are in the record.
        sides: position of an answer in its item -> its side in the record; other answers are left out.
    """
    reasons: list[str] = []
    spans: list[Span] = []
    for judgement in judgements:
        reasons += json.loads(judgement.reasons or "[]")
        for span in json.loads(judgement.spans or "[]"):
            if span["answer"] in sides:
                spans.append(Span(**{**span, "answer": sides[span["answer"]]}))
    return Marks(
        reasons=tuple(sorted(reasons)),
        spans=tuple(sorted(spans, key=lambda span: (span.answer, span.start, span.end, span.label))),
    )
