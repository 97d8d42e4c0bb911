"""Train and held-out parts of records that never share a prompt.

A record's side depends on its group and the seed alone: it stays when rows are added, removed or reordered.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workbench.data.hashing import unit_hash
from workbench.data.readers import read_preferences
from workbench.data.records import Preference, Prompt, prompt_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

RecordT = TypeVar("RecordT", bound=Prompt)


def group_of(record: Prompt) -> str:
    """The group of a record, or else the id of its prompt's text."""
    return str(getattr(record, "group", None) or prompt_id(record.prompt))


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
        side = heldout if unit_hash(seed, group(record), separator=":") < heldout_share else train
        side.append(record)
    return train, heldout


@dataclass(frozen=True)
class PairSplit:
    """Preferences to train on and held-out preferences; no prompt is on both sides."""

    train: list[Preference]
    heldout: list[Preference]
    ties: int
    """Ties (strength 0) that were left out of the training side."""


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
    first pairs of the training side; 0: all.

    Raises:
        WorkbenchError: from the readers; one side is empty; or a held-out prompt is also trained on.
    """
    records = read_preferences(train, rules)
    if heldout is not None:
        kept_out = read_preferences(heldout, rules)
        shared = {record.group for record in records} & {record.group for record in kept_out}
        if shared:
            raise WorkbenchError(
                heldout,
                f"{len(shared)} of its prompts are also in {train} (the first: {sorted(shared)[0]})",
                expected="held-out prompts that are never trained on",
                remedy="remove data.heldout to split by prompt",
            )
    elif any(record.split for record in records):
        kept_out = [record for record in records if record.split == "heldout"]
        records = [record for record in records if record.split != "heldout"]
    else:
        records, kept_out = split_by_group(records, heldout_share, seed)
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
    return PairSplit(trained[:limit] if limit else trained, judged, len(records) - len(trained))
