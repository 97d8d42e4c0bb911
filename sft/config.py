"""Configuration of supervised tuning."""

from typing import Literal

from workbench.run.config import Section
from workbench.run.sections import (
    BaseSection,
    CheckpointSection,
    LoraSection,
    NonNegativeInt,
    OptimizerSection,
    PositiveFloat,
    PositiveInt,
    RowsSection,
    RunSection,
    Share,
    TrackingSection,
)


class DataSection(RowsSection):
    """Demonstrations."""

    train: str
    """File of demonstrations in any form of docs/data.md, or `tiny:demonstrations`."""
    validation: str | None = None
    """File of held-out demonstrations; None holds out `validation_share` of the training file."""
    validation_share: Share = 0.05
    """Share of the prompts that is held out if `validation` is not given."""
    max_length: PositiveInt = 1024
    """Tokens of prompt and response together; longer demonstrations are left out and counted."""
    loss_on: Literal["last", "all"] = "last"
    """Assistant turns whose tokens are in the loss: the last one of each conversation, or all. The others are context
    only; their number is printed at the start."""
    packing: bool = False
    """Pack several demonstrations into one row of max_length tokens; they do not attend to each other."""


class TrainSection(OptimizerSection):
    """AdamW, its schedule, and when training counts as failed."""

    fail_if_worse: bool = False
    """Fail without an adapter if the validation loss is worse than before training; otherwise only warn."""


class SampleSection(Section):
    """Answers sampled before and after training, to look at."""

    prompts: NonNegativeInt = 8
    """Held-out prompts to answer; 0: none."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature."""


class SftConfig(Section):
    """Everything `python -m sft` reads."""

    run: RunSection
    model: BaseSection
    lora: LoraSection = LoraSection()
    data: DataSection
    train: TrainSection = TrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    sample: SampleSection = SampleSection()
    tracking: TrackingSection = TrackingSection()
