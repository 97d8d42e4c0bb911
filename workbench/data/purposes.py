"""What a reader makes of an example: a demonstration, pairs, an item to label, or something to score. Pure.

Each function takes the row with its example and refuses what the purpose cannot use, with the way out.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example
from workbench.data.forms.fields import SetAside, not_blank, worthless
from workbench.data.forms.judgements import RATINGS
from workbench.data.forms.own import validated
from workbench.data.records import Demonstration, Item, Message, Preference, Prompt, content_id, prompt_id
from workbench.run.errors import WorkbenchError

Parsed = tuple[Row, Example]


def id_of(row: Row, otherwise: str) -> str:
    """The id that a row gives, else the other one."""
    given = row.fields.get("id")
    return str(given) if isinstance(given, str | int) and str(given) else otherwise


def to_prompt(row: Row, prompt: tuple[Message, ...]) -> Prompt:
    """The prompt record of a row."""
    return Prompt(id=id_of(row, prompt_id(prompt)), prompt=prompt)


def to_demonstration(row: Row, example: Example, *, scored: bool = False) -> Demonstration:
    """One answer to imitate (or, if `scored`, whatever its label or rating says).

    Raises:
        SetAside: the answer is marked as bad.
        WorkbenchError: several answers, or one that is rated.
    """
    if len(example.responses) != 1:
        raise row.fail(
            f"{len(example.responses)} answers to one prompt, and only one can be imitated",
            expected="a prompt with one response",
            remedy="reward and contrastive training read pairs, `annotate load` reads answers to compare; for sft keep "
            "the better answer in a column 'response'",
        )
    if example.ratings and not scored:
        unread = ", ".join(name for name in RATINGS if name in row.fields)
        raise row.fail(
            f"the answer is rated ({example.ratings[0]:g}), and sft would imitate good and bad ones alike",
            expected="answers that are worth imitating",
            remedy="reward reads the ratings as pairs; for sft keep the rows with a good rating, and leave it unread: "
            f"data.ignore=[{unread}]",
        )
    if example.good is False and not scored:
        raise SetAside(row.place, "marked as a bad answer")
    return Demonstration(id=id_of(row, prompt_id(example.prompt)), prompt=example.prompt, response=example.responses[0])


def to_preferences(parsed: Sequence[Parsed]) -> tuple[list[tuple[Row, Preference]], list[WorkbenchError], int]:
    """All pairs of a file.

    An answer that is marked or rated makes a pair with each other answer to its prompt that is better or worse.

    Returns:
        pairs with their rows; the rows that make no pair; and how many answers have no other answer to their prompt.
    """
    pairs: list[tuple[Row, Preference]] = []
    bad: list[WorkbenchError] = []
    single: dict[str, list[Parsed]] = defaultdict(list)
    for row, example in parsed:
        if len(example.responses) == 1:
            single[prompt_id(example.prompt)].append((row, example))
            continue
        try:
            pairs += [(row, pair) for pair in pairs_of(row, example)]
        except WorkbenchError as error:
            bad.append(error)
    alone = 0
    for group in single.values():
        if any(_worth(example) is None for _, example in group):
            bad += [_not_judged(row) for row, example in group if _worth(example) is None]
        elif len(group) == 1:
            alone += 1
        else:
            pairs += _pairs_of_group(group)
    return pairs, bad, alone


def _worth(example: Example) -> float | None:
    if example.good is not None:
        return float(example.good)
    return example.ratings[0] if example.ratings else None


def _not_judged(row: Row) -> WorkbenchError:
    return row.fail(
        "one answer, and nobody's judgement of it",
        expected="a chosen and a rejected answer, or answers that are rated",
        remedy="sft reads a prompt with one answer",
    )


def _pairs_of_group(group: Sequence[Parsed]) -> list[tuple[Row, Preference]]:
    pairs = []
    for (row, first), (_, second) in combinations(group, 2):
        gap = (_worth(first) or 0.0) - (_worth(second) or 0.0)
        texts = first.responses[0], second.responses[0]
        if texts[0] != texts[1] and gap:
            pairs.append((row, _preference(row, first, texts, 1.0 if gap > 0 else -1.0, given_id=False)))
    return pairs


def pairs_of(row: Row, example: Example) -> list[Preference]:
    """The pairs of a row with several answers.

    Raises:
        WorkbenchError: nobody judged them; the better one is empty; or all are the same.
    """
    if example.record is not None:
        if isinstance(example.record, Preference):
            return [example.record]
        raise _unjudged(row)
    if len(example.responses) == 2 and example.strength is not None:
        return [_preference(row, example, (example.responses[0], example.responses[1]), example.strength)]
    if not example.ratings:
        raise _unjudged(row)
    pairs = []
    for i, j in combinations(range(len(example.responses)), 2):
        texts = example.responses[i], example.responses[j]
        gap = example.ratings[i] - example.ratings[j]
        if texts[0] != texts[1]:
            runs = (example.runs[i], example.runs[j]) if example.runs else ()
            sign = float((gap > 0) - (gap < 0))
            pairs.append(_preference(row, example, texts, sign, given_id=False, runs=runs))
    if not pairs:
        raise worthless(row, "all answers are the same", "different responses")
    return pairs


def _unjudged(row: Row) -> WorkbenchError:
    return row.fail(
        "answers to compare, and nobody's judgement of them",
        expected="chosen and rejected, or a column such as 'winner' that names the better answer",
        remedy="`annotate load` takes them in to be judged",
    )


def _preference(
    row: Row,
    example: Example,
    texts: tuple[str, str],
    strength: float,
    *,
    given_id: bool = True,
    runs: Sequence[str] | None = None,
) -> Preference:
    """A pair, the better answer as `chosen`; a tie keeps the order of the row, with strength 0."""
    runs = example.runs if runs is None else runs
    first, second = texts if strength >= 0 else texts[::-1]
    named = tuple(runs if strength >= 0 else runs[::-1]) or ("", "")
    not_blank(row, "chosen", first)
    if first == second:
        problem = f"'chosen' and 'rejected' are the same: {first[:60]!r}"
        raise worthless(row, problem, "two different responses")
    made = content_id([prompt_id(example.prompt), first, second])
    group = row.fields.get("group")
    return Preference(
        id=id_of(row, made) if given_id else made,
        group=group if isinstance(group, str) and group else prompt_id(example.prompt),
        prompt=example.prompt,
        chosen=(Message(role="assistant", content=first),),
        rejected=(Message(role="assistant", content=second),),
        strength=min(3.0, abs(strength)),
        annotators=example.annotators,
        agreement=example.agreement,
        category=_category(row),
        chosen_run=named[0],
        rejected_run=named[1],
    )


def _category(row: Row) -> str:
    """The first of the columns that pair files use for the kind of a pair."""
    given = (row.fields.get(name) for name in CATEGORIES)
    return next((value.strip() for value in given if isinstance(value, str) and value.strip()), "")


def to_item(row: Row, example: Example) -> Item:
    """Answers to label; what was judged before is left behind.

    Raises:
        WorkbenchError: less than two answers, or a pair, which is judged already.
    """
    if isinstance(example.record, Item):
        return example.record
    if len(example.responses) < 2 or isinstance(example.record, Preference) or "rejected" in row.fields:
        judged = len(example.responses) > 1
        raise row.fail(
            "a pair that is judged already" if judged else "one answer, and nothing to compare it with",
            expected="two or more answers to a prompt",
            remedy="load preferences with --relabel (to be judged anew) or --gold (as tests of annotators)"
            if judged
            else "give each row a prompt with response_a and response_b, or a list of responses",
        )
    made = content_id([prompt_id(example.prompt), *example.responses])
    runs = example.runs or ("",) * len(example.responses)
    fields: dict[str, Any] = {
        **example.own,
        "id": id_of(row, made),
        "group": str(example.own.get("group") or prompt_id(example.prompt)),
        "prompt": example.prompt,
        "responses": tuple(
            {"id": str(number), "text": text, "run": run}
            for number, (text, run) in enumerate(zip(example.responses, runs, strict=True))
        ),
    }
    return validated(Row(row.place, fields), Item)


def to_scored(row: Row, example: Example) -> Preference | Item | Demonstration:
    """What a reward model scores: a pair, answers to compare, or one answer."""
    if isinstance(example.record, Preference | Item):
        return example.record
    if len(example.responses) == 1:
        return to_demonstration(row, example, scored=True)
    if len(example.responses) == 2 and example.strength is not None:
        return pairs_of(row, example)[0]
    return to_item(row, example)
