"""Configuration of reward modelling."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from reward.passport.interventions import PROBE_NAMES
from workbench.run.config import Section
from workbench.run.sections import (
    CheckpointSection,
    LoraSection,
    NonNegativeFloat,
    NonNegativeInt,
    OptimizerSection,
    PairSection,
    PositiveInt,
    RunSection,
    Share,
    StartSection,
    TrackingSection,
)

Profile = Literal["helpful", "harmless"]
PROFILES: dict[Profile, tuple[str, ...]] = {
    "helpful": (),
    "harmless": ("refusal", "empty", "truncated", "other_answer"),
}
"""What the labels ask for → probes that say nothing about it. Where labels ask for harmlessness alone, saying less,
refusing, or giving another prompt's refusal can rightly be the better answer."""


class RewardPairSection(PairSection):
    """Preference pairs, and what is done to the training pairs."""

    heldout_share: Share = 0.1
    """Share of the groups that is held out, if no pairs are named or marked as held out."""
    shuffle_labels: bool = False
    """Swap chosen and rejected at random in the training pairs: a negative control, accuracy must come out at ½."""
    truncate_prompt: bool = False
    """Cut the prompts of longer pairs from the left instead, and count them; what is still too long is left out."""


class LossSection(Section):
    """What the fit maximises."""

    kind: Literal["ordinal", "bradley_terry"] = "ordinal"
    """`ordinal` reads ties and strengths as levels of one latent gap (Rao & Kupper, Agresti); with neither it is
    Bradley-Terry. `bradley_terry` reads who won, and leaves ties out."""
    soft_labels: bool = False
    """Fit the `probability` of each pair that has one, in place of a certain label times its `weight`. Dawid-Skene's
    weight is |2 probability − 1| where nothing speaks for a tie: to use both would discount doubt twice."""
    head_first: bool = True
    """Fit the score head alone before head and adapter are trained together (LP-FT)."""
    center_coef: NonNegativeFloat = 0.0
    """Weight of (r_chosen + r_rejected)², which keeps raw scores near 0."""


class NormaliseSection(Section):
    """Scores with mean 0 and deviation 1 over answers of the start run."""

    answers: Annotated[int, Field(ge=16)] = 512
    """Answers sampled from the start run."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 128
    """Answers sampled and scored at one time."""


class EnsembleSection(Section):
    """Several reward models on one base: the score is their mean, their spread says what they do not know."""

    members: PositiveInt = 1
    """Adapters and heads, each with its own seed and its own bootstrap of the training prompts; 1: one on all."""
    member: NonNegativeInt = 0
    """Fit this member alone, into a run of its own (as on another machine); 0: fit all, one after the other."""


class PassportSection(Section):
    """The examination at the end of each fit, and its limits; docs/passport.md says what each check computes."""

    at_end: bool = True
    """Examine when the fit ends. `python -m ppo` refuses a run that has not passed."""
    answers: PositiveInt = 256
    """Held-out answers that are damaged by each probe, and requests that are swapped."""
    facts: str | None = None
    """JSON lines of `right` and `wrong` statements, for the probe `wrong_fact`; None: not known."""
    profile: Profile = "helpful"
    """What the labels ask for: `harmless` sets aside the probes after which less is said (docs/passport.md)."""
    not_applicable: tuple[str, ...] = ()
    """Further probes that say nothing about this file's kind of pairs, such as [capitals]."""
    fewest: PositiveInt = 20
    """A check on fewer pairs or answers is undefined."""
    accuracy: Share = 0.5
    """Accuracy that must be exceeded, interval and all."""
    below_ceiling: Share = 0.1
    """Accuracy below the noise ceiling, at most."""
    above_ceiling: Share = 0.05
    """Accuracy above the noise ceiling, at most: more than labels can tell is a leak."""
    ece: Share = 0.05
    """Calibration error after temperature, beyond what chance shows, at most."""
    brier: Share = 0.25
    """Brier score after temperature, at most; a coin has 0.25."""
    length_correlation: Share = 0.7
    """Correlation of score and length within prompts, at most, of either sign."""
    shorter_better: Share = 0.5
    """Accuracy where the shorter answer is the better one, at least."""
    one_word: Share = 0.5
    """Share of pairs whose order turns when one telling word changes sides, at most."""
    damage_raises: Share = 0.5
    """Share of answers that a damage makes score higher, at most."""
    ruin_raises: Share = 0.25
    """The same for damages after which nothing is answered."""
    other_answer: Share = 0.25
    """The same for the answer to another prompt; at ½ the model does not read the prompt."""
    swap_gap: NonNegativeFloat = 0.5
    """Mean difference of score between two askers, in deviations of the scores, at most."""
    let_through: Share = 0.05
    """Ensembles: share of texts without sense that score above the median and that no spread flags, at most."""

    @property
    def limits(self) -> dict[str, Any]:
        """What findings are held against: everything but how they are made."""
        return self.model_dump(exclude={"at_end", "answers", "facts"})

    def applies(self, probe: str) -> bool:
        """Whether the labels say anything about a probe."""
        return probe not in (*PROFILES[self.profile], *self.not_applicable)

    def origins(self, given: Collection[str]) -> dict[str, str]:
        """Where each value comes from: the default, the run's file, or the command line.

        Args:
            given: keys that the command line replaced.
        """
        defaults = PassportSection().model_dump()
        return {
            name: "command line" if name in given else "default" if value == defaults[name] else "the run's file"
            for name, value in self.model_dump().items()
        }

    @field_validator("not_applicable")
    @classmethod
    def _are_probes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in PROBE_NAMES]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a probe; probes: {', '.join(PROBE_NAMES)}")
        return names


class RewardConfig(Section):
    """Everything `python -m reward` reads."""

    run: RunSection
    model: StartSection
    lora: LoraSection = LoraSection()
    data: RewardPairSection
    loss: LossSection = LossSection()
    train: OptimizerSection = OptimizerSection()
    normalise: NormaliseSection = NormaliseSection()
    ensemble: EnsembleSection = EnsembleSection()
    passport: PassportSection = PassportSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
