"""From an example to the record of one purpose: a demonstration, preferences, an item to label, or answers to score.

Each function refuses an example that its purpose cannot use; the remedy names the command that can.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example, Vote
from workbench.data.forms.fields import SetAside, empty_row, not_blank
from workbench.data.forms.judgements import RATINGS
from workbench.data.forms.own import own_record, record_of
from workbench.data.hashing import unit_hash
from workbench.data.records import (
    Demonstration,
    Item,
    ItemLabel,
    LabelledItem,
    LabelsOf,
    Message,
    Preference,
    Prompt,
    RatedAnswer,
    content_id,
    prompt_id,
)


def _id_of(row: Row, otherwise: str) -> str:
    """The id that a row gives, or else the other one."""
    given = row.fields.get("id")
    return str(given) if isinstance(given, str | int) and str(given) else otherwise


def to_prompt(row: Row, example: Example) -> Prompt:
    """The prompt of a row."""
    return record_of(row, Prompt, {"id": _id_of(row, prompt_id(example.prompt)), "prompt": example.prompt})


def to_demonstration(row: Row, example: Example) -> Demonstration:
    """One answer to imitate.

    Raises:
        SetAside: the answer is marked as bad.
        WorkbenchError: the row has several answers, or a rated one.
    """
    if len(example.responses) != 1:
        raise row.fail(
            f"{len(example.responses)} answers to one prompt, and only one can be imitated",
            expected="a prompt with one response",
            remedy="reward and contrastive training read pairs, `annotate load` reads answers to compare; for sft keep "
            "the better answer in a column 'response'",
        )
    if example.ratings:
        unread = ", ".join(name for name in RATINGS if name in row.fields)
        raise row.fail(
            f"the answer is rated ({example.ratings[0]:g}), and sft would imitate good and bad ones alike",
            expected="answers worth imitating",
            remedy="reward reads the ratings as pairs; for sft keep the rows with a good rating and skip the column: "
            f"data.ignore=[{unread}]",
        )
    if example.good is False:
        raise SetAside(row.place, "marked as a bad answer")
    return _demonstration(row, example)


def _demonstration(row: Row, example: Example) -> Demonstration:
    name, (response,) = _id_of(row, prompt_id(example.prompt)), example.responses
    return record_of(row, Demonstration, {"id": name, "prompt": example.prompt, "response": response})


class Judged(NamedTuple):
    """One answer with its rating or mark."""

    row: Row
    example: Example
    text: str
    worth: float
    run: str = ""


def to_preferences(row: Row, example: Example) -> list[Preference] | Judged:
    """The pairs of a row with several answers; a row with one answer is paired later, by `pairs_of_answers`.

    Raises:
        WorkbenchError: nobody judged the answers; the better one is empty; or all are the same.
    """
    if len(example.responses) > 1:
        return _pairs(row, example)
    if _worth(example) is None:
        raise row.fail(
            "one answer, and nobody's judgement of it",
            expected="a chosen and a rejected answer, or answers that are rated",
            remedy="sft reads a prompt with one answer",
        )
    return _judged(row, example)


def pairs_of_answers(answers: Sequence[Judged]) -> tuple[list[tuple[Row, Preference]], int]:
    """Pairs of answers to one prompt from different rows, and the number of answers without another one."""
    groups = _by_prompt(answers)
    pairs = [
        (first.row, _pair_of(first, second))
        for group in groups
        for first, second in combinations(group, 2)
        if first.text != second.text and first.worth != second.worth
    ]
    return pairs, sum(len(group) == 1 for group in groups)


def _by_prompt(answers: Sequence[Judged]) -> list[list[Judged]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for answer in answers:
        groups[prompt_id(answer.example.prompt)].append(answer)
    return list(groups.values())


def _pairs(row: Row, example: Example) -> list[Preference]:
    if isinstance(example.record, Preference):
        return [example.record]
    if len(example.responses) == 2 and example.strength is not None and example.record is None:
        first, second = example.responses
        name = _id_of(row, "")
        return [_preference(row, example, (first, second), example.strength, example.runs, name=name)]
    if not example.ratings:
        raise row.fail(
            "answers to compare, and nobody's judgement of them",
            expected="chosen and rejected, or a column such as 'winner' that names the better answer",
            remedy="`annotate load` reads them to have them judged",
        )
    runs = example.runs or ("",) * len(example.responses)
    answers = [Judged(row, example, *answer) for answer in zip(example.responses, example.ratings, runs, strict=True)]
    pairs = [_pair_of(first, second) for first, second in combinations(answers, 2) if first.text != second.text]
    if not pairs:
        raise empty_row(row, "all answers are the same", "different responses")
    return pairs


def _pair_of(first: Judged, second: Judged) -> Preference:
    """Two answers with different texts; equal worth is a tie."""
    sign = float((first.worth > second.worth) - (first.worth < second.worth))
    return _preference(first.row, first.example, (first.text, second.text), sign, (first.run, second.run))


def _preference(
    row: Row, example: Example, texts: tuple[str, str], strength: float, runs: Sequence[str], *, name: str = ""
) -> Preference:
    """A pair with the better answer as `chosen`; a tie keeps the order of the row."""
    (chosen, rejected), (chosen_run, rejected_run) = texts, tuple(runs) or ("", "")
    if strength < 0:
        chosen, rejected, chosen_run, rejected_run = rejected, chosen, rejected_run, chosen_run
    not_blank(row, "chosen", chosen)
    if chosen == rejected:
        raise empty_row(row, f"'chosen' and 'rejected' are the same: {chosen[:60]!r}", "two different responses")
    prompt, group = prompt_id(example.prompt), row.fields.get("group")
    values = {
        "id": name or content_id([prompt, chosen, rejected]),
        "group": group if isinstance(group, str) and group else prompt,
        "prompt": example.prompt,
        "chosen": (Message(role="assistant", content=chosen),),
        "rejected": (Message(role="assistant", content=rejected),),
        "strength": min(3.0, abs(strength)),
        "annotators": example.annotators,
        "agreement": example.agreement,
        "category": _category(row),
        "chosen_run": chosen_run,
        "rejected_run": rejected_run,
    }
    return record_of(row, Preference, values)


def _category(row: Row) -> str:
    given = (row.fields.get(name) for name in CATEGORIES)
    return next((value.strip() for value in given if isinstance(value, str) and value.strip()), "")


GOOD, BAD = math.inf, -math.inf
"""The worth of answers that are marked, not rated: beyond every rating."""


def to_rated(row: Row, example: Example) -> list[Judged]:
    """Each answer of a row with its mark (`GOOD`, `BAD`) or its rating; none if the row says nothing of either answer.

    Of a pair the better answer counts as good and the other as bad; of two that are both bad, both. Another tie says
    nothing.

    Raises:
        WorkbenchError: nobody judged the answers.
    """
    texts, record = example.responses, example.record
    if isinstance(record, Preference):
        texts = (record.chosen_text, record.rejected_text)
        worths = _marks(record.strength)
    elif len(texts) == 1 and example.good is not None:
        worths = (GOOD if example.good else BAD,)
    elif len(texts) == 2 and example.strength is not None:
        worths = (BAD, BAD) if example.both_bad else _marks(example.strength)
    else:
        worths = example.ratings
        if not worths:
            raise row.fail(
                "an answer, and nobody's judgement of it",
                expected="label: true or false, a rating, or a chosen and a rejected answer",
                remedy="sft reads a prompt with one answer",
            )
    return [Judged(row, example, text, worth) for text, worth in zip(texts, worths, strict=bool(worths))]


def _marks(strength: float) -> tuple[float, ...]:
    """The marks of two answers, the first one better if `strength` is above 0."""
    return () if strength == 0 else (GOOD, BAD) if strength > 0 else (BAD, GOOD)


def rated_answer(judged: Judged, *, above: float) -> RatedAnswer:
    """The record of one answer, which is good if its worth exceeds a limit."""
    row, example, record = judged.row, judged.example, judged.example.record
    if isinstance(record, RatedAnswer):
        return record
    prompt, group = prompt_id(example.prompt), row.fields.get("group")
    values: dict[str, Any] = {"group": group if isinstance(group, str) and group else prompt}
    if isinstance(record, Preference):
        values = {"group": record.group, "weight": record.weight, "split": record.split}
    content = {"prompt": example.prompt, "response": judged.text, "desirable": judged.worth > above}
    return record_of(row, RatedAnswer, {"id": content_id([prompt, judged.text]), **content, **values})


def to_item(row: Row, example: Example) -> LabelledItem | Judged:
    """Answers to label; a row with one rated answer is joined with others later, by `items_of_answers`.

    Raises:
        WorkbenchError: fewer than two answers, or a pair that is judged already.
    """
    if example.about:
        raise row.fail(
            f"a judgement of item {example.about!r}, without texts",
            expected="the texts of items",
            remedy="load the items first, then this file with --labels-by NAME",
        )
    if example.best_first or isinstance(example.record, Preference):
        raise row.fail(
            "a pair that is judged already",
            expected="two or more answers to a prompt",
            remedy="load preferences with --labels-by NAME (with their labels), --relabel (to have them judged again) "
            "or --gold (to test annotators)",
        )
    if len(example.responses) == 1 and _worth(example) is not None:
        return _judged(row, example)
    return LabelledItem(item=_item_of(row, example))


def to_labelled_item(row: Row, example: Example) -> LabelledItem | LabelsOf | Judged:
    """Answers with the judgements of them, if the row has any.

    Raises:
        WorkbenchError: one answer that nobody judged.
    """
    if example.about:
        return LabelsOf(id=example.about, labels=_labels_of_pair(example, turned=False))
    if len(example.responses) == 1 and _worth(example) is not None:
        return _judged(row, example)
    if isinstance(example.record, Item):
        return LabelledItem(item=example.record)
    if isinstance(example.record, Preference):
        example = replace(example, best_first=True, record=None)
    item = _item_of(row, example)
    if len(example.responses) == 2 and example.strength is not None:
        # Such a file shows the better answer first, which must not show here.
        turned = example.best_first and unit_hash(0, "labelled", item.id) < 0.5
        if turned:
            item = item.model_copy(update={"responses": item.responses[::-1]})
        return LabelledItem(item=item, labels=_labels_of_pair(example, turned=turned))
    return LabelledItem(item=item, labels=_label_of_ratings(example.ratings))


def _worth(example: Example) -> float | None:
    """The mark or rating of one answer."""
    worth = example.good if example.good is not None else next(iter(example.ratings), None)
    return None if worth is None else float(worth)


def _judged(row: Row, example: Example) -> Judged:
    worth = _worth(example)
    assert worth is not None
    return Judged(row, example, example.responses[0], worth, next(iter(example.runs), ""))


def _labels_of_pair(example: Example, *, turned: bool) -> tuple[ItemLabel, ...]:
    """The judgements of two answers, in the order of the item: negative if its first answer is better."""
    votes = example.votes or (Vote(example.strength or 0.0, both_bad=example.both_bad),)
    sign = 1 if turned else -1
    return tuple(
        ItemLabel(
            annotator=vote.annotator,
            strength=None if vote.both_bad else sign * _size(vote.strength),
            both_bad=vote.both_bad,
            comment=vote.comment,
        )
        for vote in votes
    )


def _size(strength: float) -> int:
    """A strength as an item has it: whole, at most 3, and not 0 unless it is a tie."""
    size = min(3, max(1, round(abs(strength)))) if strength else 0
    return size if strength > 0 else -size


def _label_of_ratings(ratings: Sequence[float]) -> tuple[ItemLabel, ...]:
    if not ratings:
        return ()
    if len(ratings) == 2:
        first, second = ratings
        return (ItemLabel(strength=(second > first) - (second < first)),)
    return (ItemLabel(ranking=tuple(1 + sum(other > own for other in ratings) for own in ratings)),)


class AnswersByPrompt(NamedTuple):
    """Items made of answers in different rows."""

    items: list[tuple[Row, LabelledItem]]
    alone: int
    """Rows whose prompt has no other answer."""
    repeated: int
    """Rows whose answer an earlier row gives to the same prompt; their ratings are left out."""


def items_of_answers(answers: Sequence[Judged]) -> AnswersByPrompt:
    """Items of the answers that different rows give to one prompt."""
    made: list[tuple[Row, LabelledItem]] = []
    alone = repeated = 0
    for group in _by_prompt(answers):
        distinct = list({answer.text: answer for answer in reversed(group)}.values())[::-1]
        if len(distinct) < 2:
            alone += len(group)
            continue
        repeated += len(group) - len(distinct)
        row, example = distinct[0].row, distinct[0].example
        together = Example(
            example.prompt,
            tuple(answer.text for answer in distinct),
            ratings=tuple(answer.worth for answer in distinct),
            runs=tuple(answer.run for answer in distinct),
        )
        item = _item_of(Row(row.place, {}), together)
        made.append((row, LabelledItem(item=item, labels=_label_of_ratings(together.ratings))))
    return AnswersByPrompt(made, alone, repeated)


def _item_of(row: Row, example: Example) -> Item:
    if isinstance(example.record, Item):
        return example.record
    if len(example.responses) < 2:
        raise row.fail(
            "one answer, and nothing to compare it with",
            expected="two or more answers to a prompt",
            remedy="give each row a prompt with response_a and response_b, or a list of responses",
        )
    runs = example.runs or ("",) * len(example.responses)
    fields: dict[str, Any] = {
        **example.own,
        "id": _id_of(row, content_id([prompt_id(example.prompt), *example.responses])),
        "group": str(example.own.get("group") or prompt_id(example.prompt)),
        "prompt": example.prompt,
        "responses": tuple(
            {"id": str(number), "text": text, "run": run}
            for number, (text, run) in enumerate(zip(example.responses, runs, strict=True))
        ),
    }
    return own_record(Row(row.place, fields), Item)


def to_scored(row: Row, example: Example) -> Preference | Item | Demonstration:
    """What a reward model scores: a pair, answers to compare, or one answer, whatever its label or rating."""
    if example.record is not None:
        return example.record
    if len(example.responses) == 1:
        return _demonstration(row, example)
    if len(example.responses) == 2 and example.strength is not None:
        return _pairs(row, example)[0]
    return _item_of(row, example)
