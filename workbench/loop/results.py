"""From the files of finished rounds to the table of a loop. Knows files and numbers, no model."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.readers import read_preferences
from workbench.evaluate.evaluation import PolicyEvaluation, load_evaluation
from workbench.evaluate.statistics import Estimate, bootstrap_interval
from workbench.loop.config import LastSection, LoopConfig
from workbench.loop.control import Control, control
from workbench.loop.outlook import Outlook, outlook, recommendation
from workbench.loop.plan import Round
from workbench.run.steps import Ledger

UNITS = {"gold": "gold reward", "judge": "points by the judge"}
"""Of a gain."""


@dataclass(frozen=True)
class Verdict:
    """What the passport of a round's reward model says."""

    outcome: str
    """`pass`, `fail`, or `none` if the reward run was not examined."""
    failed: list[str]
    """Checks that fail."""
    accuracy: Estimate | None
    """On held-out labels of all rounds so far."""


@dataclass(frozen=True)
class RoundResult:
    """One round; round 0 is the supervised model."""

    number: int
    labels: int
    """Labelled pairs of all rounds so far."""
    new_labels: int
    """Of them, pairs sampled in this round."""
    quality: Estimate | None
    """Gold reward, or the judge's score; None if each round has another judge."""
    gain: Estimate | None
    """Over the supervised model, on the same prompts."""
    step_gain: Estimate | None
    """Over the round before, on the same prompts."""
    parts: dict[str, Estimate]
    """Parts of the gold reward."""
    win_rate: Estimate | None
    """Against the supervised model."""
    kl: Estimate | None
    """To the supervised model, nats per answer."""
    length: Estimate
    """Tokens per answer."""
    verdict: Verdict | None
    """None for round 0."""
    seconds: float
    """Of the round's commands, the time in which people label included."""


@dataclass(frozen=True)
class LoopResult:
    """All finished rounds."""

    rounds: list[RoundResult]
    judge: str
    """`gold`, `judge`, or `none`."""
    alike: int
    """Rounds from the first on that are trained alike; a last round with values of its own is not."""
    outlook: Outlook | None
    """What further labels buy, from the rounds that are trained alike; None without one, or if rounds cannot be
    compared."""
    control: Control | None
    """The strategy's labels against random ones; None if the strategy asks no reward model, or before round 2."""


def loop_result(config: LoopConfig, ledger: Ledger, last: int) -> LoopResult:
    """The results of the rounds 0 to `last`.

    Raises:
        WorkbenchError: an evaluation or file of preferences is missing or broken.
    """
    rounds = [Round(config, number) for number in range(last + 1)]
    policies = [_policy(this) for this in rounds]
    judge = (
        "gold" if all(policy.gold is not None for policy in policies) else "judge" if config.measure.judge else "none"
    )
    results = [_result(this, policies, judge, ledger) for this in rounds]
    alike = last - 1 if last == config.loop.rounds and config.loop.last != LastSection() else last
    labels = [each.labels for each in results[1 : alike + 1]]
    return LoopResult(
        results,
        judge,
        alike,
        _outlook(labels, policies[: alike + 1], judge, config.loop.labels),
        control(rounds[1:]),
    )


def _outlook(labels: Sequence[int], policies: Sequence[PolicyEvaluation], judge: str, more: int) -> Outlook | None:
    if judge == "none":
        return None
    start = _by_prompt(policies[0], judge)
    after = [_by_prompt(policy, judge) for policy in policies[1:]]
    return outlook(labels, np.array([[each[name] - start[name] for name in start] for each in after]), more)


def _policy(this: Round) -> PolicyEvaluation:
    remedy = f"delete {this.evaluation} and the entry of round {this.number} measure in steps.json, and start again"
    policy = load_evaluation(this.evaluation, remedy=remedy).policy
    assert policy is not None  # every round ends with a policy
    return policy


def _result(this: Round, policies: list[PolicyEvaluation], judge: str, ledger: Ledger) -> RoundResult:
    number, policy = this.number, policies[this.number]
    by_round = Counter(record.round for record in read_preferences(this.labels)) if number else Counter[int]()
    known = number > 0 and judge != "none"
    wins = policy.win_rate
    return RoundResult(
        number=number,
        labels=by_round.total(),
        new_labels=by_round[number],
        quality={"gold": policy.gold, "judge": policy.reward_model_score, "none": None}[judge],
        gain=_gain(policy, policies[0], judge) if known else None,
        step_gain=_gain(policy, policies[number - 1], judge) if known else None,
        parts=policy.gold_parts,
        win_rate=Estimate(wins.mean, wins.low, wins.high, wins.count, wins.prompts) if wins is not None else None,
        kl=policy.kl if number else None,
        length=policy.length,
        verdict=read_verdict(this.reward) if number else None,
        seconds=sum(
            float(step["seconds"]) for name, step in ledger.done.items() if name.startswith(f"round {number} ")
        ),
    )


def _gain(policy: PolicyEvaluation, other: PolicyEvaluation, judge: str) -> Estimate:
    """Mean difference of two policies' values per prompt, with a bootstrap interval over prompts."""
    means = [_by_prompt(each, judge) for each in (policy, other)]
    return bootstrap_interval([means[0][prompt] - means[1][prompt] for prompt in means[0]], seed=0)


def _by_prompt(policy: PolicyEvaluation, judge: str) -> dict[str, float]:
    """Mean value of the answers to each prompt."""
    name = "gold" if judge == "gold" else "score"
    values: dict[str, list[float]] = {}
    for answer in policy.answers:
        values.setdefault(answer.prompt_id, []).append(float(getattr(answer, name)))
    return {prompt: sum(found) / len(found) for prompt, found in values.items()}


def read_verdict(run: Path) -> Verdict:
    """The verdict in a reward run's passport."""
    path = run / "passport.json"
    if not path.is_file():
        return Verdict("none", [], None)
    passport: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    accuracy = passport["findings"].get("accuracy")
    return Verdict(passport["outcome"], list(passport["failed"]), Estimate(**accuracy) if accuracy else None)


def as_json(found: LoopResult, config: LoopConfig) -> dict[str, Any]:
    """Everything as plain values."""
    section = config.loop
    return {
        "judge": found.judge,
        "strategy": section.strategy,
        "annotators": section.annotators,
        "labels_per_round": section.labels,
        "seed": section.seed,
        "rounds": [asdict(each) for each in found.rounds],
        "outlook": asdict(found.outlook) | {"recommendation": recommendation(found.outlook, UNITS[found.judge])}
        if found.outlook
        else None,
        "control": asdict(found.control) | {"difference": found.control.difference} if found.control else None,
    }
