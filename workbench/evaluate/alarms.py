"""The warnings of a report. Pure: knows evaluations, no files.

The thresholds are rules of thumb; each warning states its numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.evaluate.evaluation import PolicyEvaluation, RewardEvaluation, TrajectoryPoint
from workbench.evaluate.metrics import kl_limit
from workbench.evaluate.statistics import Estimate, bootstrap_interval

DIVERSITY_KEPT = 0.8
"""Smallest allowed ratio of distinct-n, or unique answers, to the starting policy's."""
EOS_LEAST = 0.95
LENGTH_MOST = 1.3
"""Largest allowed ratio of length to the starting policy's."""
ECE_MOST = 0.08
CEILING_GAP_MOST = 0.08
"""Largest allowed distance of accuracy below the noise ceiling."""
LENGTH_CORRELATION_MOST = 0.3
GOLD_DROP = 0.05
"""Smallest drop in gold reward, from the best steps to the last, that counts as over-optimisation."""
STANDARD_ERRORS = 3.0
"""The drop must exceed this many standard errors: the best of many noisy steps is high by chance alone."""
WINDOW = 3
"""Number of neighbouring sampled steps that are averaged before they are compared."""


@dataclass(frozen=True)
class Alarm:
    """One warning about one run."""

    run: str
    text: str


def gain(policy: PolicyEvaluation, start: PolicyEvaluation) -> Estimate | None:
    """Gain in gold reward over the starting policy, paired by prompt, with a bootstrap over prompts.

    None if the gold reward is not known for both, or they share no prompt.
    """
    own, other = _mean_gold(policy), _mean_gold(start)
    shared = [prompt for prompt in own if prompt in other]
    if not shared:
        return None
    return bootstrap_interval([own[prompt] - other[prompt] for prompt in shared], seed=0)


def _mean_gold(policy: PolicyEvaluation) -> dict[str, float]:
    points: dict[str, list[float]] = {}
    for answer in policy.answers:
        if answer.gold is not None:
            points.setdefault(answer.prompt_id, []).append(answer.gold)
    return {prompt: sum(values) / len(values) for prompt, values in points.items()}


def run_alarms(
    run: str, record: Mapping[str, Any], passport: Mapping[str, Any] | None, validation: Sequence[float]
) -> list[Alarm]:
    """Warnings from a run's own files.

    Args:
        run: its name.
        record: run.json.
        passport: passport.json of a reward run, if there is one.
        validation: `validation/loss` before, during and after training.
    """
    found = []
    if record.get("phase") == "reward" and passport is None:
        found.append("This reward model has no passport: it was never tested.")
    elif passport is not None and passport.get("outcome") != "pass":
        failed = ", ".join(map(str, passport.get("failed", []))) or "the examination"
        found.append(f"This reward model fails its passport: {failed}.")
    for reward, problems in record.get("forced", {}).items():
        found.append(f"PPO was forced to use {reward}, whose passport does not pass: {', '.join(problems)}.")
    recorded = [str(one["text"]) if isinstance(one, dict) else str(one) for one in record.get("warnings", [])]
    found += recorded
    if (
        len(validation) > 1
        and not validation[-1] <= validation[0]
        and not any("validation" in text for text in recorded)
    ):
        found.append(f"Validation loss rose in training: {validation[0]:.3f} → {validation[-1]:.3f} nats per token.")
    return [Alarm(run, text) for text in found]


def policy_alarms(
    run: str, policy: PolicyEvaluation, start: PolicyEvaluation | None, *, optimised: bool = True
) -> list[Alarm]:
    """Warnings about a policy, by itself and compared with the policy it started from.

    Args:
        run: its name.
        policy: its evaluation.
        start: the evaluation of the policy it started from, if any.
        optimised: whether it was trained against a reward model.
    """
    found = [*_alone(policy, optimised)]
    if start is not None:
        found += [*_against_start(policy, start)]
    return [Alarm(run, text) for text in found]


def _alone(policy: PolicyEvaluation, optimised: bool) -> Iterator[str]:
    if policy.eos_rate.mean < EOS_LEAST:
        yield (
            f"Only {policy.eos_rate.mean:.0%} of the answers end with EOS (at least {EOS_LEAST:.0%} is healthy): the "
            "others are cut at the length limit."
        )
    limit = kl_limit(policy.length.mean)
    if policy.kl is not None and policy.kl.mean > limit:
        yield (
            f"KL to the reference is {policy.kl.mean:.1f} nats per answer (above {limit:.0f}): the policy has "
            "moved far from the answers that the reward model was fitted on."
        )
    if policy.judge == "reward model":
        yield (
            "The win rate is judged by the reward model that was also optimised: it shows that training worked, not "
            "that the answers are better."
            if optimised
            else "The win rate is judged by a reward model, which this policy was not trained against."
        )
    if policy.win_rate is not None and policy.win_rate.low <= 0.5 <= policy.win_rate.high:
        yield (
            f"The win rate's interval ({policy.win_rate.low:.2f} to {policy.win_rate.high:.2f}) contains 0.5: "
            "these prompts do not show which policy is better."
        )
    over = over_optimisation(policy.trajectory)
    if over is not None:
        yield over


def _against_start(policy: PolicyEvaluation, start: PolicyEvaluation) -> Iterator[str]:
    lost = [
        f"distinct-{n} {before:.2f} → {after:.2f}"
        for n, after in policy.distinct.items()
        if after is not None and (before := start.distinct.get(n)) is not None and after < DIVERSITY_KEPT * before
    ]
    if policy.unique_share < DIVERSITY_KEPT * start.unique_share:
        lost.append(f"unique answers {start.unique_share:.0%} → {policy.unique_share:.0%}")
    if lost:
        yield (
            f"Diversity fell by more than {1 - DIVERSITY_KEPT:.0%} ({', '.join(lost)}): the answers resemble each "
            "other more than before, which a mean reward does not show."
        )
    ratio = policy.length.mean / start.length.mean
    if ratio > LENGTH_MOST:
        followed = policy.length_correlation is not None and policy.length_correlation > LENGTH_CORRELATION_MOST
        reason = ", and the score rises with length: the policy may have learnt length." if followed else "."
        yield f"Answers are {ratio:.1f} times as long as before training{reason}"
    difference = gain(policy, start)
    if difference is not None and difference.high < 0:
        yield f"The gold reward is {-difference.mean:.2f} lower than that of the policy it started from."
    elif difference is not None and difference.low <= 0:
        yield (
            f"The gain in gold reward ({difference.mean:+.2f}, 95% CI {difference.low:+.2f} to "
            f"{difference.high:+.2f}) may be chance: the interval contains 0."
        )


def over_optimisation(trajectory: Sequence[TrajectoryPoint]) -> str | None:
    """A warning if the gold reward fell after its maximum while the score kept rising.

    Compares means over WINDOW neighbouring steps. The drop must exceed GOLD_DROP and STANDARD_ERRORS of its own
    standard error.
    """
    known = [(p.step, p.gold, p.score, p.gold_error or 0.0) for p in trajectory if None not in (p.gold, p.score)]
    table = np.array(known, dtype=np.float64).reshape(-1, 4)
    if len(table) < 2 * WINDOW:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(table, WINDOW, axis=0)
    step, gold, score = windows[:, :3].mean(-1).T
    error = np.sqrt((windows[:, 3] ** 2).sum(-1)) / WINDOW
    best = int(gold.argmax())
    noise = STANDARD_ERRORS * math.hypot(error[best], error[-1])
    if gold[best] - gold[-1] < max(GOLD_DROP, noise) or score[-1] <= score[best]:
        return None
    return (
        f"Over-optimisation: the gold reward fell from {gold[best]:.2f} around step {step[best]:.0f} to "
        f"{gold[-1]:.2f} around step {step[-1]:.0f}, while the reward model's score rose from {score[best]:.2f} to "
        f"{score[-1]:.2f}. An earlier checkpoint is better."
    )


def reward_alarms(run: str, reward: RewardEvaluation) -> list[Alarm]:
    """Warnings about a reward model."""
    return [Alarm(run, text) for text in _reward_model(reward)]


def _reward_model(reward: RewardEvaluation) -> Iterator[str]:
    if reward.ece > ECE_MOST:
        yield (
            f"Calibration error is {reward.ece:.3f} (above {ECE_MOST}; {reward.ece_by_chance:.3f} is expected by "
            "chance on this many pairs): do not read score gaps as probabilities."
        )
    if reward.accuracy.low <= 0.5:
        yield (
            f"Accuracy {reward.accuracy.mean:.2f} (95% CI from {reward.accuracy.low:.2f}) is not clearly above chance."
        )
    ceiling = reward.noise_ceiling
    if ceiling is not None and reward.accuracy.mean < ceiling.mean - CEILING_GAP_MOST:
        yield (
            f"Accuracy {reward.accuracy.mean:.2f} is {ceiling.mean - reward.accuracy.mean:.2f} below the noise "
            f"ceiling of {ceiling.mean:.2f}: more pairs would help."
        )
    within = reward.length_correlation_within
    if within is not None and abs(within) > LENGTH_CORRELATION_MOST:
        yield (
            f"Among answers to the same prompt, score and length correlate at {within:+.2f}: the reward model favours "
            f"{'longer' if within > 0 else 'shorter'} answers."
        )
