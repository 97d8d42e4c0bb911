"""Claims: a reward model of the tiny task comes within 0.05 of the noise ceiling on 4 000 pairs, and is calibrated;
ties and strengths beat ties dropped; Dawid-Skene's weights beat majority where a third is careless; on shuffled labels
nothing is learnt.

Every seed samples its own answers, labels and fits; what is held out is the same: pairs of answers to other prompts,
whose truth is known. The noise ceiling is how often the truth itself agrees with one judgement of each held-out pair.

* at `--pairs`, one judgement each: `ordinal` (ties and strengths), `bradley_terry` (ties dropped), `shuffled`.
* at `--careless-pairs`, `--sets` disjoint sets a seed, judged by six annotators of whom two answer at random nine times
  of ten: `majority`, `dawid-skene` (its label and weight), `dawid-skene-soft` (its probability). Three judge each pair;
  for the arms `mostly-once-…` three judge a fifth, as `configs/llama-7b/annotate.yaml` has it, and one the others.
  Few pairs, for where thousands are labelled their noise averages out, and nothing is left for weights to mend.

Finished fits and scores are kept in `--runs`: start it again and it goes on. Several seeds at a time:

    export OMP_NUM_THREADS=1
    for s in 0 1 2; do python -m benchmarks.reward_labels --seeds $s --out runs/reward_labels/$s.json & done; wait
    python -m benchmarks.reward_labels
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, write_result
from benchmarks.reward_fits import Truth, difference, fitted, labelled, sampled_items
from reward.passport.measures import fit_temperature, half_of_groups
from workbench.data.readers import write_records
from workbench.data.records import Item, Preference
from workbench.evaluate.metrics import correctness, ece_by_chance, expected_calibration_error
from workbench.evaluate.statistics import Floats, bootstrap_interval
from workbench.tiny.annotators import SIMULATED, SimulatedAnnotator

OUT = RESULTS / "reward_labels.json"
CLAIM = (
    "within 0.05 of the noise ceiling, calibration error at most 0.05 after temperature; ties and strengths beat ties "
    "dropped; Dawid-Skene weights beat majority where a third is careless; shuffled labels teach nothing"
)
CARELESS_THIRD: tuple[SimulatedAnnotator, ...] = (
    *SIMULATED[:4],
    SimulatedAnnotator("simulated-careless-1", 0.20, 0.90),
    SimulatedAnnotator("simulated-careless-2", 0.20, 0.90),
)
"""Four who look, and two who answer at random nine times of ten."""
SHARES = {"": 1.0, "mostly-once-": 0.2}
"""Prefix of an arm → share of its pairs that three people judge."""
TRAINING_PROMPTS, HELDOUT_FROM = 1400, 3000
Arms = dict[str, dict[tuple[int, int], Path]]
"""Arm → (seed, set) → the folder of its fit."""


def main(argv: list[str] | None = None) -> None:
    """Fit every arm for every seed and write what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, default=Path("runs/demo/sft"))
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--careless-pairs", type=int, default=800)
    parser.add_argument("--sets", type=int, default=3, help="disjoint sets of careless pairs, for every seed")
    parser.add_argument("--heldout-prompts", type=int, default=900, help="three pairs each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/reward_labels"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    kept_out = sampled_items(
        arguments.start,
        arguments.runs / f"seed-{arguments.seeds[0]}" / "heldout-items.jsonl",  # the same from every seed
        first=HELDOUT_FROM,
        prompts=arguments.heldout_prompts,
        seed=99,
    )
    truth = Truth(kept_out)
    arms: Arms = {}
    labels: dict[int, list[Preference]] = {}
    for seed in arguments.seeds:
        folder = arguments.runs / f"seed-{seed}"
        labels[seed] = labelled(kept_out, SIMULATED, folder / "heldout", overlap=1, mode="majority", seed=seed)
        write_records(folder / "heldout.jsonl", [one for one in labels[seed] if one.strength > 0][:60])
        items = sampled_items(
            arguments.start, folder / "items.jsonl", first=0, prompts=TRAINING_PROMPTS, seed=100 + seed
        )
        if len(items) < max(arguments.pairs, arguments.sets * arguments.careless_pairs):
            raise SystemExit(f"{len(items)} items are too few")
        for name, number, run in fit_arms(items, folder, arguments, seed):
            right, _ = truth.right(run)
            arms.setdefault(name, {})[seed, number] = run
            print(f"seed {seed} set {number} {name}: {right.mean():.4f}", flush=True)
    write_result(arguments.out, measured(arms, truth, labels) | {"pairs": arguments.pairs, "seeds": arguments.seeds})


def fit_arms(
    items: Sequence[Item], folder: Path, arguments: argparse.Namespace, seed: int
) -> list[tuple[str, int, Path]]:
    """The fits of a seed: arm, set, folder."""
    heldout = folder / "heldout.jsonl"
    once = labelled(items[: arguments.pairs], SIMULATED, folder, overlap=1, mode="majority", seed=seed)
    decided = [record for record in once if record.strength > 0]

    def fit(name: str, records: Sequence[Preference], number: int = 0, **options: Any) -> tuple[str, int, Path]:
        place = folder / f"{name}-{number}" if number else folder / name
        return name, number, fitted(place, arguments.start, records, heldout, seed=seed, **options)

    found = [
        fit("ordinal", once),
        fit("bradley_terry", decided, loss="bradley_terry"),
        fit("shuffled", decided, overrides=["data.shuffle_labels=true"]),
    ]
    for number in range(1, arguments.sets + 1):
        own = items[(number - 1) * arguments.careless_pairs :][: arguments.careless_pairs]
        for prefix, share in SHARES.items():
            place = folder / f"{prefix}set-{number}"
            majority, skene = (
                labelled(own, CARELESS_THIRD, place, overlap=3, share=share, mode=mode, seed=seed)
                for mode in ("majority", "dawid-skene")
            )
            found += [
                fit(f"{prefix}majority", majority, number),
                fit(f"{prefix}dawid-skene", skene, number),
                fit(f"{prefix}dawid-skene-soft", skene, number, overrides=["loss.soft_labels=true"]),
            ]
    return found


def measured(arms: Arms, truth: Truth, labels: Mapping[int, Sequence[Preference]]) -> dict[str, Any]:
    """What all fits say about the claims."""
    right = {name: {key: truth.right(run)[0] for key, run in runs.items()} for name, runs in arms.items()}
    groups = [group for group, sign in zip(truth.groups, truth.signs, strict=True) if sign]
    return {
        "claim": CLAIM,
        "truth_accuracy": {
            name: {
                f"{seed}/{number}" if number else str(seed): float(one.mean()) for (seed, number), one in own.items()
            }
            for name, own in right.items()
        },
        "ceiling": {seed: against_ceiling(arms["ordinal"][seed, 0], truth, labels[seed]) for seed in labels},
        "strengths": difference(right["ordinal"], right["bradley_terry"], groups),
        "reliability": {
            f"{prefix}{mode}": difference(right[f"{prefix}{mode}"], right[f"{prefix}majority"], groups)
            for prefix in SHARES
            for mode in ("dawid-skene", "dawid-skene-soft")
        },
        "shuffled": {seed: interval(right["shuffled"][seed, 0], groups) for seed in labels},
    }


def against_ceiling(run: Path, truth: Truth, labels: Sequence[Preference]) -> dict[str, Any]:
    """A fit against one judgement of each held-out pair, ties left out; both are held against the same labels.

    Temperature is fitted on half of the prompts, the calibration error is of the other half.
    """
    second = {item.id: item.responses[1].text for item in truth.items}
    judged = {
        label.id: 1.0 if label.chosen_text == second[label.id] else -1.0 for label in labels if label.strength > 0
    }
    places = [place for place, pair in enumerate(truth.pairs) if pair.id in judged]
    sides = np.array([judged[truth.pairs[place].id] for place in places])
    groups = [truth.groups[place] for place in places]
    gaps = truth.gaps(run)[places] * sides
    accuracy, ceiling = correctness(gaps), correctness(truth.signs[places] * sides)
    fitting = half_of_groups(groups, seed=0)
    cooled = gaps[~fitting] / fit_temperature(gaps[fitting])
    return {
        "accuracy": interval(accuracy, groups),
        "noise_ceiling": interval(ceiling, groups),
        "below_ceiling": interval(ceiling - accuracy, groups),
        "ece": expected_calibration_error(cooled),
        "ece_by_chance": ece_by_chance(cooled),
    }


def interval(values: Floats, groups: Sequence[str]) -> dict[str, Any]:
    """Mean with a 95 % interval by a bootstrap over prompts."""
    found = bootstrap_interval(values, list(groups), seed=0)
    return {"mean": found.mean, "prompts_95": [found.low, found.high], "pairs": found.count}


if __name__ == "__main__":
    main()
