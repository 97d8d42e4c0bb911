"""Demonstrations as token rows for the trainer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sft.inputs import read_sides
from workbench.data.batching import LossOn, encode_demonstrations
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules


@dataclass(frozen=True)
class SftData:
    """Encoded training and validation rows, and the validation records themselves."""

    train: Dataset
    """Columns input_ids, completion_mask."""
    validation: Dataset
    validation_records: list[Demonstration]
    too_long: int
    """Training demonstrations left out because they exceed max_length."""


def load_data(
    tokenizer: PreTrainedTokenizerBase,
    *,
    train: Path,
    validation: Path | None,
    validation_share: float,
    max_length: int,
    seed: int,
    loss_on: LossOn = "last",
    rules: RowRules | None = None,
) -> SftData:
    """Read, split by prompt and encode.

    Raises:
        WorkbenchError: from the readers; or nothing is left to train or validate on.
    """
    records, held_out = read_sides(train, validation, share=validation_share, seed=seed, rules=rules)
    encode = partial(encode_demonstrations, tokenizer, max_length=max_length, loss_on=loss_on, rules=rules)
    rows, held_out_rows = encode(records, source=train), encode(held_out, source=validation or train)
    return SftData(
        Dataset.from_list(rows.rows),
        Dataset.from_list(held_out_rows.rows),
        [held_out[index] for index in held_out_rows.kept],
        rows.dropped,
    )
