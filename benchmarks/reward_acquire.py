"""Question: how many labels does choosing the pairs save against taking them at random?

On the tiny task: a reward model is fitted on a few random pairs, chooses more from the pool, and is fitted anew on
both. The random strategy is fitted at several sizes, so that a power law through them tells at how many random pairs it
is as good as the chosen ones. Measured by the truth on held-out pairs of answers; simulated annotators, one judgement a
pair. `disagreement` and `bald` ask a committee: fits of the same first pairs with other seeds.

    python -m benchmarks.reward_acquire [--start runs/demo/sft] [--items runs/demo/annotate/items.jsonl]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, write_result
from benchmarks.reward_fits import Truth, difference, fitted, labelled, split_items
from reward.verbs.acquire import COMMITTEES, acquire
from reward.verbs.curve_fit import fit_power_law
from workbench.data.readers import write_records
from workbench.data.records import Preference
from workbench.run.partial import lines_of
from workbench.tiny.annotators import SIMULATED

OUT = RESULTS / "reward_acquire.json"
STRATEGIES = ("uncertainty", "disagreement", "bald", "length-balanced")
COMMITTEE = 3
"""Models that vote, the first fit among them."""
CLAIM = "choosing the pairs to label saves labels against taking them at random"


def main(argv: list[str] | None = None) -> None:
    """Fit every strategy for every seed and write what it saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, default=Path("runs/demo/sft"))
    parser.add_argument("--items", type=Path, default=Path("runs/demo/annotate/items.jsonl"))
    parser.add_argument("--first", type=int, default=400, help="random pairs at the beginning")
    parser.add_argument("--more", type=int, default=400, help="pairs that are chosen")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--heldout", type=int, default=1000, help="items to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/reward_acquire"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    pool, kept_out = split_items(arguments.items, heldout=arguments.heldout)
    sizes = [arguments.first, arguments.first + arguments.more, arguments.first + 3 * arguments.more]
    truth = Truth(kept_out)
    arms: dict[str, dict[int, Any]] = {}
    groups: list[str] = []
    for seed in arguments.seeds:
        folder = arguments.runs / f"seed-{seed}"
        write_records(folder / "pool.jsonl", pool)
        labels = {
            record.id: record for record in labelled(pool, SIMULATED, folder, overlap=1, mode="majority", seed=seed)
        }
        write_records(
            folder / "heldout.jsonl",
            labelled(kept_out[:60], SIMULATED, folder / "heldout", overlap=1, mode="majority", seed=seed),
        )
        for name, run in fit_strategies(labels, folder, arguments, sizes, seed).items():
            right, groups = truth.right(run)
            arms.setdefault(name, {})[seed] = right
            print(f"seed {seed} {name}: {right.mean():.4f}", flush=True)
    content = {
        "claim": CLAIM,
        "first": arguments.first,
        "more": arguments.more,
        "seeds": arguments.seeds,
        "truth_accuracy": {
            name: {seed: float(right.mean()) for seed, right in arm.items()} for name, arm in arms.items()
        },
        "strategies": {
            strategy: difference(arms[strategy], arms[f"random-{sizes[1]}"], groups)
            | {"labels_saved": labels_saved(arms, strategy, sizes)}
            for strategy in arguments.strategies
        },
    }
    write_result(arguments.out, content)


def fit_strategies(
    labels: Mapping[str, Preference], folder: Path, arguments: argparse.Namespace, sizes: Sequence[int], seed: int
) -> dict[str, Path]:
    """The fits of a seed: random pairs at every size, and each strategy's pairs beside the first random ones."""
    pool = folder / "pool.jsonl"
    acquire([], pool, folder / "random.jsonl", number=sizes[-1], strategy="random", seed=seed)
    order = [name for name in ids(folder / "random.jsonl") if name in labels]

    def fit(name: str, chosen: Sequence[str], other_seed: int | None = None) -> Path:
        records = [labels[one] for one in chosen if one in labels]
        own = seed if other_seed is None else other_seed
        return fitted(folder / name, arguments.start, records, folder / "heldout.jsonl", seed=own)

    runs = {f"random-{size}": fit(f"random-{size}", order[:size]) for size in sizes}
    first = folder / f"random-{sizes[0]}.jsonl"
    asked = [runs[f"random-{sizes[0]}"]]
    if set(arguments.strategies) & set(COMMITTEES):
        asked += [fit(f"member-{n}", order[: sizes[0]], seed + 1000 * n) for n in range(1, COMMITTEE)]
    for strategy in arguments.strategies:
        out = folder / f"{strategy}.chosen.jsonl"
        judges = asked if strategy in COMMITTEES else asked[:1]
        acquire(judges, pool, out, number=arguments.more, strategy=strategy, without=first, seed=seed)
        runs[strategy] = fit(strategy, [*order[: sizes[0]], *ids(out)])
    return runs


def ids(path: Path) -> list[str]:
    """The items of a file of priorities, first to last."""
    return [json.loads(line)["id"] for line in lines_of(path.read_text(encoding="utf-8"))]


def labels_saved(arms: Mapping[str, Mapping[int, Any]], strategy: str, sizes: Sequence[int]) -> float | None:
    """Random pairs that would be as good, less the pairs used; None where no number within 50 times of them would."""
    points = [(size, float(right.mean())) for size in sizes for right in arms[f"random-{size}"].values()]
    law = fit_power_law([size for size, _ in points], [accuracy for _, accuracy in points])
    reached = float(np.mean([right.mean() for right in arms[strategy].values()]))
    candidates = np.arange(1, 50 * sizes[-1])
    enough = candidates[law(candidates) >= reached]
    return float(enough[0]) - sizes[1] if len(enough) else None


if __name__ == "__main__":
    main()
