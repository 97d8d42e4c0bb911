"""From the evaluations of a finished comparison to its table. Knows files and numbers, no model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.compare.comparison import Cell, Comparison, MethodResult, Pair, Point, Power, Standing
from workbench.compare.config import BASELINE, CompareConfig, MethodSection
from workbench.compare.paired import (
    Interval,
    all_pairs,
    combined,
    differences,
    first_shares,
    holm,
    interval,
    power,
    self_test,
    size_for,
    variances,
)
from workbench.compare.plan import Shared, all_methods, method_of
from workbench.evaluate.evaluation import PolicyEvaluation, load_evaluation
from workbench.evaluate.statistics import Floats
from workbench.evaluate.win_rate import Comparisons, compare, length_controlled_win_rate
from workbench.run.errors import WorkbenchError
from workbench.run.steps import Ledger

GROUPS = 20
"""Of prompts, in the jackknife of the length-controlled win rate: each takes a logistic fit per seed."""


Policies = list[list[PolicyEvaluation]]
"""(M methods, S seeds)."""


def compare_methods(config: CompareConfig, ledger: Ledger) -> Comparison:
    """The results of a finished comparison.

    Raises:
        WorkbenchError: an evaluation is missing or broken, or the methods answered different prompts.
    """
    rows, seeds = all_methods(config), config.compare.seeds
    policies = [[_policy(config, row, seed) for seed in seeds] for row in rows]
    judge, answers = judged(policies)
    values = answers.mean(-1)
    apart = differences(values)
    adjusted = holm(apart.p)
    methods = [
        _method_result(row, own, policies[0], judge, standing, _steps_of(row, seeds, ledger))
        for row, own, standing in zip(rows, policies, standings(values, apart, adjusted), strict=True)
    ]
    pairs = [
        Pair(rows[i].name, rows[j].name, Cell.of(apart, number), float(adjusted[number]))
        for number, (i, j) in enumerate(all_pairs(len(rows)))
    ]
    return Comparison(
        methods=sorted(methods, key=lambda method: -method.standing.gold.mean),
        pairs=pairs,
        judge=judge,
        test=self_test(answers, gain=config.measure.gain, seed=0),
        power=_power(values, config.measure.gain) if len(seeds) > 1 else None,
        seeds=seeds,
        prompts=values.shape[-1],
        answers=answers.shape[-1],
        seconds=sum(float(step["seconds"]) for step in ledger.done.values()),
        shared_seconds=_shared_seconds(ledger, len(seeds)),
    )


def _policy(config: CompareConfig, row: MethodSection, seed: int) -> PolicyEvaluation:
    path = Shared.of(config, seed).evaluation(row.name)
    remedy = f"delete {path} and the entry of seed {seed} measure {row.name} in steps.json, and start again"
    policy = load_evaluation(path, remedy=remedy).policy
    assert policy is not None  # every row is a policy
    return policy


def judged(policies: Policies) -> tuple[str, Floats]:
    """The judge, and (M, S, G, A) what it gave to every answer: the gold reward if it is known, else the score.

    Raises:
        WorkbenchError: the methods answered different prompts.
    """
    flat = [policy for seeds in policies for policy in seeds]
    ids = [answer.prompt_id for answer in flat[0].answers]
    if any([answer.prompt_id for answer in policy.answers] != ids for policy in flat):
        raise WorkbenchError("compare", "the methods answered different prompts", remedy="another compare.out")
    judge = "gold" if all(answer.gold is not None for policy in flat for answer in policy.answers) else "score"
    prompts = len(dict.fromkeys(ids))
    table = [[[getattr(answer, judge) for answer in policy.answers] for policy in seeds] for seeds in policies]
    return judge, np.array(table, dtype=np.float64).reshape(len(policies), len(policies[0]), prompts, -1)


def standings(values: Floats, apart: Interval, adjusted: Floats) -> list[Standing]:
    """M standings from (M, S, G) values, the baseline's first, and the differences of all pairs with adjusted p."""
    found, firsts = interval(values), first_shares(values, seed=0)
    gains = [Cell(0.0, 0.0, 0.0)]
    for number in range(len(values) - 1):  # the pairs with the baseline come first, as baseline − method
        cell = Cell.of(apart, number)
        gains.append(Cell(-cell.mean, -cell.high, -cell.low, cell.p))
    gains_p = [1.0, *adjusted[: len(values) - 1].tolist()]
    return [
        Standing(Cell.of(found, number), gains[number], gains_p[number], float(firsts[number]))
        for number in range(len(values))
    ]


def _steps_of(row: MethodSection, seeds: Sequence[int], ledger: Ledger) -> list[dict[str, Any]]:
    """Time and memory of a method's own command of each seed: its training, or its measurement if it trains nothing."""
    part = "measure" if row.config is None else "train"
    return [ledger.done[f"seed {seed} {part} {row.name}"] for seed in seeds]


def _method_result(
    row: MethodSection,
    policies: Sequence[PolicyEvaluation],
    baseline: Sequence[PolicyEvaluation],
    judge: str,
    standing: Standing,
    steps: Sequence[dict[str, Any]],
) -> MethodResult:
    method = method_of(row)
    family = "reinforcement" if method == "ppo" else "contrastive"
    if method is None:
        family = "supervised" if row.name == BASELINE else "sampling"
    wins, controlled = win_rates(policies, baseline, judge)
    distinct = [value for policy in policies if (value := policy.distinct.get("2")) is not None]
    return MethodResult(
        name=row.name,
        family=family,
        standing=standing,
        win_rate=wins,
        win_rate_length_controlled=controlled,
        kl=_kl(policies),
        length=_mean([policy.length.mean for policy in policies]),
        eos_rate=_mean([policy.eos_rate.mean for policy in policies]),
        distinct_2=_mean(distinct) if distinct else None,
        unique_share=_mean([policy.unique_share for policy in policies]),
        tax=_tax(policies, baseline),
        seconds=_mean([float(step["seconds"]) for step in steps]),
        peak_gib=max(float(step["peak_gpu_bytes"] or step["peak_rss_bytes"]) for step in steps) / 2**30,
        needs_reward=method == "ppo" or row.best_of > 1,
        path=frontier(policies, judge, whole=row.best_of > 1),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _kl(policies: Sequence[PolicyEvaluation]) -> Cell | None:
    """KL with an interval over seeds and prompts; None if it is not known."""
    if any(policy.kl is None for policy in policies):
        return None
    table = np.array([[answer.kl for answer in policy.answers] for policy in policies], dtype=np.float64)
    return Cell.of(interval(table.reshape(len(policies), policies[0].length.prompts, -1).mean(-1)))


def _tax(policies: Sequence[PolicyEvaluation], baseline: Sequence[PolicyEvaluation]) -> Cell | None:
    """Difference of log perplexity; the interval is Student's over seeds alone, on the same demonstrations."""
    logs = [
        math.log(own.perplexity.mean) - math.log(other.perplexity.mean)
        for own, other in zip(policies, baseline, strict=True)
        if own.perplexity is not None and other.perplexity is not None
    ]
    return Cell.of(interval(np.array(logs)[:, None])) if logs else None


def frontier(policies: Sequence[PolicyEvaluation], judge: str, *, whole: bool) -> list[Point]:
    """Points of KL and gold, means over seeds: those sampled within training, then the measured end.

    Args:
        policies: of S seeds.
        judge: `gold` or `score`.
        whole: the sampled points are all there is to show, as those of best-of-n.
    """
    points: dict[int, list[Point]] = {}
    for policy in policies:
        for point in policy.trajectory:
            value = point.gold if judge == "gold" else point.score
            if point.kl is not None and value is not None:
                points.setdefault(point.step, []).append(Point(point.kl, value))
    in_all = [found for _, found in sorted(points.items()) if len(found) == len(policies)]
    ends = [] if whole else [_end(policy, judge) for policy in policies]
    known = [end for end in ends if end is not None]
    sampled = in_all if whole else in_all[:-1]  # the last sample is of the policy that was measured
    groups = [*sampled, *([known] if known else [])]
    return [Point(_mean([p.kl for p in group]), _mean([p.gold for p in group])) for group in groups]


def _end(policy: PolicyEvaluation, judge: str) -> Point | None:
    value = policy.gold if judge == "gold" else policy.reward_model_score
    return None if policy.kl is None or value is None else Point(policy.kl.mean, value.mean)


def win_rates(
    policies: Sequence[PolicyEvaluation], baseline: Sequence[PolicyEvaluation], judge: str
) -> tuple[Cell, Cell]:
    """Win rate against the baseline and the same at equal length, with intervals over seeds and prompts.

    The controlled rate is fitted per seed; its error over prompts is a jackknife that leaves out the same group of
    prompts in each seed.
    """
    compared = [
        compare(_sides(own, judge), _sides(other, judge)) for own, other in zip(policies, baseline, strict=True)
    ]
    prompts = compared[0].prompts
    place = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    index = np.array([place[prompt] for prompt in prompts])
    table = np.stack([np.bincount(index, weights=each.outcomes * each.weights) for each in compared])
    plain = Cell.of(interval(np.asarray(table - 0.5, dtype=np.float64)))
    by_seed = np.array([_controlled(each, each.weights) for each in compared])
    without = np.array(
        [
            np.mean([_controlled(each, each.weights * (index % GROUPS != group)) for each in compared])
            for group in range(GROUPS)
        ]
    )
    seeds = len(compared)
    seed_variance = np.array(by_seed.var(ddof=1) / seeds if seeds > 1 else 0.0)
    prompt_variance = np.array((GROUPS - 1) * without.var())
    spread = combined(np.array(by_seed.mean() - 0.5), seed_variance, seeds - 1, prompt_variance, GROUPS - 1)
    return _around_half(plain), _around_half(Cell.of(spread))


def _around_half(cell: Cell) -> Cell:
    """A win rate from its difference to ½."""
    return Cell(cell.mean + 0.5, cell.low + 0.5, cell.high + 0.5, cell.p)


def _controlled(compared: Comparisons, weights: Floats) -> float:
    return length_controlled_win_rate(compared.outcomes, compared.length_differences, weights=weights)


def _sides(policy: PolicyEvaluation, judge: str) -> list[tuple[str, float, float]]:
    return [(answer.prompt_id, getattr(answer, judge), float(answer.tokens)) for answer in policy.answers]


def _power(values: Floats, gain: float) -> Power:
    parts, (methods, seeds, prompts) = variances(values), values.shape
    return Power(
        gain=gain,
        power=power(gain, parts, methods=methods, seeds=seeds, prompts=prompts),
        parts=parts,
        needed=size_for(gain, parts, methods=methods, prompts=prompts),
    )


def _shared_seconds(ledger: Ledger, seeds: int) -> dict[str, float]:
    totals: dict[str, float] = {}
    for name, step in ledger.done.items():
        part = name.split(" ")[2].split("-")[0]
        if part in ("sft", "labels", "reward"):
            totals[part] = totals.get(part, 0.0) + float(step["seconds"]) / seeds
    return totals
