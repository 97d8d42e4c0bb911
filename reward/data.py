"""Preference pairs as token rows for the reward trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from workbench.data.batching import encode_pairs
from workbench.data.preferences import load_pairs
from workbench.data.records import Preference


@dataclass(frozen=True)
class RewardData:
    """Encoded pairs, columns chosen_ids and rejected_ids (prompt and response, EOS last)."""

    train: Dataset
    heldout: Dataset
    train_records: list[Preference]
    counts: dict[str, int]
    """Pairs on each side, ties and over-long pairs left out."""


def load_data(
    tokenizer: PreTrainedTokenizerBase,
    *,
    train: Path,
    heldout: Path | None,
    heldout_share: float,
    limit: int,
    shuffle_labels: bool,
    max_length: int,
    seed: int,
) -> RewardData:
    """Read, split by prompt and encode.

    Raises:
        WorkbenchError: from the readers and the split; or all pairs are too long.
    """
    split = load_pairs(train, heldout, heldout_share=heldout_share, seed=seed)
    records = split.train[:limit] if limit else split.train
    if shuffle_labels:
        records = swapped_at_random(records, seed)
    rows = encode_pairs(tokenizer, records, max_length=max_length, place=train)
    kept_out = encode_pairs(tokenizer, split.heldout, max_length=max_length, place=heldout or train)
    counts = {
        "train": len(rows.rows),
        "heldout": len(kept_out.rows),
        "ties": split.ties,
        "too_long": rows.dropped + kept_out.dropped,
    }
    return RewardData(
        Dataset.from_list(rows.rows), Dataset.from_list(kept_out.rows), [records[i] for i in rows.kept], counts
    )


def swapped_at_random(records: Sequence[Preference], seed: int) -> list[Preference]:
    """The records with chosen and rejected swapped in a random half: labels without information."""
    generator = torch.Generator().manual_seed(seed)
    swap = torch.rand(len(records), generator=generator) < 0.5
    return [
        record.model_copy(update={"chosen": record.rejected, "rejected": record.chosen}) if flip else record
        for record, flip in zip(records, swap.tolist(), strict=True)
    ]
