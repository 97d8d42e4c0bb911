"""Configuration of reward modelling."""

from typing import Annotated, Literal

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
    """What the fit maximises."""

    kind: Literal["ordinal", "bradley_terry"] = "ordinal"
    """`ordinal` reads ties and strengths as levels of one latent gap (Rao & Kupper, Agresti); with neither it is
    Bradley-Terry. `bradley_terry` reads who won, and leaves ties out."""
    margin: NonNegativeFloat = 0.0
    """bradley_terry: logits by which a chosen response shall win, for each level of strength."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """bradley_terry: assumed share of wrong labels."""
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
