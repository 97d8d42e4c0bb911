"""Demonstrations as token rows for the trainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sft.config import DataSection, SampleSection
from sft.inputs import read_sides
from workbench.data.batching import encode_demonstrations, prompts_with_room
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules


@dataclass(frozen=True)
class SftData:
    """Encoded training and validation rows, and the validation records themselves."""

    train: Dataset
    """Columns input_ids, completion_mask (1 on the tokens in the loss)."""
    validation: Dataset
    """The same columns."""
    validation_records: list[Demonstration]
    too_long: int
    """Training demonstrations left out because they exceed max_length."""

    @property
    def counts(self) -> dict[str, int]:
        """For run.json."""
        return {"train": len(self.train), "validation": len(self.validation), "too_long": self.too_long}


def load_data(
    tokenizer: PreTrainedTokenizerBase,
    section: DataSection,
    files: Mapping[str, Path],
    *,
    seed: int,
    rules: RowRules,
) -> SftData:
    """Read, split by prompt and encode.

    Args:
        tokenizer: of the base.
        section: lengths, split and turns; its file names are resolved in `files`.
        files: `train`, and `validation` if it is a file of its own.
        seed: of the split.
        rules: what to do with rows that cannot be read; counts them.

    Raises:
        WorkbenchError: from the readers; or nothing is left to train or validate on.
    """
    train, validation = files["train"], files.get("validation")
    records, held_out = read_sides(train, validation, share=section.validation_share, seed=seed, rules=rules)
    encode = partial(
        encode_demonstrations, tokenizer, max_length=section.max_length, loss_on=section.loss_on, rules=rules
    )
    rows, held_out_rows = encode(records, source=train), encode(held_out, source=validation or train)
    return SftData(
        Dataset.from_list(rows.rows),
        Dataset.from_list(held_out_rows.rows),
        [held_out[index] for index in held_out_rows.kept],
        rows.dropped,
    )


def prompts_to_answer(
    tokenizer: PreTrainedTokenizerBase, section: SampleSection, records: list[Demonstration]
) -> list[Demonstration]:
    """The held-out prompts that are answered before and after training.

    Raises:
        WorkbenchError: none of them leaves room for an answer within the base's positions.
    """
    if not section.prompts:
        return []
    length, key = section.max_new_tokens, "sample.max_new_tokens"
    return prompts_with_room(tokenizer, records, max_new_tokens=length, key=key)[: section.prompts]
