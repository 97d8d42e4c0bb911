"""From an example to the record of one purpose: a demonstration, preferences, an item to label, or answers to score.

Each function refuses an example that its purpose cannot use; the remedy names the command that can.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example
from workbench.data.forms.fields import SetAside, empty_row, not_blank
from workbench.data.forms.judgements import RATINGS
from workbench.data.forms.own import own_record, record_of
from workbench.data.records import Demonstration, Item, Message, Preference, Prompt, content_id, prompt_id


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
    worth = example.good if example.good is not None else next(iter(example.ratings), None)
    if worth is None:
        raise row.fail(
            "one answer, and nobody's judgement of it",
            expected="a chosen and a rejected answer, or answers that are rated",
            remedy="sft reads a prompt with one answer",
        )
    return Judged(row, example, example.responses[0], float(worth))


def pairs_of_answers(answers: Sequence[Judged]) -> tuple[list[tuple[Row, Preference]], int]:
    """Pairs of answers to one prompt from different rows, and the number of answers without another one."""
    groups: dict[str, list[Judged]] = defaultdict(list)
    for answer in answers:
        groups[prompt_id(answer.example.prompt)].append(answer)
    pairs = [
        (first.row, _pair_of(first, second))
        for group in groups.values()
        for first, second in combinations(group, 2)
        if first.text != second.text and first.worth != second.worth
    ]
    return pairs, sum(len(group) == 1 for group in groups.values())


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


def to_item(row: Row, example: Example) -> Item:
    """Answers to label, without earlier judgements of them.

    Raises:
        WorkbenchError: fewer than two answers, or a pair, which is judged already.
    """
    if isinstance(example.record, Item):
        return example.record
    if len(example.responses) < 2:
        raise row.fail(
            "one answer, and nothing to compare it with",
            expected="two or more answers to a prompt",
            remedy="give each row a prompt with response_a and response_b, or a list of responses",
        )
    if example.record is not None or "rejected" in row.fields:
        raise row.fail(
            "a pair that is judged already",
            expected="two or more answers to a prompt",
            remedy="load preferences with --relabel (to have them judged again) or --gold (to test annotators)",
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
    return to_item(row, example)
