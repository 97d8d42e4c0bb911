"""Question: on the world `rare`, do 1 500 labels in four rounds reach the gold reward of 4 000 labels on pairs of the
supervised model, and do 200 labels give .10?

Every seed tunes a supervised model; then each arm is a loop of `configs/tiny/loop.yaml` on it:

* `offline`: one round of 4 000 random pairs.
* `rounds`: four rounds of 375 labels with the shipped strategy, random pairs of the newest policy.
* `wide_gaps`: the same with the pairs that `wide-gaps` chooses.
* `few`: two rounds of 100 labels; `wide-gaps` chooses those of the second.

All but `few` train the last policy alike, from the supervised model, so that they differ in the labels of its reward
model only; 160 iterations are too many for 200 labels. All answer the same held-out prompts. Start it again and it goes
on with the first unfinished command. Without `--seed` the arms that are finished are put together; an arm is compared
on the seeds that it shares with the other.

    for s in 1 2 3; do python -m benchmarks.rounds --seed $s; done; python -m benchmarks.rounds
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.pairs_ladder import trained
from benchmarks.record import RESULTS, write_result
from benchmarks.reward_fits import difference
from sft.__main__ import main as sft
from workbench.__main__ import main as workbench
from workbench.evaluate.evaluation import load_evaluation
from workbench.evaluate.statistics import Floats
from workbench.loop.config import LoopConfig
from workbench.loop.plan import Round
from workbench.run.checkpoints import write_text_atomically
from workbench.run.config import load_config, read_values, replace_values

OUT = RESULTS / "rounds.json"
CONFIG = Path("configs/tiny/loop.yaml")
EXPECTED = (
    "at most 1 500 labels in at most four rounds reach the gold reward of 4 000 offline labels; 200 labels give gold "
    "+ .10 with the whole interval above 0"
)
OFFLINE = 4000
"""Labels of `offline`."""
LAST = 160
"""Iterations of a last round that starts at the supervised model (decision 12)."""
MOST = 0.95
"""Share of the offline arm's gain that counts as most of it."""
TWO_ANSWERS = 1700
"""Most pairs that two answers to each of the 2 000 prompts give: some answers are equal."""
PARTS = ("facts", "courtesy")
ARMS = ("offline", "rounds", "wide_gaps", "few")


@dataclass(frozen=True)
class Arm:
    """One way of spending labels."""

    rounds: int
    labels: int
    """Per round."""
    iterations: int
    """Of PPO, per round."""
    strategy: str
    last: int | None = None
    """Iterations of the last round, if it starts at the supervised model; None: it is like the others."""


@dataclass(frozen=True)
class Curve:
    """One arm and seed: what its policies are worth, round 0 being the supervised model."""

    labels: tuple[int, ...]
    """(T + 1,)"""
    gold: Floats
    """(T + 1, G) mean gold reward per prompt."""
    parts: Mapping[str, tuple[float, ...]]
    """(T + 1,) means of parts of gold."""
    accuracy: tuple[float, ...]
    """(T,) of the reward models on held-out labels."""


def main(argv: list[str] | None = None) -> None:
    """Measure one seed, or put the measured ones together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="measure this seed; without it: put the measured ones together")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="default: all")
    parser.add_argument("--rounds", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--labels", type=int, default=375, help="per round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/rounds"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    every = make_arms(arguments.rounds, arguments.labels)
    if arguments.seed is None:
        write_result(arguments.out, together(arguments.runs, every))
        return
    folder, shipped = arguments.runs / f"seed-{arguments.seed}", load_config(LoopConfig, CONFIG)[0].loop.sft
    common = (f"run.threads={arguments.threads}", "tracking.wandb=disabled")
    trained(sft, Path(shipped.use), folder / "sft", *shipped.set, *common, f"run.seed={arguments.seed}")
    for name in arguments.arms:
        path = folder / f"{name}.yaml"
        write_text_atomically(path, yaml.safe_dump(loop_of(every[name], folder, name, arguments.seed, common)))
        print("$ python -m workbench loop", path, flush=True)
        assert workbench(["loop", str(path)]) == 0


def make_arms(rounds: int, labels: int) -> dict[str, Arm]:
    """All arms, with the shipped iterations in rounds that another one follows."""
    shipped = load_config(LoopConfig, CONFIG)[0].loop
    usual = int(read_values(Path(shipped.policy.use), shipped.policy.set)["train"]["iterations"])
    return {
        "offline": Arm(1, OFFLINE, usual, "random", last=LAST),
        "rounds": Arm(rounds, labels, usual, shipped.strategy, last=LAST),
        "wide_gaps": Arm(rounds, labels, usual, "wide-gaps", last=LAST),
        "few": Arm(2, 100, usual, "wide-gaps"),
    }


def loop_of(arm: Arm, folder: Path, name: str, seed: int, common: Sequence[str]) -> dict[str, Any]:
    """The loop's configuration of one arm, on the supervised run of the seed."""
    config = load_config(LoopConfig, CONFIG)[0]
    section = config.loop
    answers = 2 if arm.labels <= TWO_ANSWERS else 3  # every two of three answers are a pair
    pool = (f"pairs.number={2000 if arm.labels > 800 else 2 * arm.labels}", f"pairs.responses_per_prompt={answers}")
    changed = {
        "out": folder / name,
        "rounds": arm.rounds,
        "labels": arm.labels,
        "strategy": arm.strategy,
        "seed": seed,
        "sft": {"use": folder / "sft"},
        "annotate": {"use": section.annotate.use, "set": replace_values(section.annotate.set, pool)},
        "reward": {"use": section.reward.use, "set": replace_values(section.reward.set, common)},
        "policy": {
            "use": section.policy.use,
            "set": replace_values(section.policy.set, (*common, f"train.iterations={arm.iterations}")),
        },
        "last": {"start": "sft", "set": [f"train.iterations={arm.last}"]} if arm.last else {},
    }
    values = config.model_dump(mode="json")
    values["loop"] |= changed
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))  # paths as text
    return plain


def together(runs: Path, every: Mapping[str, Arm]) -> dict[str, Any]:
    """Curves of gold over labels, the labels that reach the offline gold, and paired differences."""
    curves = {name: read_curves(runs, name, arm) for name, arm in every.items()}
    assert any(curves.values()), f"no arm is finished in {runs}: start with --seed 0"
    found: dict[str, Any] = {
        "expected": EXPECTED,
        "offline_labels": OFFLINE,
        "rounds": every["rounds"].rounds,
        "labels_per_round": every["rounds"].labels,
        "seeds": {name: sorted(by_seed) for name, by_seed in curves.items()},
        "arms": {name: described(by_seed) for name, by_seed in curves.items() if by_seed},
    }
    assert every["rounds"].strategy == "random", "the shipped strategy is no longer the control: give random an arm"
    reached = against_offline(curves["rounds"], curves["offline"])
    found |= reached | {"random_on_policy": reached}
    found["wide_gaps"] = against_offline(curves["wide_gaps"], curves["offline"])
    found["differences"] = {
        f"{ours} - {theirs}": contrast(curves[ours], curves[theirs])
        for ours, theirs in (("rounds", "offline"), ("wide_gaps", "offline"), ("rounds", "wide_gaps"))
    }
    gains = {seed: curve.gold[-1] - curve.gold[0] for seed, curve in curves["few"].items()}
    found["gain_of_200_labels"] = paired(gains, {seed: np.zeros_like(gain) for seed, gain in gains.items()})
    return found


def read_curves(runs: Path, name: str, arm: Arm) -> dict[int, Curve]:
    """Seed → curve, of the seeds whose arm is finished."""
    found = {}
    for path in sorted(runs.glob(f"seed-*/{name}.yaml")):
        config = load_config(LoopConfig, path)[0]
        rounds = [Round(config, number) for number in range(arm.rounds + 1)]
        table = Path(config.loop.out) / "loop.json"
        if (config.loop.rounds, config.loop.labels) != (arm.rounds, arm.labels) or not table.is_file():
            continue
        rows = json.loads(table.read_text(encoding="utf-8"))["rounds"]
        if len(rows) == len(rounds):
            found[int(path.parent.name.removeprefix("seed-"))] = Curve(
                labels=tuple(row["labels"] for row in rows),
                gold=np.array([gold_by_prompt(this.evaluation) for this in rounds]),
                parts={part: tuple(row["parts"][part]["mean"] for row in rows) for part in PARTS},
                accuracy=tuple(row["verdict"]["accuracy"]["mean"] for row in rows[1:]),
            )
    return found


def gold_by_prompt(evaluation: Path) -> Floats:
    """(G,) mean gold reward of the answers to each prompt, prompts in the order of their ids."""
    policy = load_evaluation(evaluation, remedy="measure it again").policy
    assert policy is not None
    values: dict[str, list[float]] = {}
    for answer in policy.answers:
        assert answer.gold is not None
        values.setdefault(answer.prompt_id, []).append(answer.gold)
    return np.array([np.mean(values[name]) for name in sorted(values)])


def described(curves: Mapping[int, Curve]) -> dict[str, Any]:
    """Means over seeds per round, and each seed's."""
    every = list(curves.values())
    return {
        "labels": np.mean([curve.labels for curve in every], axis=0).tolist(),
        "gold": np.mean([curve.gold.mean(1) for curve in every], axis=0).tolist(),
        "gold_by_seed": {seed: curve.gold.mean(1).tolist() for seed, curve in curves.items()},
        **{part: np.mean([curve.parts[part] for curve in every], axis=0).tolist() for part in PARTS},
        "reward_accuracy": np.mean([curve.accuracy for curve in every], axis=0).tolist(),
    }


def against_offline(ours: Mapping[int, Curve], offline: Mapping[int, Curve], resamples: int = 2000) -> dict[str, Any]:
    """Labels that reach the gold of the offline arm, and those that reach most of its gain.

    Their ratios to its labels have bootstrap intervals: seeds and prompts are both drawn with replacement. None for a
    number beyond the labels measured.
    """
    seeds = sorted(set(ours) & set(offline))
    if not seeds:
        return {"labels_to_offline_gold": None, "ratio": None, "ratio_ci": None, "shared_seeds": []}
    labels = np.mean([ours[seed].labels for seed in seeds], axis=0)
    gold = np.array([np.vstack([ours[seed].gold, offline[seed].gold[-1]]) for seed in seeds])  # (S, T + 2, G)
    shares = (1.0, MOST)
    reached = [labels_needed(labels, gold.mean((0, 2)), share) for share in shares]
    rng = np.random.default_rng(0)
    drawn = np.empty((resamples, len(shares)))
    for number in range(resamples):
        of_seeds = gold[rng.integers(len(seeds), size=len(seeds))].mean(0)
        means = of_seeds[:, rng.integers(gold.shape[2], size=gold.shape[2])].mean(1)
        drawn[number] = [labels_needed(labels, means, share) for share in shares]
    ends = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest") / OFFLINE

    def known(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    return {
        "labels_to_offline_gold": known(reached[0]),
        "ratio": known(reached[0] / OFFLINE),
        "ratio_ci": [known(end) for end in ends[:, 0]],
        "share_of_resamples_that_reach_it": float(np.isfinite(drawn[:, 0]).mean()),
        "most_of_the_gain": {
            "share": MOST,
            "labels": known(reached[1]),
            "ratio": known(reached[1] / OFFLINE),
            "ratio_ci": [known(end) for end in ends[:, 1]],
        },
        "shared_seeds": seeds,
    }


def labels_needed(labels: Floats, gold: Floats, share: float = 1.0) -> float:
    """Labels at which a curve, linear between its rounds, first has a share of a gain; infinite if it never does.

    Args:
        labels: (T + 1,) rising.
        gold: (T + 2,) of the rounds, and of the policy with the gain last.
        share: of the gain from the curve's start to that policy.
    """
    *curve, end = gold
    target = curve[0] + share * (end - curve[0])
    for index, value in enumerate(curve):
        if value >= target:
            if index == 0:
                return float(labels[0])
            part = (target - curve[index - 1]) / (value - curve[index - 1])
            return float(labels[index - 1] + part * (labels[index] - labels[index - 1]))
    return math.inf


def contrast(ours: Mapping[int, Curve], theirs: Mapping[int, Curve]) -> dict[str, Any] | None:
    """The difference of the last policies on the seeds that both arms have."""
    shared = sorted(set(ours) & set(theirs))
    return paired(*({seed: arm[seed].gold[-1] for seed in shared} for arm in (ours, theirs)))


def paired(ours: Mapping[int, Floats], theirs: Mapping[int, Floats]) -> dict[str, Any] | None:
    """A paired difference over seeds and prompts; None without seeds."""
    if not ours:
        return None
    prompts = [str(index) for index in range(len(next(iter(ours.values()))))]
    return difference(ours, theirs, prompts)


if __name__ == "__main__":
    main()
