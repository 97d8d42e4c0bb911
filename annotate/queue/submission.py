"""What a submission may contain, and its conversion from the order of the display to the item's own order."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from annotate.config import MOST_REASONS, Flag
from annotate.store.statements import Assignment

Choice = Literal["compared", "ranked", "both_bad", "skipped"]
CHOICES: tuple[str, ...] = get_args(Choice)
FLAGS: tuple[str, ...] = get_args(Flag)

MOST_EDITED_CHARACTERS = 50_000
MOST_COMMENT_CHARACTERS = 5_000
MOST_REASON_CHARACTERS = 500
MOST_DIMENSIONS = 16
MOST_SPANS = 200


class Refused(Exception):
    """A submission that is not accepted: not this annotator's item, or a value out of range.

    `why` is a key: the page's texts hold the sentence for it (`refused.…`), which the values are inserted into.
    """

    def __init__(self, why: str, **values: object) -> None:
        self.why, self.values = why, values
        super().__init__(why + "".join(f", {name} {value}" for name, value in values.items()))


@dataclass(frozen=True)
class Span:
    """A passage of an answer that an annotator marked."""

    answer: int
    """Index of the answer."""
    start: int
    """First character, in code points of the answer's exact text."""
    end: int
    """Character after the last one."""
    label: Annotated[str, Field(max_length=50_000)]
    """One of the reasons that the page offers."""


@dataclass(frozen=True)
class Submission:
    """A judgement as the annotator gave it: everything in the order in which the answers were shown."""

    item: int
    """Key of the item in the store (`Card.item`)."""
    choice: Choice
    client_key: str
    """8 to 64 characters, new for each judgement; sent again, it counts once."""
    strength: int | None = None
    """With `compared`: -3 (left much better) … 0 (equal) … 3 (right much better)."""
    ranking: tuple[int, ...] | None = None
    """With `ranked`: a rank per answer; 1 is best, equal answers share a rank."""
    rubric: Mapping[str, int] | None = None
    """For two answers, by dimension: -3 (left much better) … 3 (right much better)."""
    flag: Flag | None = None
    comment: str | None = None
    reason: str | None = None
    """With `skipped`."""
    edited_text: str | None = None
    """An improved version of the answer at `edited_response`; an unchanged text is not an edit."""
    edited_response: int | None = None
    """Index of the edited answer in the order shown."""
    guidelines_version: str | None = None
    seconds: float | None = None
    """Time that the judgement took."""
    reasons: tuple[str, ...] = ()
    """What speaks for the judgement: some of the reasons that the page offers."""
    spans: tuple[Span, ...] = ()
    """Marked passages; the answers are indexed in the order shown."""
    differences_shown: bool = False
    """Whether the words that only one answer has were marked."""


def check(submission: Submission, answers: int) -> None:
    """Check a submission for an item with this many answers.

    Raises:
        Refused: a value is missing, out of range or does not fit the item.
    """
    check_key(submission.client_key)
    if submission.choice not in CHOICES:
        raise Refused("choice", allowed=", ".join(CHOICES), given=submission.choice)
    _check_strength(submission, answers)
    _check_ranking(submission, answers)
    _check_rubric(submission, answers)
    _check_edit(submission, answers)
    if submission.flag is not None and submission.flag not in FLAGS:
        raise Refused("flag", allowed=", ".join(FLAGS), given=submission.flag)
    if submission.reason and submission.choice != "skipped":
        raise Refused("reason")
    if submission.seconds is not None and not 0 <= submission.seconds < float("inf"):
        raise Refused("seconds", given=submission.seconds)
    _check_text("comment", submission.comment, MOST_COMMENT_CHARACTERS)
    _check_text("reason", submission.reason, MOST_REASON_CHARACTERS)
    _check_text("edited_text", submission.edited_text, MOST_EDITED_CHARACTERS)
    _check_text("guidelines_version", submission.guidelines_version, 64)


def check_key(client_key: str) -> None:
    """Check a client's key.

    Raises:
        Refused: it is too short or too long, or contains characters that cannot be stored.
    """
    if not 8 <= len(client_key) <= 64:
        raise Refused("key")
    _check_text("client_key", client_key, 64)


def _check_strength(submission: Submission, answers: int) -> None:
    strength = submission.strength
    if (submission.choice == "compared") != (strength is not None):
        raise Refused("strength")
    if submission.choice == "compared" and answers != 2:
        raise Refused("rank_them", answers=answers)
    if strength is not None and not -3 <= strength <= 3:
        raise Refused("strength_range", given=strength)


def _check_ranking(submission: Submission, answers: int) -> None:
    ranking = submission.ranking
    if (submission.choice == "ranked") != (ranking is not None):
        raise Refused("ranking")
    if ranking is None:
        return
    if answers == 2:
        raise Refused("compare_them")
    if len(ranking) != answers:
        raise Refused("ranks", given=len(ranking), answers=answers)
    if min(ranking) != 1 or max(ranking) > answers:
        raise Refused("rank_range", answers=answers, given=list(ranking))


def _check_rubric(submission: Submission, answers: int) -> None:
    rubric = submission.rubric
    if not rubric:
        return
    if answers != 2 or submission.choice == "skipped":
        raise Refused("rubric")
    if len(rubric) > MOST_DIMENSIONS:
        raise Refused("dimensions", most=MOST_DIMENSIONS, given=len(rubric))
    for name, value in rubric.items():
        if not 1 <= len(name) <= 64:
            raise Refused("dimension_name")
        if not -3 <= value <= 3:
            raise Refused("dimension_range", name=name, given=value)


def _check_edit(submission: Submission, answers: int) -> None:
    text, index = submission.edited_text, submission.edited_response
    if (text is None) != (index is None):
        raise Refused("edit")
    if index is not None and not 0 <= index < answers:
        raise Refused("edit_place", last=answers - 1, given=index)
    if text is not None and not text.strip():
        raise Refused("edit_empty")


def check_marks(submission: Submission, texts: Sequence[str], offered: Collection[str]) -> None:
    """Check the reasons and spans of a submission.

    Args:
        texts: the answers in the order shown.
        offered: every reason that the page has offered.

    Raises:
        Refused: a label that was never offered, a span outside its answer's text, or a repeated one.
    """
    reasons, spans = submission.reasons, submission.spans
    if len(reasons) > MOST_REASONS or len(spans) > MOST_SPANS:
        raise Refused("marks", reasons=MOST_REASONS, spans=MOST_SPANS)
    if len(set(reasons)) < len(reasons) or len(set(spans)) < len(spans):
        raise Refused("mark_twice")
    for label in (*reasons, *(span.label for span in spans)):
        if label not in offered:
            raise Refused("mark_label", given=label[:64], offered=", ".join(sorted(offered)) or "–")
    for span in spans:
        if not 0 <= span.answer < len(texts):
            raise Refused("span_place", last=len(texts) - 1, given=span.answer)
        if not 0 <= span.start < span.end <= len(texts[span.answer]):
            raise Refused("span_range", length=len(texts[span.answer]), start=span.start, end=span.end)


def _check_text(name: str, text: str | None, most: int) -> None:
    if text is None:
        return
    if len(text) > most:
        raise Refused("long", name=name, most=most, given=len(text))
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Refused("characters", name=name)


def order_of(given: Assignment, answers: int) -> tuple[int, ...]:
    """Positions of the item's answers in the order of the display."""
    if given.display_order is not None:
        return tuple(json.loads(given.display_order))
    return tuple(reversed(range(answers))) if given.swapped else tuple(range(answers))


def in_own_order(submission: Submission, given: Assignment, texts: Sequence[str]) -> dict[str, Any]:
    """The columns of a judgement, converted to the order of the item's answers."""
    order = order_of(given, len(texts))
    sign = -1 if given.swapped else 1
    ranking = None
    if submission.ranking is not None:
        by_position = dict(zip(order, submission.ranking, strict=True))
        ranking = json.dumps([by_position[position] for position in range(len(order))])
    edited = None if submission.edited_response is None else order[submission.edited_response]
    changed = edited is not None and submission.edited_text != texts[edited]
    spans = [asdict(replace(span, answer=order[span.answer])) for span in submission.spans]
    return {
        "choice": submission.choice,
        "strength": None if submission.strength is None else sign * submission.strength,
        "ranking": ranking,
        "rubric": _json({name: sign * value for name, value in (submission.rubric or {}).items()}),
        "flag": submission.flag,
        "comment": submission.comment or None,
        "reason": submission.reason or None,
        "edited_text": submission.edited_text if changed else None,
        "edited_response": edited if changed else None,
        "guidelines_version": submission.guidelines_version,
        "seconds": submission.seconds,
        "swapped": given.swapped,
        "display_order": given.display_order,
        "reasons": _json(submission.reasons),
        "spans": _json(spans),
        "differences_shown": submission.differences_shown,
    }


def as_shown(judgement: Mapping[str, Any], given: Assignment, answers: int) -> dict[str, Any]:
    """A stored judgement as its annotator gave it: `choice`, `strength` and every other field that is set."""
    order = order_of(given, answers)
    sign = -1 if given.swapped else 1
    strength, edited = judgement["strength"], judgement["edited_response"]
    ranking = json.loads(judgement["ranking"]) if judgement["ranking"] else None
    rubric = json.loads(judgement["rubric"]) if judgement["rubric"] else None
    spans = json.loads(judgement["spans"]) if judgement["spans"] else None
    more = {
        "ranking": [ranking[position] for position in order] if ranking else None,
        "rubric": {name: sign * value for name, value in rubric.items()} if rubric else None,
        "edited_text": judgement["edited_text"],
        "edited_response": None if edited is None else order.index(edited),
        "reasons": json.loads(judgement["reasons"]) if judgement["reasons"] else None,
        "spans": [{**span, "answer": order.index(span["answer"])} for span in spans] if spans else None,
        "differences_shown": judgement["differences_shown"] or None,
        **{name: judgement[name] for name in ("flag", "comment", "reason")},
    }
    return {
        "choice": judgement["choice"],
        "strength": None if strength is None else sign * strength,
        **{name: value for name, value in more.items() if value is not None},
    }


def _json(value: Mapping[str, int] | Sequence[object]) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None
