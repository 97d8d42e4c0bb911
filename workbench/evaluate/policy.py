"""The evaluation of a policy: sample answers to held-out prompts and measure them.

The model and the gold reward are passed in.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.data.records import Demonstration, Message, Prompt
from workbench.evaluate.evaluation import Answer, PolicyEvaluation, TrajectoryPoint
from workbench.evaluate.metrics import correlation, distinct_n, unique_share
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval, bootstrap_ratio, share_interval
from workbench.evaluate.win_rate import WinRate, compare, win_rate
from workbench.run.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.model.generate import Sampled


class GoldLike(Protocol):
    """The gold reward of one answer: a dataclass whose other numeric fields are its parts."""

    @property
    def total(self) -> float:
        """Points, at most 1."""
        ...


Gold = Callable[[Sequence[Message], str, bool], GoldLike | None]
"""(prompt, response, ended) → the gold reward, or None for a prompt that it does not cover."""


class Score(Protocol):
    """A reward model."""

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores. Scores the token ids of a response if they are given, else its text encoded again."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How held-out prompts are answered. Runs that are compared use the same values."""

    samples_per_prompt: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 64
    """Rows per forward pass. Sampled answers depend on it."""
    seed: int = 0
    """Seeds sampling and all bootstraps."""

    def as_sources(self) -> dict[str, str]:
        """The values that `evaluation.json` lists under `sources`."""
        return {"max_new_tokens": str(self.max_new_tokens), "batch_size": str(self.batch_size)}


class Policy(Protocol):
    """The model calls that an evaluation makes."""

    @property
    def sampling(self) -> Sampling:
        """How it answers."""
        ...

    def sample(self, prompts: Sequence[Prompt]) -> "Sequence[Sequence[Sampled]]":
        """(len(prompts), samples_per_prompt) answers."""
        ...

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[Sequence[int]]
    ) -> tuple[Floats, Floats] | None:
        """(N,) Σ_t log π − log ρ and (N,) exact Σ_t KL(π ‖ ρ), in nats, of token ids; None without a reference."""
        ...

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """(N,) nats of each response including EOS, and (N,) its number of tokens."""
        ...


@dataclass(frozen=True)
class Opponent:
    """The policy to compare with."""

    name: str
    """For the report."""
    answers: Sequence[Answer]
    """To the same prompts."""


def evaluate_policy(
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    demonstrations: Sequence[Demonstration] = (),
    gold: Gold | None = None,
    score: Score | None = None,
    opponent: Opponent | None = None,
    trajectory: Sequence[TrajectoryPoint] = (),
) -> PolicyEvaluation:
    """Sample answers to held-out prompts and measure them.

    Args:
        policy: the model.
        prompts: held-out prompts.
        demonstrations: held-out, for the perplexity; empty: no perplexity.
        gold: the gold reward, if it is known.
        score: the reward model that scores the answers, if any.
        opponent: for the win rate; None: no win rate.
        trajectory: from `trace`.
    """
    sampling = policy.sampling
    seed = sampling.seed
    answers, sampled_kl = _answers_with_kl(policy, prompts)
    answers = judge_answers(answers, gold=gold, score=score)
    ids, texts = [answer.prompt_id for answer in answers], [answer.response for answer in answers]
    scores = [answer.score for answer in answers if answer.score is not None]
    wins, judge = None, None
    if opponent:
        wins, judge = _win_rate(answers, judge_answers(opponent.answers, gold=gold, score=score), seed=seed)
    return PolicyEvaluation(
        gold=_estimate(answers, lambda answer: answer.gold, seed=seed),
        gold_parts=_gold_parts(answers, seed=seed),
        reward_model_score=_estimate(answers, lambda answer: answer.score, seed=seed),
        kl=_estimate(answers, lambda answer: answer.kl, seed=seed),
        kl_sampled=None if sampled_kl is None else bootstrap_interval(sampled_kl, ids, seed=seed),
        perplexity=perplexity(policy, demonstrations) if demonstrations else None,
        length=bootstrap_interval([float(answer.tokens) for answer in answers], ids, seed=seed),
        eos_rate=share_interval([float(answer.ended) for answer in answers], ids),
        distinct={str(n): distinct_n(texts, n) for n in (1, 2, 3)},
        unique_share=unique_share(texts),
        length_correlation=correlation(scores, [answer.tokens for answer in answers]) if scores else None,
        win_rate=wins,
        opponent=opponent.name if opponent and wins else None,
        judge=judge,
        samples_per_prompt=sampling.samples_per_prompt,
        temperature=sampling.temperature,
        trajectory=list(trajectory),
        answers=answers,
    )


def sampled_answers(policy: Policy, prompts: Sequence[Prompt]) -> list[Answer]:
    """The policy's answers to each prompt, in order, not judged yet."""
    return [
        Answer(
            prompt_id=prompt.id,
            prompt=[message.model_dump() for message in prompt.prompt],
            response=sampled.text,
            ended=sampled.ended,
            tokens=len(sampled.ids),
            ids=sampled.ids,
        )
        for prompt, answers in zip(prompts, policy.sample(prompts), strict=True)
        for sampled in answers
    ]


def _answers_with_kl(policy: Policy, prompts: Sequence[Prompt]) -> tuple[list[Answer], Floats | None]:
    """The answers with their exact KL, and (N,) the sampled KL; None without a reference."""
    answers = sampled_answers(policy, prompts)
    messages = [prompt.prompt for prompt in prompts for _ in range(policy.sampling.samples_per_prompt)]
    divergence = policy.divergence(messages, [answer.ids for answer in answers])
    if divergence is None:
        return answers, None
    sampled, exact = divergence
    return [dataclasses.replace(answer, kl=float(kl)) for answer, kl in zip(answers, exact, strict=True)], sampled


def judge_answers(answers: Sequence[Answer], *, gold: Gold | None, score: Score | None) -> list[Answer]:
    """The answers with their gold reward and their score, if those judges are given."""
    prompts = [[Message.model_validate(message) for message in answer.prompt] for answer in answers]
    scores: Sequence[float | None] = [None] * len(answers)
    if score is not None and answers:
        texts, ended = [answer.response for answer in answers], [answer.ended for answer in answers]
        scores = finite_scores(score(prompts, texts, ended, [answer.ids for answer in answers])).tolist()
    judged = []
    for answer, prompt, scored in zip(answers, prompts, scores, strict=True):
        points = gold(prompt, answer.response, answer.ended) if gold is not None else None
        judged.append(
            dataclasses.replace(
                answer,
                score=scored,
                gold=None if points is None else float(points.total),
                gold_parts={} if points is None else _parts(points),
            )
        )
    return judged


def perplexity(policy: Policy, demonstrations: Sequence[Demonstration]) -> Estimate:
    """exp(Σ nats / Σ tokens) of the demonstrations' responses, with a bootstrap over demonstrations."""
    nats, tokens = policy.negative_log_likelihood(
        [demonstration.prompt for demonstration in demonstrations],
        [demonstration.response for demonstration in demonstrations],
    )
    rate = bootstrap_ratio(nats, tokens, seed=policy.sampling.seed)
    return Estimate(math.exp(rate.mean), math.exp(rate.low), math.exp(rate.high), rate.count, rate.prompts)


def trace(
    samples: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]], *, gold: Gold | None
) -> list[TrajectoryPoint]:
    """Mean score, gold reward and KL of the answers that training sampled, per step.

    Args:
        samples: rows of samples.jsonl.
        metrics: rows of metrics.jsonl. A step's KL is `heldout/kl` (exact, of these answers), else the mean `kl` of
            its samples, else `objective/kl`.
        gold: the gold reward; training did not see it.
    """
    exact, on_training = (
        {row["step"]: float(row[name]) for row in metrics if row.get(name) is not None}
        for name in ("heldout/kl", "objective/kl")
    )
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for row in samples:
        by_step.setdefault(int(row["step"]), []).append(row)
    points = []
    for step, rows in sorted(by_step.items()):
        scores = [float(row["score"]) for row in rows if row.get("score") is not None]
        nats = [float(row["kl"]) for row in rows if row.get("kl") is not None]
        totals = [] if gold is None else [total for row in rows if (total := _gold_of_row(row, gold)) is not None]
        points.append(
            TrajectoryPoint(
                step=step,
                score=float(np.mean(scores)) if scores else None,
                gold=float(np.mean(totals)) if totals else None,
                gold_error=float(np.std(totals, ddof=1)) / math.sqrt(len(totals)) if len(totals) > 1 else None,
                kl=exact.get(step, float(np.mean(nats)) if nats else on_training.get(step)),
                count=len(rows),
            )
        )
    return points


def _gold_of_row(row: Mapping[str, Any], gold: Gold) -> float | None:
    prompt = [Message.model_validate(message) for message in row["prompt"]]
    points = gold(prompt, row["response"], bool(row.get("ended", True)))
    return None if points is None else float(points.total)


def _win_rate(own: Sequence[Answer], other: Sequence[Answer], *, seed: int) -> tuple[WinRate | None, str | None]:
    if not {answer.prompt_id for answer in own} & {answer.prompt_id for answer in other}:
        raise WorkbenchError(
            "win rate",
            "the two runs answered no prompt in common",
            remedy="evaluate both runs with the same prompts file",
        )
    for judge, points in (("gold", "gold"), ("reward model", "score")):
        sides = [[(a.prompt_id, getattr(a, points), float(a.tokens)) for a in side] for side in (own, other)]
        if all(value is not None for side in sides for _, value, _ in side):
            return win_rate(compare(*sides), seed=seed), judge
    return None, None


def _estimate(answers: Sequence[Answer], read: Callable[[Answer], float | None], *, seed: int) -> Estimate | None:
    known = [(answer.prompt_id, value) for answer in answers if (value := read(answer)) is not None]
    if not known:
        return None
    return bootstrap_interval([value for _, value in known], [prompt for prompt, _ in known], seed=seed)


def _gold_parts(answers: Sequence[Answer], *, seed: int) -> dict[str, Estimate]:
    names = dict.fromkeys(name for answer in answers for name in answer.gold_parts)
    parts = {}
    for name in names:
        part = _estimate(answers, lambda answer, name=name: answer.gold_parts.get(name), seed=seed)  # type: ignore[misc]
        if part is not None:
            parts[name] = part
    return parts


def _parts(points: GoldLike) -> dict[str, float]:
    if not dataclasses.is_dataclass(points) or isinstance(points, type):
        return {}
    return {
        name: float(value)
        for name, value in dataclasses.asdict(points).items()
        if name != "total" and isinstance(value, int | float)
    }


def finite_scores(scores: Floats) -> Floats:
    """The scores as float64.

    Raises:
        WorkbenchError: a score is infinite or NaN.
    """
    if not np.isfinite(scores).all():
        raise WorkbenchError(
            "reward model",
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite",
            remedy="train the reward run again with a lower learning rate",
        )
    return np.asarray(scores, dtype=np.float64)
