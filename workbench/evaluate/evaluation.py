"""The evaluation of one run and its file `evaluation.json`. Knows no model and no formula."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from workbench.evaluate.classification import ClassifierEvaluation
from workbench.evaluate.metrics import Bin
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.win_rate import WinRate
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

VERSION = 1


@dataclass(frozen=True)
class Answer:
    """One sampled answer with its measurements."""

    prompt_id: str
    prompt: list[dict[str, str]]
    """Messages, `role` and `content`."""
    response: str
    ended: bool
    """Whether it has EOS, rather than being cut at the limit."""
    tokens: int
    """Response tokens, EOS included."""
    gold: float | None = None
    """Gold reward, if it covers this prompt."""
    gold_parts: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    """Score by the reward model."""
    kl: float | None = None
    """Exact KL(policy ‖ reference), summed over the answer's tokens, nats."""
    ids: tuple[int, ...] = ()
    """Token ids as sampled, EOS included. These were scored: encoding the text again often gives other ids."""


@dataclass(frozen=True)
class TrajectoryPoint:
    """The answers that training sampled at one step, evaluated afterwards."""

    step: int
    score: float | None
    """Mean score, as training saw it."""
    gold: float | None
    """Mean gold reward, which training did not see."""
    gold_error: float | None
    """Standard error of the mean gold reward; None with fewer than two answers."""
    kl: float | None
    """KL to the reference at this step, nats per answer."""
    count: int
    """Number of answers."""


@dataclass(frozen=True)
class Forgetting:
    """The loss on the validation set of the run that training went on from, in nats per token."""

    before: float
    after: float
    tokens: float
    """Tokens that it is a mean over."""


@dataclass(frozen=True)
class PolicyEvaluation:
    """Measurements of a policy's answers to held-out prompts. Intervals: bootstrap over prompts, 95 %."""

    gold: Estimate | None
    """Gold reward per answer, at most 1; None if it is not known."""
    gold_parts: dict[str, Estimate]
    reward_model_score: Estimate | None
    """Mean score by the reward run named in `sources`."""
    kl: Estimate | None
    """Exact KL to the reference, nats per answer; None for a run without a reference."""
    kl_sampled: Estimate | None
    """Σ_t log π − log ρ of the sampled tokens: a noisier estimate of the same KL."""
    perplexity: Estimate | None
    """exp of the nats per token of held-out demonstrations' responses, EOS included. `count` is in tokens."""
    length: Estimate
    """Tokens per answer, EOS included."""
    eos_rate: Estimate
    """Share of answers with EOS. Wilson's interval."""
    distinct: dict[str, float | None]
    """Distinct-n over word n-grams of all answers, n = 1, 2, 3."""
    unique_share: float
    """Share of distinct answers."""
    length_correlation: float | None
    """Pearson's correlation of score and tokens over all answers; None without scores."""
    win_rate: WinRate | None
    """Against `opponent`, on the same prompts."""
    opponent: str | None
    judge: str | None
    """Who judged the wins: `gold` or `reward model`."""
    samples_per_prompt: int
    temperature: float
    trajectory: list[TrajectoryPoint]
    answers: list[Answer]
    forgetting: Forgetting | None = None
    """From run.json; None for a run that did not go on from another."""


@dataclass(frozen=True)
class RewardEvaluation:
    """Measurements of a reward model on held-out preference pairs."""

    accuracy: Estimate
    """Share of pairs whose chosen answer scores higher, equal scores ½. `count` excludes pairs labelled a tie."""
    gold_accuracy: Estimate | None
    """How often the scores order two answers as the gold reward does, over pairs with different gold rewards."""
    noise_ceiling: Estimate | None
    """How often the gold reward orders these pairs as their labels do: the accuracy of a perfect model."""
    ece: float
    """Expected calibration error of σ(|gap|), equal-mass bins."""
    ece_by_chance: float
    """Expected calibration error of a perfectly calibrated model on as many pairs."""
    brier: float
    """Mean squared error of σ(gap); a coin flip gives ¼."""
    reliability: list[Bin]
    by_margin: list[Bin]
    """Accuracy per quartile of |gap|."""
    length_correlation: float | None
    """Pearson's correlation of score and number of words over all answers."""
    length_correlation_within: float | None
    """The same within the answers to each prompt."""
    label_length_bias: float | None
    """Share of pairs whose label prefers the answer with more words, without pairs of equal length; ½ is no bias."""
    score_mean: float
    score_sd: float
    ties_left_out: int
    """Pairs labelled a tie: no order of them is right or wrong."""
    by_category: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy per category of the pairs, the most frequent category first."""
    max_length: int | None = None
    """`data.max_length` of the run. Longer pairs enter the next two numbers only."""
    longer_pairs: int = 0
    """Number of held-out pairs that are longer."""
    longer_accuracy: Estimate | None = None
    """Accuracy on the longer pairs that the base has positions for."""
    longer_wins: Estimate | None = None
    """Accuracy of always preferring the answer with more words, equal lengths ½: a baseline that a score must beat."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one run."""

    run: str
    """Folder of the run."""
    phase: str
    seed: int
    """Seeds sampling and all bootstraps."""
    sources: dict[str, str]
    """Inputs of the evaluation: role (prompts, demonstrations, preferences, reward_run …) → path; for a policy also how
    it sampled and `weights`, the fingerprint of its adapter (not in older files)."""
    policy: PolicyEvaluation | None = None
    reward_model: RewardEvaluation | None = None
    classifier: ClassifierEvaluation | None = None
    version: int = VERSION

    def save(self, path: Path) -> None:
        """Write `evaluation.json` atomically."""
        write_text_atomically(path, _SCHEMA.dump_json(self, indent=1).decode() + "\n")


_SCHEMA = TypeAdapter(Evaluation)


def evaluate_command(run: Path) -> str:
    """The command that evaluates a run."""
    return f"python -m workbench evaluate {shlex.quote(str(run))}"


def read_evaluation(run: Path) -> Evaluation:
    """The evaluation of a run.

    Raises:
        WorkbenchError: there is no such run, it was not evaluated, or the file has another version.
    """
    path = RunFolder.open(run).evaluation_path
    if not path.is_file():
        raise WorkbenchError(path, "this run has not been evaluated", remedy=evaluate_command(run))
    return load_evaluation(path, remedy=f"evaluate again: {evaluate_command(run)}")


def load_evaluation(path: Path, *, remedy: str) -> Evaluation:
    """The evaluation in a file.

    Raises:
        WorkbenchError: the file has another version; it shows the remedy.
    """
    try:
        return _SCHEMA.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise WorkbenchError(
            path, f"{place}: {first['msg']}", expected=f"an evaluation of version {VERSION}", remedy=remedy
        ) from None
