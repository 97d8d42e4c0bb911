"""Exports of other labelling tools: Argilla, Label Studio and Potato.

A task holds a prompt, two answers, and one judgement per annotator; the majority decides. Potato's export holds
judgements alone, each with the id of an item in Potato's data file.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import Example, Form, PromptColumns, Vote
from workbench.data.forms.fields import Messages, answer_of, number_of, short
from workbench.data.forms.judgements import TIES, calls_both_bad, side_of

_PAIRS = tuple(
    (f"{name}{first}", f"{name}{second}")
    for name in ("response", "answer", "output", "completion", "text", "generation")
    for first, second in (("1", "2"), ("_1", "_2"), ("_a", "_b"), ("-1", "-2"))
)
HOW = "docs/data.md (labels of other tools) lists the exports that are read"


def label_studio(prompts: Sequence[PromptColumns]) -> Form:
    """A Label Studio task; `prompts` are the columns that may hold its prompt."""
    return _form(("data", "annotations"), _label_studio_votes, prompts, may_have=("id",))


def argilla(prompts: Sequence[PromptColumns]) -> Form:
    """An Argilla record; `prompts` are the columns that may hold its prompt."""
    return _form(("fields",), _argilla_votes, prompts, may_have=("id", "responses"))


def _form(
    needs: tuple[str, ...],
    votes: Callable[[Row, tuple[str, str]], list[Vote]],
    prompts: Sequence[PromptColumns],
    may_have: tuple[str, ...],
) -> Form:
    """The form of a task whose fields are in the first needed column.

    Args:
        needs: the columns of the export.
        votes: row, and the names of its two answers → its judgements.
        prompts: the columns that may hold the prompt.
        may_have: further columns that `votes` reads.
    """
    name = needs[0]

    def example(row: Row) -> Example:
        task, columns = _task(row, name)
        return _majority(_prompt(task, prompts), [answer_of(task, column) for column in columns], votes(row, columns))

    return Form(
        needs,
        when=lambda row: isinstance(row.fields[name], Mapping),
        prompt=lambda row: _prompt(_task(row, name)[0], prompts),
        example=example,
        may_have=may_have,
    )


def _task(row: Row, name: str) -> tuple[Row, tuple[str, str]]:
    """The fields of a task as a row, and its two columns of answers."""
    fields = {str(key).lower(): value for key, value in row.fields[name].items() if value is not None}
    columns = next((pair for pair in _PAIRS if fields.keys() >= set(pair)), None)
    if columns is None:
        raise row.fail(
            f"no two answers among the fields of the task: {', '.join(map(str, row.fields[name]))}",
            expected="prompt, response1, response2 (or answer1, answer2)",
            remedy=f"make items (prompt, response_a, response_b) or pairs (prompt, chosen, rejected) of them; {HOW}",
        )
    return Row(row.place, fields), columns


def _prompt(task: Row, prompts: Sequence[PromptColumns]) -> Messages:
    columns = next((c for c in prompts if task.fields.keys() >= set(c.needs) and c.when(task)), None)
    if columns is None:
        raise task.fail(
            f"no prompt among the fields of the task: {', '.join(task.fields)}", expected="prompt", remedy=HOW
        )
    return columns.read(task)


def _majority(prompt: Messages, answers: Sequence[str], votes: Sequence[Vote]) -> Example:
    """A task with the judgement of the majority of its annotators; an even split is a tie."""
    if not votes:
        return Example(prompt, tuple(answers))
    total = sum(vote.strength for vote in votes)
    side = float((total > 0) - (total < 0))
    agreement = sum(1.0 if v.strength == side else 0.5 if v.strength == 0 else 0.0 for v in votes) / len(votes)
    return Example(
        prompt,
        tuple(answers),
        side,
        votes=tuple(votes),
        annotators=tuple(dict.fromkeys(vote.annotator for vote in votes if vote.annotator)),
        agreement=agreement if len(votes) > 1 else None,
    )


def _sides(columns: tuple[str, str]) -> tuple[set[str], set[str]]:
    """The names that each of the two answers may have in a judgement."""
    first, second = (
        {column, column.replace("-", "_"), nth, side, letter}
        for column, nth, side, letter in zip(columns, ("1", "2"), ("left", "right"), ("a", "b"), strict=True)
    )
    return first, second


def _argilla_votes(row: Row, columns: tuple[str, str]) -> list[Vote]:
    names = _sides(columns)
    return [Vote(_side(row, value, names), who, calls_both_bad(value)) for value, who in _argilla_answers(row)]


def _argilla_answers(row: Row) -> list[tuple[Any, str]]:
    """The submitted values of the preference question, each with its annotator; in both notations of Argilla."""
    responses = row.fields.get("responses") or {}
    if isinstance(responses, Mapping):  # Argilla 2: question → answers
        given = [(name, entry) for name, entries in responses.items() for entry in _objects(row, str(name), entries)]
    else:  # Argilla 1: one entry per annotator, with the values of all questions
        given = [
            (name, {**entry, "value": value.get("value") if isinstance(value, Mapping) else value})
            for entry in _objects(row, "responses", responses)
            for name, value in _object(row, "values", entry.get("values")).items()
        ]
    questions = {name for name, _ in given}
    about = next((name for name in ("preference", "winner", "ranking", "comparison") if name in questions), None)
    if about is None and len(questions) > 1:
        raise row.fail(
            f"several questions, none of them 'preference': {', '.join(sorted(questions))}",
            expected="a question 'preference'",
            remedy=HOW,
        )
    return [
        (entry.get("value"), str(entry.get("user_id") or ""))
        for name, entry in given
        if (about is None or name == about) and entry.get("status", "submitted") == "submitted"
    ]


def _objects(row: Row, name: str, value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; null is an empty one."""
    listed = [] if value is None else value
    if not isinstance(listed, list | tuple) or not all(isinstance(entry, Mapping) for entry in listed):
        raise row.fail(f"{name!r} is {short(value)}", expected="a list of objects", remedy=HOW)
    return list(listed)


def _object(row: Row, name: str, value: Any) -> Mapping[str, Any]:
    """An object; null is an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise row.fail(f"{name!r} is {short(value)}", expected="an object", remedy=HOW)
    return value or {}


def _side(row: Row, value: Any, names: tuple[set[str], set[str]]) -> float:
    """A value of a label or ranking question."""
    if isinstance(value, list | tuple):
        ranks = {str(entry.get("value")).lower(): entry.get("rank") for entry in value if isinstance(entry, Mapping)}
        first, second = (next((ranks[name] for name in side if name in ranks), None) for side in names)
        if not isinstance(first, int | float) or not isinstance(second, int | float):
            raise row.fail(f"a ranking that lacks an answer: {short(value)}", expected="a rank for both", remedy=HOW)
        return float((second > first) - (second < first))
    return side_of(row, "responses", value, names)


def _label_studio_votes(row: Row, columns: tuple[str, str]) -> list[Vote]:
    names = _sides(columns)
    votes = []
    for annotation in _objects(row, "annotations", row.fields["annotations"]):
        if annotation.get("was_cancelled"):
            continue
        for result in _objects(row, "result", annotation.get("result")):
            vote = _selected(row, result, columns, names)
            if vote is not None:
                votes.append(vote._replace(annotator=_person(annotation.get("completed_by"))))
    return votes


def _person(who: Any) -> str:
    """An annotator as Label Studio names them: a number, or an object with an address or number."""
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return "" if who is None else str(who)


def _selected(
    row: Row, result: Mapping[str, Any], columns: tuple[str, str], names: tuple[set[str], set[str]]
) -> Vote | None:
    """The vote of one result: a pairwise selection or a single choice; None for other results, such as a comment."""
    value, kind = _object(row, "value", result.get("value")), result.get("type")
    if kind == "pairwise":
        shown = [name.strip().lower() for name in str(result.get("to_name", "")).split(",")]
        turned = shown == [columns[1], columns[0]]
        side = side_of(row, "selected", value.get("selected") or TIES[0], names)
        return Vote(-side if turned else side)
    choices = value.get("choices")
    if kind == "choices" and isinstance(choices, list) and len(choices) == 1:
        return Vote(side_of(row, "choices", choices[0], names), both_bad=calls_both_bad(choices[0]))
    return None


_POTATO_LABELS = ("labels", "label_annotations")
_SELECTED, _SCALED = "selection", "scale_value"


def _potato_answers(row: Row) -> dict[str, Mapping[str, Any]]:
    """The answers to pairwise questions, by question: from the JSON export, or from columns `QUESTION.selection`."""
    name = next((name for name in _POTATO_LABELS if name in row.fields), None)
    if name is not None:
        given = row.fields[name]
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError:
                raise row.fail(f"{name!r} is {short(given)}", expected="an object", remedy=HOW) from None
        answers = {str(key): value for key, value in _object(row, name, given).items()}
    else:
        answers = {}
        for column, value in row.fields.items():
            question, _, part = column.rpartition(".")
            if question and part in (_SELECTED, _SCALED) and str(value).strip():
                answers[question] = {part: value}
    return {
        key: value for key, value in answers.items() if isinstance(value, Mapping) and {_SELECTED, _SCALED} & {*value}
    }


def _potato(row: Row) -> Example:
    answers = _potato_answers(row)
    if not answers:
        raise row.fail(
            "no answer to a pairwise question",
            expected='"labels": {QUESTION: {"selection": "A"}}, or "scale_value"',
            remedy=HOW,
        )
    question = "preference" if "preference" in answers else next(iter(answers))
    if len(answers) > 1 and question != "preference":
        raise row.fail(
            f"several pairwise questions, none of them 'preference': {', '.join(sorted(answers))}",
            expected="a question 'preference'",
            remedy=HOW,
        )
    answer, about, who = answers[question], str(row.fields["instance_id"]), str(row.fields["user_id"])
    if _SELECTED in answer:
        side = side_of(row, f"{question}.{_SELECTED}", answer[_SELECTED], ({"a", "1", "left"}, {"b", "2", "right"}))
        vote = Vote(side, who, calls_both_bad(answer[_SELECTED]))
    else:
        scale = Row(row.place, {f"{question}.{_SCALED}": answer[_SCALED]})
        vote = Vote(-number_of(scale, f"{question}.{_SCALED}"), who)
    return Example((), about=about, votes=(vote,))


def _no_texts(row: Row) -> Messages:
    raise row.fail("judgements without texts", expected="the texts, which are in Potato's data file", remedy=HOW)


POTATO = Form(
    ("instance_id", "user_id"),
    when=lambda row: any(name in row.fields for name in _POTATO_LABELS) or bool(_potato_answers(row)),
    prompt=_no_texts,
    example=_potato,
    may_have=_POTATO_LABELS,
    judged_by=lambda row: (f"{question}.{part}" for question in _potato_answers(row) for part in (_SELECTED, _SCALED)),
)
"""Potato: one judgement, with the id of its item."""
