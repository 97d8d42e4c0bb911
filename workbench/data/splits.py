"""Train and held-out parts that never share a prompt. Pure: records in, records out.

A record's side depends on its group and the seed alone: it stays when rows are added, removed or reordered.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from workbench.data.hashing import unit_hash
from workbench.data.records import Prompt, prompt_id

RecordT = TypeVar("RecordT", bound=Prompt)


def group_of(record: Prompt) -> str:
    """The group of a record: its own where it has one, else the id of its prompt's text."""
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
        seed: another seed, another split.
        group: what must stay together, as a string.

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
