"""What the evaluation of one run holds, and its file `evaluation.json`. Knows no model and no formula."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from workbench.evaluate.metrics import Bin
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.win_rate import WinRate
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

VERSION = 1


@dataclass(frozen=True)
class Answer:
    """One sampled answer with everything that was measured about it."""

    prompt_id: str
    prompt: list[dict[str, str]]
    """Messages, `role` and `content`."""
    response: str
    ended: bool
    """Whether the policy ended it by itself (EOS) before the limit."""
    tokens: int
    """Response tokens, EOS included."""
    gold: float | None = None
    """The truth's points, where the truth knows this prompt."""
    gold_parts: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    """The judging reward model's score."""
    kl: float | None = None
    """Exact KL(policy ‖ reference), summed over the answer's tokens, nats."""
    ids: tuple[int, ...] = ()
    """Token ids as sampled, EOS included: what was scored. The text, encoded again, is often another sequence."""


@dataclass(frozen=True)
class TrajectoryPoint:
    """The answers sampled at one step of training, looked at afterwards."""

    step: int
    score: float | None
    """Mean score the training itself saw."""
    gold: float | None
    """Mean of the truth, which the training did not see."""
    gold_error: float | None
    """Standard error of that mean; None with fewer than two answers."""
    kl: float | None
    """Distance to the reference at this step, nats per answer."""
    count: int
    """Answers."""


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy's answers to held-out prompts look like. Intervals: bootstrap over prompts, 95 %."""

    gold: Estimate | None
    """The truth's points per answer, at most 1; None where no truth is known."""
    gold_parts: dict[str, Estimate]
    reward_model_score: Estimate | None
    """Mean score by the reward run named in `sources`."""
    kl: Estimate | None
    """Exact KL to the reference, nats per answer; None for a run without a reference."""
    kl_sampled: Estimate | None
    """The same by sampling, Σ_t log π − log ρ: a noisier estimate of the same number."""
    perplexity: Estimate | None
    """exp of nats per token of held-out demonstrations' responses, EOS included. `count` counts tokens."""
    length: Estimate
    """Tokens per answer, EOS included."""
    eos_rate: Estimate
    """Share of answers that ended by themselves."""
    distinct: dict[str, float | None]
    """Distinct-n over word n-grams of all answers, n = 1, 2, 3."""
    unique_share: float
    """Share of different answers."""
    length_correlation: float | None
    """Pearson, score against tokens over all answers; None without a score."""
    win_rate: WinRate | None
    """Against `opponent`, on the same prompts."""
    opponent: str | None
    judge: str | None
    """Who decided the wins: `gold` or `reward model`."""
    samples_per_prompt: int
    temperature: float
    trajectory: list[TrajectoryPoint]
    answers: list[Answer]


@dataclass(frozen=True)
class RewardEvaluation:
    """How far a reward model can be trusted, on held-out preference pairs."""

    accuracy: Estimate
    """Share of pairs whose chosen answer scores higher, ties ½. `count` counts pairs without ties."""
    gold_accuracy: Estimate | None
    """How often the scores order two answers as the truth does, over pairs that the truth tells apart."""
    noise_ceiling: Estimate | None
    """How often the truth orders the same pairs as their labels do: what a perfect model would reach."""
    ece: float
    """Expected calibration error of σ(|gap|), equal-mass bins."""
    ece_by_chance: float
    """What a perfectly honest model would show on so few pairs."""
    brier: float
    """Mean squared error of σ(gap): ¼ is a coin."""
    reliability: list[Bin]
    by_margin: list[Bin]
    """Accuracy in quarters by |gap|."""
    length_correlation: float | None
    """Pearson, score against words, all answers."""
    length_correlation_within: float | None
    """The same between answers to one prompt."""
    label_length_bias: float | None
    """Share of pairs whose label prefers the longer answer (words), equal lengths left out; ½ is none."""
    score_mean: float
    score_sd: float
    ties_left_out: int
    """Pairs labelled a tie: they cannot be right or wrong."""
    by_category: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy within each category that the pairs name, the most frequent first."""
    max_length: int | None = None
    """`data.max_length` of the run: longer pairs are in none of the figures but the next two."""
    longer_pairs: int = 0
    """Held-out pairs that are longer."""
    longer_accuracy: Estimate | None = None
    """Accuracy on those of them that the base has positions for."""
    longer_wins: Estimate | None = None
    """Accuracy of a judge who prefers the answer with more words, equal lengths ½: what a score must beat."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one run."""

    run: str
    """Folder of the run."""
    phase: str
    seed: int
    """Of sampling and of every bootstrap."""
    sources: dict[str, str]
    """What it was measured with: role (prompts, demonstrations, preferences, reward_run …) → path."""
    policy: PolicyEvaluation | None = None
    reward_model: RewardEvaluation | None = None
    version: int = VERSION

    def save(self, path: Path) -> None:
        """Write `evaluation.json` whole or not at all."""
        write_text_atomically(path, _SCHEMA.dump_json(self, indent=1).decode() + "\n")


_SCHEMA = TypeAdapter(Evaluation)


def evaluate_command(run: Path) -> str:
    """The command that makes a run's evaluation."""
    return f"python -m workbench evaluate {run}"


def read_evaluation(run: Path) -> Evaluation:
    """The evaluation of a run.

    Raises:
        WorkbenchError: there is no such run, it was not evaluated, or the file is of another version.
    """
    path = RunFolder.open(run).evaluation_path
    if not path.is_file():
        raise WorkbenchError(path, "this run has not been evaluated", remedy=evaluate_command(run))
    try:
        return _SCHEMA.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise WorkbenchError(
            path,
            f"{place}: {first['msg']}",
            expected=f"an evaluation of version {VERSION}",
            remedy=f"make it again: {evaluate_command(run)}",
        ) from None
