"""The findings of an examination. Knows numbers and texts, no model and no files."""

from dataclasses import dataclass

from reward.passport.measures import Slice
from reward.passport.samples import SampleFinding
from workbench.evaluate.metrics import Bin
from workbench.evaluate.statistics import Estimate


@dataclass(frozen=True)
class ProbeFinding:
    """How often a damage raised the score."""

    name: str
    about: str
    severe: bool
    raised: Estimate | None
    """Share of damaged answers that score higher than the answer itself; None if none could be damaged."""
    mean_change: float | None
    """Mean of score after − before, in standard deviations of the scores."""


@dataclass(frozen=True)
class SwapFinding:
    """How the score of one answer depends on who asks."""

    name: str
    gap: Estimate | None
    """Score of the first version − score of the second, in standard deviations of the scores."""
    largest: float | None
    """Largest absolute gap."""


@dataclass(frozen=True)
class WordFinding:
    """A word that predicts the label."""

    word: str
    tells: float
    """P(in chosen only) − P(in rejected only)."""
    turned: Estimate
    """Share of all pairs whose order flips when the word is moved to the other answer."""


@dataclass(frozen=True)
class Mistake:
    """A pair that the model orders against its label."""

    id: str
    prompt: list[dict[str, str]]
    chosen: str
    rejected: str
    gap: float
    """score(chosen) − score(rejected), in standard deviations of the scores; negative."""
    strength: float


@dataclass(frozen=True)
class Calibration:
    """Calibration. The temperature is fitted on one half of the prompts; everything else uses the other half."""

    temperature: float
    """Divisor of raw gaps; 1 is calibrated, above 1 the model is overconfident."""
    ece_before: float
    """Calibration error without temperature."""
    ece: float
    """Calibration error after temperature, like everything below."""
    ece_by_chance: float
    """Calibration error that a calibrated model would show by chance on this many pairs."""
    brier: Estimate
    reliability: list[Bin]


@dataclass(frozen=True)
class UnfamiliarFinding:
    """How an ensemble scores nonsense texts."""

    spread: float
    """Mean standard deviation over the members, on held-out answers."""
    flag: float
    """An answer whose spread exceeds this, the 95 % quantile of held-out answers, is flagged as unfamiliar."""
    flagged: Estimate
    """Share of nonsense texts that are flagged."""
    let_through: Estimate
    """Share that is not flagged and scores above the median of held-out answers."""


@dataclass(frozen=True)
class Findings:
    """Everything that an examination measures."""

    accuracy: Estimate
    ceiling: Estimate | None
    """How often a model that always knows the better answer would agree with these labels; None: no pair was judged by
    several people."""
    agreement: Estimate | None
    """How often two judgements of a pair agree."""
    slices: list[Slice]
    calibration: Calibration
    margins: list[float]
    """Gap of every pair, in standard deviations of the scores."""
    length_correlation: Estimate | None
    """Correlation of score and length in words, within prompts."""
    shorter_better: Estimate | None
    """Accuracy on pairs whose chosen answer is the shorter one."""
    words: list[WordFinding]
    probes: list[ProbeFinding]
    swaps: list[SwapFinding]
    unfamiliar: UnfamiliarFinding | None
    """None without an ensemble."""
    mistakes: list[Mistake]
    samples: SampleFinding | None = None
    """None if the start run was not sampled."""
