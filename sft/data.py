"""Demonstrations as token rows for the trainer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from sft.config import DataSection, SampleSection
from sft.sources import Old, Source, read_sources
from workbench.data.augment import augmented_demonstrations
from workbench.data.batching import EncodedRows, encode_demonstrations, prompts_with_room
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.data.stored import RowFile, StoredRecords
from workbench.run.sections import AugmentSection


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
    old_validation: Dataset | None = None
    """The start run's validation rows, as that run measured them."""
    drawn: Mapping[str, int] = field(default_factory=dict)
    """Demonstrations drawn from each further source."""

    @property
    def counts(self) -> dict[str, int]:
        """For run.json."""
        return {"train": len(self.train), "validation": len(self.validation), "too_long": self.too_long, **self.drawn}


def load_data(
    tokenizer: PreTrainedTokenizerBase,
    section: DataSection,
    files: Mapping[str, Path],
    *,
    seed: int,
    rules: RowRules,
    old: Old | None = None,
    augment: AugmentSection | None = None,
) -> SftData:
    """Read, split by prompt, mix and encode.

    Args:
        tokenizer: of the base.
        section: lengths, split and turns; its file names are resolved in `files`.
        files: `train`, `validation` if it is a file of its own, and those that are mixed in.
        seed: of the split.
        rules: what to do with rows that cannot be read; counts them.
        old: data of the start run.
        augment: changed copies of the demonstrations that are trained on.

    Raises:
        WorkbenchError: from the readers; or nothing is left to train or validate on.
    """
    sources = read_sources(section, files, old, seed=seed, rules=rules)

    def encode(source: Source, max_length: int = section.max_length, into: RowFile | None = None) -> EncodedRows:
        options: Any = {"max_length": max_length, "loss_on": section.loss_on, "rules": rules}
        return encode_demonstrations(tokenizer, source.records, source=source.path, into=into, **options)

    sources_trained = [_augmented(source, augment or AugmentSection(), seed) for source in sources.trained]
    rows = RowFile() if section.streaming else None
    trained = [encode(source, into=rows) for source in sources_trained]
    held_out, old_held_out = encode(sources.validation), None
    if old is not None and sources.old_validation is not None:
        old_held_out = Dataset.from_list(encode(sources.old_validation, old.max_length).rows)
    return SftData(
        rows.dataset() if rows is not None else Dataset.from_list([row for encoded in trained for row in encoded.rows]),
        Dataset.from_list(held_out.rows),
        [sources.validation.records[index] for index in held_out.kept],
        sum(encoded.dropped for encoded in trained),
        old_held_out,
        sources.counts(),
    )


def _augmented(source: Source, section: AugmentSection, seed: int) -> Source:
    """A source with changed copies of its demonstrations."""
    if not section.transforms:
        return source
    records = augmented_demonstrations(source.records, section, seed=seed)
    if isinstance(source.records, StoredRecords):
        return replace(source, records=StoredRecords.write((str(source.path), record) for record in records))
    return replace(source, records=list(records))


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
