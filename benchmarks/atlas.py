"""Question: how far can a reward model be optimised before the gold reward falls, and what moves that point: labels,
ensembles of several kinds, averaged weights, or a method without a reward model?

    python -m benchmarks.atlas [--minutes 60] [--seeds 0 1 2] [--runs runs/atlas]

On the tiny task. Each arm fits reward models on labels of the gold reward with noise and then runs PPO without a KL
penalty, at a learning rate that goes too far; or trains a contrastive method on the same labels with a weak penalty.
Gao's laws are fitted to the gold reward gained over d = √KL to the start: R(d) = d (α − β ln d) for training,
R(d) = d (α − β d) for best-of-n. Arms are compared with `one model` on the same labels, seed by seed.

Runs are added until the time is up, seed by seed; start it again and it goes on. No training phase can read the gold
reward. Not in it: members on bases of other pretraining seeds, which cannot share one base.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import workbench.model  # noqa: F401  before trl imports peft
from benchmarks.guard_runs import DPO, LABELLERS, PPO, World, gold_of
from benchmarks.record import RESULTS, write_result
from ppo.guard.signals import fit_law
from reward.average import average_members
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_prompts
from workbench.data.records import Message
from workbench.evaluate.best_of import best_of_kl, best_of_values
from workbench.evaluate.role_models import RoleScore, reward_roles
from workbench.evaluate.statistics import Floats
from workbench.model.generate import Sampled, sample
from workbench.model.open import open_runs
from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder

FIGURE = Path("docs/images/atlas.png")
FREE = (*PPO, "reward.kl_coef=0.0", "reward.score_clip=0.0", "train.lr=0.008", "train.iterations=30")
WEAK = (*DPO, "loss.beta=0.02", "train.lr=0.003", "train.epochs=4.0", "train.batch_size=16", "train.max_steps=60")
MEMBERS = ("ensemble.members=3",)
POOL, PROMPTS = 32, 48
"""Answers per prompt and prompts of the best-of-n curve."""


@dataclass(frozen=True)
class Arm:
    """One way to score or to train."""

    name: str
    pairs: int = 300
    reward: tuple[str, ...] = ()
    """Values of the reward run."""
    labels: str = "sound"
    starts: bool = False
    """Whether the members start from supervised runs with seeds of their own."""
    average: bool = False
    set: tuple[str, ...] = ()
    """Values of the training run."""
    method: str = "ppo"


CONTROL = "one model"
ARMS = (
    Arm(CONTROL),
    Arm("mean of 3", reward=MEMBERS),
    Arm("mean − deviation of 3", reward=MEMBERS, set=("reward.std_coef=1.0",)),
    Arm("mean of 3, other starts", reward=MEMBERS, starts=True),
    Arm("mean − deviation of 3, other starts", reward=MEMBERS, starts=True, set=("reward.std_coef=1.0",)),
    Arm("average of 3 (WARM)", reward=MEMBERS, average=True),
    Arm("150 pairs", pairs=150),
    Arm("600 pairs", pairs=600),
    Arm("40 % noise", labels="noise"),
    Arm("dpo", method="dpo"),
    Arm("ipo", method="ipo"),
    Arm("slic", method="slic"),
)


def main(argv: list[str] | None = None) -> int:
    """Train until the time is up, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/atlas"))
    parser.add_argument("--out", type=Path, default=RESULTS / "atlas.json")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--only", nargs="*", default=[], help="names of arms, for a trial")
    arguments = parser.parse_args(argv)
    end = time.monotonic() + 60 * arguments.minutes
    arms = [arm for arm in ARMS if not arguments.only or arm.name in arguments.only]
    world = World.make(arguments.runs)
    for seed, arm in itertools.product(arguments.seeds, arms):
        if time.monotonic() < end:
            observed(world, arm, seed)
    content = summary(world, arms, arguments.seeds)
    write_result(arguments.out, content)
    draw(content["arms"], arguments.figure)
    return 0


def observed(world: World, arm: Arm, seed: int) -> Path:
    """The observations of one run: KL, the score that is optimised, and the gold reward."""
    file = world.folder / "observed" / f"{arm.name}, seed {seed}.json"
    if file.is_file():
        return file
    began, part = time.monotonic(), f"part {seed % 2}"
    own = sorted(world.items[part], key=lambda item: unit_hash("atlas", str(seed), item.id))[: arm.pairs]
    name = f"atlas {arm.labels} {arm.pairs} seed {seed}".replace(" ", "-")
    curve: list[dict[str, Any]] = []
    if arm.method == "ppo":
        reward = rewarded(world, arm, name, own, seed)
        curve = best_of(world, reward, seed)
        values = (*FREE, f"model.reward={reward}", *arm.set)
    else:
        values = (*WEAK, f"data.train={world.labels(name, LABELLERS[arm.labels], own)}", *arm.set)
    rows = world.observed(arm.method, 100 + seed, values)
    seconds = round(time.monotonic() - began, 1)
    found = {"arm": arm.name, "seed": seed, "seconds": seconds, "rows": rows, "best_of": curve}
    write_text_atomically(file, json.dumps(found))
    print(f"{file.stem}: {seconds} s, gold {rows[0]['gold']:.2f} → {rows[-1]['gold']:.2f}", flush=True)
    return file


def rewarded(world: World, arm: Arm, name: str, own: Sequence[Any], seed: int) -> Path:
    """The reward run of an arm."""
    changes = [f"run.seed={seed}", *arm.reward]
    if arm.starts:
        runs = [str(world.supervised(number)) for number in (0, 1, 2)]
        changes.append(f"ensemble.starts=[{','.join(runs)}]")
    fitted = world.reward(
        f"{name}{'-members' * bool(arm.reward)}{'-starts' * arm.starts}", LABELLERS[arm.labels], own, changes
    )
    if not arm.average:
        return fitted
    out = fitted.with_name(f"{fitted.name}-average")
    return out if out.is_dir() else average_members(RunFolder.open(fitted), out).path


def best_of(world: World, reward: Path, seed: int) -> list[dict[str, Any]]:
    """Gold reward and KL of the best of n answers of the start policy, n = 1, 2, 4 … POOL."""
    pool = pool_of(world.folder / "sft", seed)
    roles = open_runs(reward_roles(reward))
    score = RoleScore(roles, tuple(reward_roles(reward)), 256)
    scores = score([p for p, _ in pool], [a.text for _, a in pool], [a.ended for _, a in pool]).reshape(-1, POOL)
    gold = np.array([gold_of(p, a.text, a.ended).total for p, a in pool]).reshape(-1, POOL)
    return [
        {
            "n": n,
            "kl": best_of_kl(n),
            "score": float(best_of_values(scores, scores, n).mean()),
            "gold": float(best_of_values(scores, gold, n).mean()),
        }
        for n in (2**power for power in range(POOL.bit_length()))
    ]


@functools.lru_cache(maxsize=1)
def pool_of(start: Path, seed: int) -> list[tuple[Sequence[Message], Sampled]]:
    """POOL answers of the start policy to each of PROMPTS held-out prompts; all arms of a seed pick from them."""
    prompts = read_prompts(resolve_data("tiny:prompts_heldout"))[:PROMPTS]
    roles = open_runs({"start": start})
    answered = sample(
        roles,
        "start",
        prompts,
        temperatures=[1.0],
        responses_per_prompt=POOL,
        max_new_tokens=64,
        batch_size=256,
        seed=seed,
    )
    return [(prompt.prompt, answer) for prompt, answers in answered for answer in answers]


def summary(world: World, arms: Sequence[Arm], seeds: Sequence[int]) -> dict[str, Any]:
    """Laws and peaks of each arm, and what it gains over the control on the same seeds."""
    found: dict[str, Any] = {}
    for arm in arms:
        files = [world.folder / "observed" / f"{arm.name}, seed {seed}.json" for seed in seeds]
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
        if runs:
            found[arm.name] = {"seeds": [run["seed"] for run in runs], "runs": [figures(run) for run in runs]}
    control = dict(zip(found[CONTROL]["seeds"], found[CONTROL]["runs"], strict=True)) if CONTROL in found else {}
    for own in found.values():
        for key in ("peak_gain", "end_gain"):
            pairs = zip(own["seeds"], own["runs"], strict=True)
            gains = [run[key] - control[seed][key] for seed, run in pairs if seed in control]
            own[key] = float(np.mean([run[key] for run in own["runs"]]))
            own[f"{key}_over_control"] = gains
    return {"question": __doc__.split("\n\n", maxsplit=1)[0] if __doc__ else "", "control": CONTROL, "arms": found}


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """The course of one run, less its start, with its laws."""
    rows = run["rows"]
    d = np.sqrt(np.maximum([row["kl"] for row in rows], 0.0))
    gold = np.array([row["gold"] for row in rows])
    start = (
        run["best_of"][0]["gold"] if run["best_of"] else gold[0]
    )  # contrastive runs answer the same prompts each time
    law = fit_law(d, gold - start)
    smooth = np.array([gold[max(i - 1, 0) : i + 2].mean() for i in range(len(gold))]) - start
    made = {
        "d": d.tolist(),
        "gain": (gold - start).tolist(),
        "score": [row["score"] for row in rows],
        "alpha": law.alpha if law else None,
        "beta": law.beta if law else None,
        "peak_gain": float(smooth.max()),
        "peak_d": float(d[int(smooth.argmax())]),
        "end_gain": float(smooth[-3:].mean()),
    }
    if run["best_of"]:
        n = np.array([point["n"] for point in run["best_of"]])
        distance = np.sqrt([max(point["kl"], 0.0) for point in run["best_of"]])
        gain = np.array([point["gold"] for point in run["best_of"]]) - start
        alpha, beta = best_of_law(distance, gain)
        made["best_of"] = {"n": n.tolist(), "gain": gain.tolist(), "alpha": alpha, "beta": beta}
    return made


def best_of_law(d: Floats, gain: Floats) -> tuple[float, float]:
    """α and β of R(d) = d (α − β d) by least squares. Source: Gao et al. 2022, arXiv:2210.10760, section 3.1."""
    design = np.stack([d, -(d**2)], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(design, gain, rcond=None)
    return float(alpha), float(beta)


def draw(arms: dict[str, Any], path: Path) -> None:
    """One panel per arm: gold reward gained over √KL, a line per seed, the control's in grey."""
    columns = 4
    figure = Figure(figsize=(12, 2.4 * -(-len(arms) // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(-(-len(arms) // columns), columns, sharex=True, sharey=True, squeeze=False).flat
    for axis, (name, own) in zip(axes, arms.items(), strict=False):
        for run in arms.get(CONTROL, {"runs": []})["runs"]:
            axis.plot(run["d"], run["gain"], color="0.8", linewidth=1)
        for run in own["runs"]:
            axis.plot(run["d"], run["gain"], linewidth=1)
        axis.axhline(0, color="0.5", linewidth=0.5)
        axis.set_title(name, fontsize=9)
    figure.supxlabel("√KL to the start, √nats")
    figure.supylabel("gold reward gained")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
