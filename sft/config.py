"""Configuration of supervised tuning."""

from typing import Literal

from workbench.run.config import Section
from workbench.run.sections import (
    BaseSection,
    CheckpointSection,
    LoraSection,
    NonNegativeInt,
    OptimizerSection,
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
    max_length: PositiveInt = 1024
    """Tokens of prompt and response together; longer demonstrations are left out, and counted."""
    loss_on: Literal["last", "all"] = "last"
    """Turns of the assistant that are imitated: the last one of each conversation, or all; the loss is on their tokens.
    Turns that are not imitated are context; how many there are is said at the start."""
    packing: bool = False
    """Put several demonstrations into one row of max_length tokens; they do not see each other."""


class TrainSection(OptimizerSection):
    """AdamW, its schedule, and what counts as a failure."""

    fail_if_worse: bool = False
    """Stop without an adapter if the validation loss is worse than before training; otherwise it is a warning."""


class SampleSection(Section):
    """Answers shown before and after training."""

    prompts: NonNegativeInt = 8
    """Held-out prompts that are answered before and after; 0: none."""
    max_new_tokens: PositiveInt = 128
    temperature: float = 1.0


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
