"""The evaluation of a policy: sample answers to held-out prompts and measure them.

Knows neither how a model is loaded nor what the truth is: both are passed in.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.data.records import Demonstration, Message, Prompt
from workbench.evaluate.evaluation import Answer, PolicyEvaluation, TrajectoryPoint
from workbench.evaluate.metrics import correlation, distinct_n, unique_share
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval, bootstrap_ratio
from workbench.evaluate.win_rate import WinRate, compare, win_rate
from workbench.run.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.model.generate import Sampled


class GoldLike(Protocol):
    """What the truth says about one answer: a dataclass whose other numbers are its parts."""

    @property
    def total(self) -> float:
        """Points, at most 1."""
        ...


Gold = Callable[[Sequence[Message], str, bool], GoldLike | None]
"""(prompt, response, ended) → the truth, or None where it knows nothing of this prompt."""


class Score(Protocol):
    """A reward model."""

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores; of the token ids of responses where they are given, else of their texts encoded."""
        ...


class Policy(Protocol):
    """What evaluation asks of a model."""

    def sample(
        self, prompts: Sequence[Prompt], *, samples_per_prompt: int, temperature: float, seed: int
    ) -> Sequence[Sequence["Sampled"]]:
        """(len(prompts), samples_per_prompt) answers."""
        ...

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence["Sampled"]
    ) -> tuple[Floats, Floats] | None:
        """(N,) Σ_t log π − log ρ, and (N,) exact Σ_t KL(π ‖ ρ), nats; None without a reference."""
        ...

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """(N,) nats of each response with its EOS, and (N,) its tokens."""
        ...


def evaluate_policy(
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    demonstrations: Sequence[Demonstration] = (),
    gold: Gold | None = None,
    score: Score | None = None,
    opponent: Sequence[Answer] = (),
    opponent_name: str | None = None,
    trajectory: Sequence[TrajectoryPoint] = (),
    samples_per_prompt: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> PolicyEvaluation:
    """Sample answers to held-out prompts and measure them.

    Args:
        policy: the model.
        prompts: held-out prompts; the same for every run that is compared.
        demonstrations: held-out, for the perplexity; none leaves it out.
        gold: the truth, or None where it is not known.
        score: the judging reward model, or None.
        opponent: another policy's answers to the same prompts; none leaves the win rate out.
        opponent_name: how the report names it.
        trajectory: from `trace`.
        samples_per_prompt: answers per prompt.
        temperature: of sampling; answers are never greedy.
        seed: of sampling and of the bootstraps.
    """
    answers, sampled_kl = _sample(policy, prompts, samples_per_prompt, temperature, seed)
    answers = judge_answers(answers, gold=gold, score=score)
    ids, texts = [answer.prompt_id for answer in answers], [answer.response for answer in answers]
    scores = [answer.score for answer in answers if answer.score is not None]
    wins, judge = None, None
    if opponent:
        wins, judge = _win_rate(answers, judge_answers(opponent, gold=gold, score=score), seed=seed)
    return PolicyEvaluation(
        gold=_estimate(answers, lambda answer: answer.gold, seed=seed),
        gold_parts=_gold_parts(answers, seed=seed),
        reward_model_score=_estimate(answers, lambda answer: answer.score, seed=seed),
        kl=_estimate(answers, lambda answer: answer.kl, seed=seed),
        kl_sampled=None if sampled_kl is None else bootstrap_interval(sampled_kl, ids, seed=seed),
        perplexity=perplexity(policy, demonstrations, seed=seed) if demonstrations else None,
        length=bootstrap_interval([float(answer.tokens) for answer in answers], ids, seed=seed),
        eos_rate=bootstrap_interval([float(answer.ended) for answer in answers], ids, seed=seed),
        distinct={str(n): distinct_n(texts, n) for n in (1, 2, 3)},
        unique_share=unique_share(texts),
        length_correlation=correlation(scores, [answer.tokens for answer in answers]) if scores else None,
        win_rate=wins,
        opponent=opponent_name if wins else None,
        judge=judge,
        samples_per_prompt=samples_per_prompt,
        temperature=temperature,
        trajectory=list(trajectory),
        answers=answers,
    )


def _sample(
    policy: Policy, prompts: Sequence[Prompt], samples_per_prompt: int, temperature: float, seed: int
) -> tuple[list[Answer], Floats | None]:
    """The answers with their exact KL, and (N,) the sampled KL; None without a reference."""
    drawn = policy.sample(prompts, samples_per_prompt=samples_per_prompt, temperature=temperature, seed=seed)
    flat = [(prompt, answer) for prompt, answers in zip(prompts, drawn, strict=True) for answer in answers]
    divergence = policy.divergence([prompt.prompt for prompt, _ in flat], [answer for _, answer in flat])
    exact: Sequence[float | None] = [None] * len(flat)
    if divergence is not None:
        exact = [float(kl) for kl in divergence[1]]
    answers = [
        Answer(
            prompt_id=prompt.id,
            prompt=[message.model_dump() for message in prompt.prompt],
            response=answer.text,
            ended=answer.ended,
            tokens=len(answer.ids),
            kl=kl,
            ids=answer.ids,
        )
        for (prompt, answer), kl in zip(flat, exact, strict=True)
    ]
    return answers, None if divergence is None else divergence[0]


def judge_answers(answers: Sequence[Answer], *, gold: Gold | None, score: Score | None) -> list[Answer]:
    """The answers with the truth's points and the reward model's scores, as far as each is given."""
    prompts = [[Message.model_validate(message) for message in answer.prompt] for answer in answers]
    scores: Sequence[float | None] = [None] * len(answers)
    if score is not None and answers:
        texts, ended = [answer.response for answer in answers], [answer.ended for answer in answers]
        scores = finite_scores(score(prompts, texts, ended, [answer.ids for answer in answers])).tolist()
    judged = []
    for answer, prompt, points in zip(answers, prompts, scores, strict=True):
        truth = gold(prompt, answer.response, answer.ended) if gold is not None else None
        judged.append(
            dataclasses.replace(
                answer,
                score=points,
                gold=None if truth is None else float(truth.total),
                gold_parts={} if truth is None else _parts(truth),
            )
        )
    return judged


def perplexity(policy: Policy, demonstrations: Sequence[Demonstration], *, seed: int) -> Estimate:
    """exp(Σ nats / Σ tokens) of the demonstrations' responses, with a bootstrap over demonstrations."""
    nats, tokens = policy.negative_log_likelihood(
        [demonstration.prompt for demonstration in demonstrations],
        [demonstration.response for demonstration in demonstrations],
    )
    rate = bootstrap_ratio(nats, tokens, seed=seed)
    return Estimate(math.exp(rate.mean), math.exp(rate.low), math.exp(rate.high), rate.count, rate.prompts)


def trace(
    samples: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]], *, gold: Gold | None
) -> list[TrajectoryPoint]:
    """What training's own samples were worth, step by step: score, truth and KL.

    Args:
        samples: rows of samples.jsonl.
        metrics: rows of metrics.jsonl. A step's KL is `heldout/kl` (exact, of these very answers), else the mean `kl`
            of its samples, else `objective/kl`.
        gold: the truth, read only now that training is over.
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
        truths = [_truth_of_row(row, gold) for row in rows] if gold is not None else []
        totals = [truth for truth in truths if truth is not None]
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


def _truth_of_row(row: Mapping[str, Any], gold: Gold) -> float | None:
    prompt = [Message.model_validate(message) for message in row["prompt"]]
    truth = gold(prompt, row["response"], bool(row.get("ended", True)))
    return None if truth is None else float(truth.total)


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


def _parts(truth: GoldLike) -> dict[str, float]:
    if not dataclasses.is_dataclass(truth) or isinstance(truth, type):
        return {}
    return {
        name: float(value)
        for name, value in dataclasses.asdict(truth).items()
        if name != "total" and isinstance(value, int | float)
    }


def finite_scores(scores: Floats) -> Floats:
    """The scores, where all are numbers.

    Raises:
        WorkbenchError: some are infinite or not a number.
    """
    if not np.isfinite(scores).all():
        raise WorkbenchError(
            "reward model",
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite",
            remedy="train the reward run again with a lower learning rate",
        )
    return np.asarray(scores, dtype=np.float64)
