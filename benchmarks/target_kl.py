"""Question: how do PPO runs differ with a limit on the KL of one iteration's move (`train.target_kl`) and without?

Compares two sets of runs of benchmarks.guard, one with the limit and one without. A run and its control have the same
labels, reward model, prompts and seeds.

    python -m benchmarks.guard --runs runs/guard
    python -m benchmarks.guard --runs runs/guard-free --set train.target_kl=0
    python -m benchmarks.target_kl [--bounded runs/guard] [--free runs/guard-free]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import guard
from benchmarks.guard import Course, courses
from benchmarks.record import RESULTS, write_result
from workbench.evaluate.statistics import bootstrap_interval

EXPECTED = "with the limit, fewer runs on sound labels fall below their start, and they end higher"
LAST = 5
"""Observations whose mean is the end of a run."""

Pair = tuple[Course, Course]
"""A run with the limit, and its control without."""


def main(argv: list[str] | None = None) -> int:
    """Compare the two sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bounded", type=Path, default=Path("runs/guard"), help="default: %(default)s")
    parser.add_argument("--free", type=Path, default=Path("runs/guard-free"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS / "target_kl.json")
    arguments = parser.parse_args(argv)
    bounded, free = courses(arguments.bounded), courses(arguments.free)
    shared = {key(course) for course in bounded} & {key(course) for course in free}
    content = {"expected": EXPECTED, **compared(bounded, free)}
    for name, runs in (("bounded", bounded), ("free", free)):
        own = [course for course in runs if key(course) in shared]
        judged = [course for part in guard.PARTS for course in guard.judged_by_others(own, part)]
        content[f"guard, {name}"] = guard.figures(judged)
    write_result(arguments.out, content)
    return 0


def compared(bounded: Sequence[Course], free: Sequence[Course]) -> dict[str, Any]:
    """The PPO runs that both sets have: all on sound labels, all on faulty labels, and each kind.

    The figures of the guard beside them are of all runs that both sets have, contrastive ones too.
    """
    others = {key(course): course for course in free}
    pairs = [(ours, others[key(ours)]) for ours in bounded if ours.spec.method == "ppo" and key(ours) in others]
    groups = {
        "sound labels": [pair for pair in pairs if not pair[0].spec.faulty],
        "faulty labels": [pair for pair in pairs if pair[0].spec.faulty],
    }
    for pair in sorted(pairs, key=lambda pair: pair[0].spec.name):
        groups.setdefault(pair[0].spec.name, []).append(pair)
    return {name: described(group) for name, group in groups.items() if group}


def key(course: Course) -> tuple[str, int, int]:
    """What a run and its control have in common."""
    return course.spec.name, course.part, course.seed


def described(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How many runs fell below their start, and where they ended.

    The interval is of a bootstrap over reward models: the runs on one of them are not independent.
    """
    models = [(ours.spec.labels, ours.spec.pairs, ours.part, ours.seed % 2) for ours, _ in pairs]
    difference = bootstrap_interval([end(ours) - end(control) for ours, control in pairs], models, seed=0)
    ours, controls = zip(*pairs, strict=True)
    return {
        "runs": len(pairs),
        "reward_models": len(set(models)),
        "bounded": figures(ours),
        "free": figures(controls),
        "end_difference": difference.mean,
        "end_difference_95": [difference.low, difference.high],
    }


def figures(runs: Sequence[Course]) -> dict[str, Any]:
    """Of one arm."""
    return {
        "fell_below_start": sum(run.below is not None for run in runs),
        "end": sum(map(end, runs)) / len(runs),
        "largest_kl": max(row["kl"] for run in runs for row in run.rows),
    }


def end(run: Course) -> float:
    """Mean gold reward of the last observations."""
    return float(run.gold[-LAST:].mean())


if __name__ == "__main__":
    raise SystemExit(main())
