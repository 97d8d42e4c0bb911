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
"""What the labels ask for → probes that say nothing about it. If labels ask for harmlessness only, a shorter answer, a
refusal, or the refusal of another prompt can be the better answer."""


class RewardPairSection(PairSection):
    """Preference pairs, and what is done to the training pairs."""

    heldout_share: Share = 0.1
    """Share of the groups that is held out, if no pairs are named or marked as held out."""
    shuffle_labels: bool = False
    """Swap chosen and rejected at random in the training pairs: a negative control, accuracy should come out at ½."""
    truncate_prompt: bool = False
    """Cut the prompts of longer pairs from the left and count them; pairs that are still too long are left out."""


class LossSection(Section):
    """The likelihood that the fit maximises."""

    kind: Literal["ordinal", "bradley_terry"] = "ordinal"
    """`ordinal` reads ties and strengths as levels of one latent gap (Rao & Kupper, Agresti); without either it is
    Bradley-Terry. `bradley_terry` reads only who won, and leaves ties out."""
    soft_labels: bool = False
    """Fit the `probability` of each pair that has one, instead of a hard label times its `weight`. Dawid-Skene's weight
    is |2 probability − 1| unless a tie is likely, so using both would discount doubt twice."""
    head_first: bool = True
    """Fit the score head alone before training head and adapter together (LP-FT)."""
    center_coef: NonNegativeFloat = 0.0
    """Weight of (r_chosen + r_rejected)², which keeps raw scores near 0."""


class NormaliseSection(Section):
    """Normalisation: scores have mean 0 and standard deviation 1 over answers of the start run."""

    answers: Annotated[int, Field(ge=16)] = 512
    """Answers sampled from the start run."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 128
    """Answers sampled or scored per forward pass."""


class EnsembleSection(Section):
    """Several reward models on one base: their mean is the score, their standard deviation its uncertainty."""

    members: PositiveInt = 1
    """Reward models, each with its own seed and bootstrap of the training prompts; 1: one model on all prompts."""
    starts: tuple[str, ...] = ()
    """Runs on one base that the members start from, in turn, instead of `model.start`: members that differ more."""
    member: NonNegativeInt = 0
    """Fit only this member, into a run of its own (such as on another machine); 0: fit all, one after the other."""


class PassportSection(Section):
    """The examination at the end of each fit, and its limits; docs/passport.md defines each check."""

    at_end: bool = True
    """Examine the run when the fit ends. `python -m ppo` refuses a run that has not passed."""
    answers: PositiveInt = 256
    """Held-out answers that each probe damages, and requests that each swap changes, at most."""
    facts: str | None = None
    """JSON lines of `right` and `wrong` statements for the probe `wrong_fact`; None: there are none."""
    profile: Profile = "helpful"
    """What the labels ask for; `harmless` sets aside the probes that remove or refuse content (docs/passport.md)."""
    not_applicable: tuple[str, ...] = ()
    """Further probes that do not apply to these pairs, such as [capitals]."""
    samples: NonNegativeInt = 32
    """Held-out prompts, at most, that the start run answers 16 times each, for `teaches` and `best_of`; 0: none."""
    judge: str | None = None
    """Reward run on other labels that judges these answers; its `best_of` then decides in place of the other checks."""
    fewest: PositiveInt = 20
    """A check on fewer pairs or answers than this is undefined."""
    accuracy: Share = 0.5
    """The whole interval of the accuracy must lie above this."""
    below_ceiling: Share = 0.1
    """Noise ceiling − accuracy, at most."""
    above_ceiling: Share = 0.05
    """Accuracy − noise ceiling, at most; a model that knows more than the labels can tell points to a leak."""
    ece: Share = 0.05
    """Calibration error after temperature, beyond what chance alone shows, at most."""
    brier: Share = 0.25
    """Brier score after temperature, at most; a coin has 0.25."""
    length_correlation: Share = 0.7
    """Correlation of score and length within prompts, at most, with either sign."""
    shorter_better: Share = 0.5
    """Accuracy on pairs whose better answer is the shorter one, at least."""
    one_word: Share = 0.5
    """Share of pairs whose order flips when one telling word is moved to the other answer, at most."""
    damage_raises: Share = 0.5
    """Share of answers that score higher after a damage, at most."""
    ruin_raises: Share = 0.25
    """The same for damages after which the text no longer answers."""
    other_answer: Share = 0.25
    """The same for the answer to another prompt; at ½ the model does not read the prompt."""
    swap_gap: NonNegativeFloat = 0.5
    """Mean difference of score between two askers, in standard deviations of the scores, at most."""
    let_through: Share = 0.05
    """Ensembles: share of nonsense texts that score above the median and that the spread does not flag, at most."""
    best_of: NonNegativeFloat = 0.25
    """With a judge: mean rise of its score per √nat of KL if the model picks the best of n answers, at least, in σ."""

    @property
    def limits(self) -> dict[str, Any]:
        """The limits of the checks: all keys except those that say how to examine."""
        return self.model_dump(exclude={"at_end", "answers", "facts", "samples", "judge"})

    def applies(self, probe: str) -> bool:
        """Whether the labels say anything about this probe."""
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
