"""Configuration of reward modelling."""

from typing import Annotated

from pydantic import Field

from workbench.run.config import Section
from workbench.run.sections import (
    CheckpointSection,
    LoraSection,
    NonNegativeFloat,
    OptimizerSection,
    PositiveInt,
    RunSection,
    Share,
    StartSection,
    TrackingSection,
)


class PairSection(Section):
    """Preference pairs."""

    train: str
    """Preferences in any form of docs/architecture.md; records marked `split: heldout` are kept out."""
    heldout: str | None = None
    """Held-out preferences; None takes the marked records, or holds out `heldout_share` of the groups."""
    heldout_share: Share = 0.1
    limit: int = 0
    """Train on the first so many pairs; 0: on all."""
    shuffle_labels: bool = False
    """Swap chosen and rejected at random in the training pairs: a negative control, accuracy must come out at ½."""
    max_length: PositiveInt = 1024
    """Tokens of the prompt with either response; longer pairs are left out, and counted."""


class LossSection(Section):
    """The Bradley-Terry loss."""

    center_coef: NonNegativeFloat = 0.0
    """Weight of (r_chosen + r_rejected)², which keeps raw scores near 0."""


class NormaliseSection(Section):
    """Scores with mean 0 and deviation 1 over answers of the start run."""

    answers: Annotated[int, Field(ge=16)] = 512
    """Answers sampled from the start run."""
    max_new_tokens: PositiveInt = 128
    batch_size: PositiveInt = 128


class RewardConfig(Section):
    """Everything `python -m reward` reads."""

    run: RunSection
    model: StartSection
    lora: LoraSection = LoraSection()
    data: PairSection
    loss: LossSection = LossSection()
    train: OptimizerSection = OptimizerSection()
    normalise: NormaliseSection = NormaliseSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
