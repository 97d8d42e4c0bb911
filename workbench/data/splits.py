"""Train and held-out parts of records that never share a prompt.

A record's side depends on its group and the seed alone: it stays when rows are added, removed or reordered.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from workbench.data.hashing import unit_hash
from workbench.data.readers import Reader, read_preferences, read_rated_answers
from workbench.data.reading import say
from workbench.data.records import Preference, Prompt, RatedAnswer, prompt_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

RecordT = TypeVar("RecordT", bound=Prompt)


def group_of(record: Prompt) -> str:
    """The group of a record, or else the id of its prompt's text."""
    return str(getattr(record, "group", None) or prompt_id(record.prompt))


def is_held_out(group: str, heldout_share: float, seed: int) -> bool:
    """Whether `split_by_group` holds out a group."""
    return unit_hash(seed, group, separator=":") < heldout_share


def split_by_group(
    records: Iterable[RecordT],
    heldout_share: float,
    seed: int,
    group: Callable[[RecordT], str] = group_of,
) -> tuple[list[RecordT], list[RecordT]]:
    """Split records into (train, held out) by the hash of their group.

        held out  ⟺  unit_hash(seed, group)  <  heldout_share

    Args:
        records: in any order; each side keeps it.
        heldout_share: in [0, 1], the expected share of groups that are held out.
        seed: changes the split.
        group: record → its group, which stays together.

    Raises:
        ValueError: `heldout_share` outside [0, 1].
    """
    if not 0 <= heldout_share <= 1:
        raise ValueError(f"heldout_share must lie in [0, 1], is {heldout_share}")
    train: list[RecordT] = []
    heldout: list[RecordT] = []
    for record in records:
        side = heldout if is_held_out(group(record), heldout_share, seed) else train
        side.append(record)
    return train, heldout


@dataclass(frozen=True)
class PairSplit:
    """Preferences to train on and held-out preferences; no prompt is on both sides."""

    train: list[Preference]
    heldout: list[Preference]
    ties: int
    """Ties (strength 0) that were left out of the training side."""
    leaked: int = 0
    """Held-out pairs that were left out because their prompt is also trained on."""


def load_pairs(
    train: Path,
    heldout: Path | None,
    *,
    heldout_share: float,
    seed: int,
    keep_ties: bool = False,
    limit: int = 0,
    rules: RowRules | None = None,
) -> PairSplit:
    """Read preferences and split them: by a held-out file, or the records' `split` marks, or a hash of the group.

    Ties are left out of the held-out side, and out of the training side unless `keep_ties`. `limit` keeps only the
    first pairs of the training side; 0: all. Held-out pairs whose prompt is trained on are left out with a warning.

    Raises:
        WorkbenchError: from the readers; one side is empty; or all held-out prompts are also trained on.
    """
    records, kept_out, leaked = _sides(
        read_preferences, train, heldout, heldout_share=heldout_share, seed=seed, rules=rules
    )
    decided = [record for record in records if record.strength > 0]
    judged = [record for record in kept_out if record.strength > 0]
    if not decided or not judged:
        raise WorkbenchError(
            train,
            f"{len(decided)} pairs to train on and {len(judged)} held out, without ties",
            expected="at least one of each",
            remedy="label more pairs, data.heldout=FILE, or another data.heldout_share",
        )
    trained = records if keep_ties else decided
    return PairSplit(trained[:limit] if limit else trained, judged, len(records) - len(trained), leaked)


@dataclass(frozen=True)
class AnswerSplit:
    """Rated answers to train on and held-out ones; no prompt is on both sides."""

    train: list[RatedAnswer]
    heldout: list[RatedAnswer]
    leaked: int = 0
    """Held-out answers that were left out because their prompt is also trained on."""


def load_answers(
    train: Path,
    heldout: Path | None,
    *,
    heldout_share: float,
    seed: int,
    limit: int = 0,
    rules: RowRules | None = None,
) -> AnswerSplit:
    """Read rated answers and split them as `load_pairs` does; `limit` is in answers.

    Raises:
        WorkbenchError: from the readers; all held-out prompts are also trained on; a side lacks good or bad answers.
    """
    records, kept_out, leaked = _sides(
        read_rated_answers, train, heldout, heldout_share=heldout_share, seed=seed, rules=rules
    )
    records = records[:limit] if limit else records
    for side, answers in (("to train on", records), ("held out", kept_out)):
        good = sum(answer.desirable for answer in answers)
        if not 0 < good < len(answers):
            raise WorkbenchError(
                train,
                f"{good} good and {len(answers) - good} bad answers {side}",
                expected="at least one of each",
                remedy="rate more answers, data.heldout=FILE, or another data.heldout_share",
            )
    return AnswerSplit(records, kept_out, leaked)


JudgedT = TypeVar("JudgedT", Preference, RatedAnswer)


def _sides(
    read: Reader[JudgedT],
    train: Path,
    heldout: Path | None,
    *,
    heldout_share: float,
    seed: int,
    rules: RowRules | None,
) -> tuple[list[JudgedT], list[JudgedT], int]:
    """Records to train on, held-out ones, and the number of held-out ones that were left out of these as leaks.

    The split is by a file, by the records' marks, or by a hash of the group.
    """
    records = read(train, rules)
    if heldout is not None:
        marked, remedy = read(heldout, rules), "remove data.heldout to split by prompt"
    elif any(record.split for record in records):
        marked = [record for record in records if record.split == "heldout"]
        records = [record for record in records if record.split != "heldout"]
        remedy = "mark all records of a prompt with one `split`, or data.ignore=[split] to split by prompt"
    else:
        records, marked = split_by_group(records, heldout_share, seed)
        remedy = "give all records of a prompt one `group`, or data.ignore=[group] to split by prompt"
    kept_out = of_other_prompts(marked, records)
    leaked = len(marked) - len(kept_out)
    if leaked:
        place = heldout or train
        first = next(record for record, kept in zip_longest(marked, kept_out) if record is not kept)
        found = f"{leaked} of {len(marked)} held-out records have a prompt that is also trained on (first: {first.id})"
        if not kept_out:
            raise WorkbenchError(place, found, expected="held-out prompts that are never trained on", remedy=remedy)
        say(f"{place}: {found}. They are left out of the held-out side")
    return records, kept_out, leaked


def of_other_prompts(records: Sequence[JudgedT], others: Sequence[JudgedT]) -> list[JudgedT]:
    """The records whose prompt and group none of the others has."""
    groups, prompts = {other.group for other in others}, {other.prompt for other in others}
    return [record for record in records if record.group not in groups and record.prompt not in prompts]


def from_mix(records: Sequence[JudgedT], heldout: Sequence[JudgedT]) -> list[JudgedT]:
    """The records of `data.mix` to train on: no ties, not marked as held out, and of no prompt that is held out."""
    decided = [record for record in records if not isinstance(record, Preference) or record.strength > 0]
    return of_other_prompts([record for record in decided if record.split != "heldout"], heldout)
