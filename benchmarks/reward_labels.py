"""Claims: using ties and strengths beats dropping them; Dawid-Skene weights beat majority where a third is careless.

On the tiny task, with simulated annotators, measured by the truth on held-out pairs of answers.

* `strengths`: one judgement a pair; the ordinal loss on ties and strengths, against Bradley-Terry without ties.
* `reliability`: three judgements a pair by six annotators, two of them careless; labels and weights by Dawid-Skene,
  against majority. Both with the ordinal loss.

    python -m benchmarks.reward_labels [--start runs/demo/sft] [--items runs/demo/annotate/items.jsonl]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, write_result
from benchmarks.reward_fits import difference, fitted, labelled, split_items, truth_correct
from workbench.data.readers import write_records
from workbench.data.records import Item, Preference
from workbench.tiny.annotators import SIMULATED, SimulatedAnnotator

OUT = RESULTS / "reward_labels.json"
CLAIM = "ties and strengths beat ties dropped; Dawid-Skene weights beat majority where a third is careless"
CARELESS_THIRD: tuple[SimulatedAnnotator, ...] = (
    *SIMULATED[:4],
    SimulatedAnnotator("simulated-careless-1", 0.20, 0.90),
    SimulatedAnnotator("simulated-careless-2", 0.20, 0.90),
)
"""Four who look, and two who answer at random nine times of ten."""


def main(argv: list[str] | None = None) -> None:
    """Fit every arm for every seed and write the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, default=Path("runs/demo/sft"))
    parser.add_argument("--items", type=Path, default=Path("runs/demo/annotate/items.jsonl"))
    parser.add_argument("--pairs", type=int, default=1000, help="items to label")
    parser.add_argument("--heldout", type=int, default=1000, help="items to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/reward_labels"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    pool, kept_out = split_items(arguments.items, heldout=arguments.heldout)
    arms: dict[str, dict[int, Any]] = {}
    groups: list[str] = []
    for seed in arguments.seeds:
        items = pool[seed * arguments.pairs :][: arguments.pairs]
        if len(items) < arguments.pairs:
            raise SystemExit(f"{arguments.items} has too few items for {len(arguments.seeds)} seeds")
        for name, run in fit_arms(items, kept_out, arguments.start, arguments.runs / f"seed-{seed}", seed).items():
            right, groups = truth_correct(run, kept_out)
            arms.setdefault(name, {})[seed] = right
            print(f"seed {seed} {name}: {right.mean():.4f}", flush=True)
    content = {
        "claim": CLAIM,
        "pairs": arguments.pairs,
        "seeds": arguments.seeds,
        "truth_accuracy": {
            name: {seed: float(right.mean()) for seed, right in arm.items()} for name, arm in arms.items()
        },
        "strengths": difference(arms["ordinal"], arms["bradley_terry"], groups),
        "reliability": difference(arms["dawid-skene"], arms["majority"], groups),
    }
    write_result(arguments.out, content)


def fit_arms(items: Sequence[Item], kept_out: Sequence[Item], start: Path, folder: Path, seed: int) -> dict[str, Path]:
    """The four fits of a seed."""
    heldout = folder / "heldout.jsonl"
    if not heldout.is_file():
        known = labelled(kept_out[:60], SIMULATED, folder / "heldout", overlap=1, mode="majority", seed=seed)
        write_records(heldout, known)
    once = labelled(items, SIMULATED, folder, overlap=1, mode="majority", seed=seed)
    thrice = {
        mode: labelled(items, CARELESS_THIRD, folder, overlap=3, mode=mode, seed=seed)
        for mode in ("majority", "dawid-skene")
    }
    arms: dict[str, tuple[list[Preference], str]] = {
        "ordinal": (once, "ordinal"),
        "bradley_terry": ([record for record in once if record.strength > 0], "bradley_terry"),
        "majority": (thrice["majority"], "ordinal"),
        "dawid-skene": (thrice["dawid-skene"], "ordinal"),
    }
    return {
        name: fitted(folder / name, start, records, heldout, seed=seed, loss=loss)
        for name, (records, loss) in arms.items()
    }


if __name__ == "__main__":
    main()
