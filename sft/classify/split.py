"""Train and held-out texts that share no near duplicates. Knows no tokenizer and no model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sft.classify.config import TextSection
from workbench.data.hashing import unit_hash
from workbench.data.labelled import Columns, LabelledFile, read_labelled
from workbench.data.near_duplicates import near_duplicates
from workbench.data.records import LabelledText, content_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError


@dataclass(frozen=True)
class TextSplit:
    """Labelled texts to train on and to measure on."""

    train: list[LabelledText]
    heldout: list[LabelledText]
    heldout_groups: list[int]
    """The group of near duplicates of each held-out text; intervals are over groups."""
    labels: tuple[str, ...]
    """All labels, sorted; a training text has each."""
    multi_label: bool
    duplicates: int
    """Texts with at least one near duplicate in the data."""
    random_leak: float
    """Expected share of held-out texts with a near duplicate in training, if rows had been drawn at random instead."""
    left_out: int
    """Training texts left out because a text of the held-out file is a near duplicate."""

    def line(self) -> str:
        """What was found about duplicates."""
        found = f"{self.duplicates:,} of {len(self.train) + len(self.heldout) + self.left_out:,} texts"
        left_out = f"; {self.left_out:,} of them were left out of training" if self.left_out else ""
        return (
            f"near duplicates: {found} have one{left_out}. None is on both sides; a random split of the rows would "
            f"give {self.random_leak:.1%} of the held-out texts a near duplicate in training"
        )


def load_split(
    train: Path, heldout: Path | None, section: TextSection, *, seed: int, rules: RowRules | None = None
) -> TextSplit:
    """Read the texts and split them by group of near duplicates; a group is held out by the hash of its texts.

    Raises:
        WorkbenchError: from the reader; one side is empty, there are fewer than two labels, or a label has no training
            text.
    """
    columns = Columns(section.text, section.labels)
    first = read_labelled(train, columns, rules)
    second = read_labelled(heldout, columns, rules) if heldout is not None else None
    records = [*first.records, *(second.records if second else [])]
    groups = near_duplicates([record.text for record in records])
    sizes = Counter(groups)
    if second is None:
        names: dict[int, str] = {}
        for record, group in zip(records, groups, strict=True):
            names[group] = min(names.get(group, "~"), content_id(record.text))
        kept_out = {g for g, name in names.items() if unit_hash(seed, name, separator=":") < section.heldout_share}
        sides = [group in kept_out for group in groups]
        trained = [not side for side in sides]
        share = section.heldout_share
    else:
        sides = [index >= len(first.records) for index in range(len(records))]
        kept_out = {group for group, side in zip(groups, sides, strict=True) if side}
        trained = [not side and group not in kept_out for side, group in zip(sides, groups, strict=True)]
        share = len(second.records) / len(records)
    split = TextSplit(
        train=[record for record, keep in zip(records, trained, strict=True) if keep],
        heldout=[record for record, side in zip(records, sides, strict=True) if side],
        heldout_groups=[group for group, side in zip(groups, sides, strict=True) if side],
        labels=tuple(sorted({label for record in records for label in record.labels})),
        multi_label=first.multi_label,
        duplicates=sum(size for size in sizes.values() if size > 1),
        random_leak=expected_leak([sizes[group] for group in groups], share),
        left_out=len(records) - sum(trained) - sum(sides),
    )
    _check(split, train, heldout, second, section)
    return split


def expected_leak(sizes: Sequence[int], share: float) -> float:
    """Expected share of held-out texts with a near duplicate in training, if each text is held out by chance.

        mean over texts of 1 − share^(size of its group − 1)

    Args:
        sizes: (N,) number of texts in each text's group.
        share: that is held out.
    """
    return sum(1 - share ** (size - 1) for size in sizes) / len(sizes)


def flags_of(records: Sequence[LabelledText], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(N, K) whether each text has each label."""
    return np.array([[label in record.labels for label in labels] for record in records])


def _check(
    split: TextSplit, train: Path, heldout: Path | None, second: LabelledFile | None, section: TextSection
) -> None:
    if second is not None and second.multi_label != split.multi_label:
        raise WorkbenchError(
            heldout,
            "its rows have " + ("lists of labels" if second.multi_label else "one label each") + f", unlike {train}",
            expected="the same kind of labels in both files",
        )
    if not split.train or not split.heldout:
        raise WorkbenchError(
            train,
            f"{len(split.train)} texts to train on and {len(split.heldout)} held out",
            expected="at least one of each",
            remedy="data.heldout=FILE, or another data.heldout_share",
        )
    if len(split.labels) < 2:
        raise WorkbenchError(
            train, f"its labels are {', '.join(split.labels) or 'all empty'}", expected="at least two labels"
        )
    known = {label for record in split.train for label in record.labels}
    absent = [label for label in split.labels if label not in known]
    if absent:
        raise WorkbenchError(
            heldout or train,
            f"the label {absent[0]!r} has held-out texts, and none to train on",
            expected="training texts of every label",
            remedy="correct the label, add training texts, or use another run.seed or data.heldout_share"
            if section.heldout is None
            else "correct the label, or add training texts",
        )
