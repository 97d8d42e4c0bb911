"""The results of a comparison as data: methods, pairs, and what the comparison can find. Knows no file."""

from dataclasses import dataclass
from typing import Any

from workbench.compare.paired import LEVEL, Interval, SelfTest, Variances


@dataclass(frozen=True)
class Cell:
    """A number with its interval."""

    mean: float
    low: float
    high: float
    p: float = 1.0
    """Of no difference, before Holm's correction; 1 where nothing is tested."""

    @classmethod
    def of(cls, found: Interval, index: Any = ()) -> "Cell":
        """One entry of an array of intervals."""
        return cls(*(float(part[index]) for part in (found.mean, found.low, found.high, found.p)))


@dataclass(frozen=True)
class Point:
    """One point of the frontier, mean over seeds."""

    kl: float
    """Nats per answer."""
    gold: float


@dataclass(frozen=True)
class Standing:
    """How one method stands among the others."""

    gold: Cell
    """Gold reward or score per answer."""
    gain: Cell
    """The same above the supervised model's."""
    gain_p: float
    """Of no gain, after Holm's correction over all pairs of methods."""
    first_share: float
    """Share of resamples in which it is the best method."""


@dataclass(frozen=True)
class MethodResult:
    """The measurements of one method, over all seeds."""

    name: str
    family: str
    """`supervised`, `reinforcement`, `contrastive` or `sampling`."""
    standing: Standing
    win_rate: Cell
    """Against the supervised model, ties ½."""
    win_rate_length_controlled: Cell
    kl: Cell | None
    length: float
    """Tokens per answer."""
    eos_rate: float
    distinct_2: float | None
    unique_share: float
    tax: Cell | None
    """Alignment tax: nats per token that held-out demonstrations became less likely than under the supervised model."""
    seconds: float
    """Of its training; of sampling and measuring, if nothing is trained. Without what all methods share."""
    peak_gib: float
    """Largest memory of that process: of the GPU if there is one, else resident."""
    needs_reward: bool
    """Whether it reads the reward model."""
    path: list[Point]
    """Within training, or best-of-n for n = 1, 2, 4, …; the last point alone if training sampled nothing."""


@dataclass(frozen=True)
class Pair:
    """The difference of two methods."""

    first: str
    second: str
    difference: Cell
    adjusted_p: float
    """After Holm's correction over all pairs."""

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return self.adjusted_p < LEVEL


@dataclass(frozen=True)
class Power:
    """How small a difference this comparison can find."""

    gain: float
    power: float
    """Chance to find it at the size of this comparison, seeds included."""
    parts: Variances
    needed: tuple[int, int] | None
    """Seeds and prompts that would find it four times in five; None: more than 64 seeds and eight times the prompts."""


@dataclass(frozen=True)
class Comparison:
    """All results."""

    methods: list[MethodResult]
    """Best first."""
    pairs: list[Pair]
    judge: str
    """`gold` or `score`."""
    test: SelfTest
    power: Power | None
    """None with one seed."""
    seeds: tuple[int, ...]
    prompts: int
    answers: int
    """Per prompt."""
    seconds: float
    """Of all commands."""
    shared_seconds: dict[str, float]
    """Mean per seed of what the methods share: `sft`, `labels`, `reward`."""
