"""Claim: which published orderings of methods hold depends on the world. Two worlds × three rates of label noise × five
methods on the tiny task.

* World `likely`: the supervised model imitates the better half of the demonstrations, so good answers are frequent.
  World `unlikely`: the worse half, so the answers that the gold reward prefers are rare.
* Labels are of the gold reward, on pairs that the supervised model sampled; a share of them is turned round.

    python -m benchmarks.worlds [--seeds 0 1 2]

About 75 CPU-minutes per seed. Start it again and it goes on.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from scipy import stats

from benchmarks.command import command
from benchmarks.record import RESULTS, write_result
from workbench.compare.config import CompareConfig
from workbench.compare.paired import interval
from workbench.compare.plan import Shared
from workbench.compare.results import judged
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_demonstrations, read_items, write_records
from workbench.data.records import Item, Message, Preference
from workbench.evaluate.evaluation import load_evaluation
from workbench.evaluate.statistics import Floats
from workbench.run.config import load_config
from workbench.tiny.gold import gold_reward

CLAIM = "which published orderings of methods hold in two worlds and at three rates of label noise"
RUNS, CONFIGS = Path("runs/worlds"), Path("configs/tiny")
FIGURE = Path("docs/images/worlds.png")
WORLDS, NOISES = ("likely", "unlikely"), (0.0, 0.2, 0.4)
LIKELY = 0.8
"""Gold reward from which an answer counts as near the optimum."""
METHODS: list[dict[str, Any]] = [
    {"name": "ppo", "config": f"{CONFIGS}/ppo.yaml", "set": ["model.force=true"]},
    {"name": "dpo", "config": f"{CONFIGS}/dpo.yaml", "set": ["data.limit=0", "loss.label_smoothing=0.0"]},
    {
        "name": "ipo",
        "config": f"{CONFIGS}/dpo.yaml",
        "set": ["data.limit=0", "method=ipo", "loss.beta=1.0", "loss.label_smoothing=0.0"],
    },
    {"name": "slic", "config": f"{CONFIGS}/slic.yaml", "set": []},
    {"name": "chosen-sft", "config": f"{CONFIGS}/slic.yaml", "set": ["method=sft"]},
]


@dataclass(frozen=True)
class Ordering:
    """A published statement as a contrast of methods in one cell, or of its value in two worlds."""

    source: str
    better: str
    worse: str
    larger_when_unlikely: bool = False
    """The statement is that the contrast is larger in the world `unlikely`."""


ORDERINGS = (
    Ordering("Xu 2024, arXiv:2404.10719: PPO above DPO", "ppo", "dpo"),
    Ordering("Tajwar 2024, arXiv:2404.14367: a negative gradient helps", "dpo", "chosen-sft"),
    Ordering("Tajwar 2024: on-policy sampling helps more if the optimum is unlikely", "ppo", "dpo", True),
    Ordering("Tajwar 2024: a negative gradient helps more if the optimum is unlikely", "dpo", "chosen-sft", True),
)
CONTRASTIVE = ("dpo", "ipo", "slic")
OVER_OPTIMISED = (
    "Rafailov 2024, arXiv:2406.02900: contrastive methods over-optimise within an epoch: gold falls to its end"
)


def main(argv: list[str] | None = None) -> int:
    """Make the worlds, run a comparison in each cell, and write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--prompts", type=int, default=1300, help="prompts whose answers are labelled")
    parser.add_argument("--set", nargs="*", default=[], help="for a trial: train.… of each method, measure.…")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=RESULTS / "worlds.json")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args(argv)
    cells: dict[str, Any] = {}
    falls: dict[str, Any] = {}
    values: dict[tuple[str, float], dict[str, Floats]] = {}
    for world in WORLDS:
        folder = arguments.runs / world
        items = make_world(world, folder, arguments.prompts, arguments.set)
        for noise in NOISES:
            config = write_cell(folder, noise, items, arguments.seeds, arguments.set)
            command("workbench", "compare", str(config))
            cells[f"{world}, {noise:.0%} noise"] = cell_table(config)
            values[world, noise] = values_of(config)
            for name, golds in courses_of(config).items():
                falls[f"{name}, {world}, {noise:.0%} noise"] = fall(golds)
    orderings = [check(ordering, values) for ordering in ORDERINGS]
    orderings.append({"source": OVER_OPTIMISED, "cells": falls})
    content = {"claim": CLAIM, "seeds": arguments.seeds, "cells": cells, "orderings": orderings}
    write_result(arguments.out, content)
    draw(cells, arguments.figure)
    return 0


def make_world(world: str, folder: Path, prompts: int, changes: Sequence[str]) -> list[Item]:
    """The supervised run of a world and pairs of its answers, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    demonstrations, items = folder / "demonstrations.jsonl", folder / "items.jsonl"
    if not demonstrations.is_file():
        write_records(demonstrations, half_of_demonstrations(world))
    trial = [change for change in changes if change.startswith("train.")]
    values = (f"run.dir={folder / 'sft'}", f"data.train={demonstrations}", *trial)
    command("sft", f"{CONFIGS}/sft.yaml", *values, "--resume")
    values = (f"pairs.run={folder / 'sft'}", f"pairs.out={items}", f"pairs.number={prompts}")
    command("annotate", "pairs", f"{CONFIGS}/annotate.yaml", *values, f"store.url={folder / 'labels.sqlite'}")
    return read_items(items)


def half_of_demonstrations(world: str) -> list[Any]:
    """The better or the worse half of the demonstrations, by the gold reward, in their old order."""
    records = read_demonstrations(resolve_data("tiny:demonstrations"))
    gold = np.array([gold_of(record.prompt, record.response, True) for record in records])
    order = np.argsort(gold, kind="stable")
    half = order[len(order) // 2 :] if world == "likely" else order[: len(order) // 2]
    return [records[index] for index in sorted(half)]


def gold_of(prompt: Sequence[Message], response: str, ended: bool) -> float:
    """The gold reward of an answer to a prompt of the grammar."""
    found = gold_reward(prompt, response, ended)
    assert found is not None
    return found.total


def labels(items: Sequence[Item], noise: float) -> list[Preference]:
    """The gold reward's preferences on pairs with different rewards, a share of them turned round by a hash."""
    records = []
    for item in items:
        first, second = item.responses
        gap = gold_of(item.prompt, first.text, first.ended) - gold_of(item.prompt, second.text, second.ended)
        if abs(gap) < 1e-9:
            continue
        turned = unit_hash("noise", item.id) < noise
        chosen, rejected = (first, second) if (gap > 0) != turned else (second, first)
        records.append(
            Preference(
                id=item.id,
                group=item.group,
                prompt=item.prompt,
                chosen=(Message(role="assistant", content=chosen.text),),
                rejected=(Message(role="assistant", content=rejected.text),),
                split="heldout" if unit_hash("split", item.group) < 0.1 else "train",
            )
        )
    return records


def write_cell(folder: Path, noise: float, items: Sequence[Item], seeds: Sequence[int], changes: Sequence[str]) -> Path:
    """The labels and the comparison of one cell."""
    name = f"noise-{noise:.0%}".removesuffix("%")
    file, config = folder / f"{name}.jsonl", folder / f"{name}.yaml"
    if not file.is_file():
        write_records(file, labels(items, noise))
    values = yaml.safe_load((CONFIGS / "compare.yaml").read_text(encoding="utf-8"))
    measured = [change for change in changes if change.startswith("measure.")]
    values = OmegaConf.to_container(OmegaConf.merge(values, OmegaConf.from_dotlist(measured)))
    trained = [change for change in changes if change not in measured]
    changed = [{**row, "set": [*row["set"], *trained]} for row in METHODS]
    for row in changed:  # contrastive training counts steps, PPO iterations
        wrong = "train.max_steps" if row["name"] == "ppo" else "train.iterations"
        row["set"] = [change for change in row["set"] if not change.startswith(wrong)]
    reward = [change for change in changes if change.startswith("train.max_steps")]
    values["compare"] |= {
        "out": str(folder / name),
        "seeds": list(seeds),
        "sft": {"use": str(folder / "sft")},
        "labels": {"use": str(file)},
        "reward": {"use": f"{CONFIGS}/reward.yaml", "set": ["passport.at_end=false", *reward]},
        "methods": changed,
    }
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return config


def values_of(path: Path) -> dict[str, Floats]:
    """(S, G) gold of each method of a cell."""
    config, _ = load_config(CompareConfig, path)
    names = ["sft", *(row.name for row in config.compare.methods)]
    files = [[Shared.of(config, seed).evaluation(name) for seed in config.compare.seeds] for name in names]
    policies = [[load_evaluation(file, remedy="delete its cell").policy for file in row] for row in files]
    _, answers = judged([[policy for policy in row if policy is not None] for row in policies])
    means = answers.mean(-1)
    return {name: means[number] for number, name in enumerate(names)} | {
        "near the optimum": (answers[0] >= LIKELY).mean(-1)
    }


def cell_table(path: Path) -> dict[str, Any]:
    """The numbers of one cell that the table needs."""
    config, _ = load_config(CompareConfig, path)
    found = json.loads((Path(config.compare.out) / "compare.json").read_text(encoding="utf-8"))
    keys = ("gold", "gold_ci", "kl", "win_rate", "length")
    methods = {name: {key: method[key] for key in keys} for name, method in found["methods"].items()}
    return {"methods": methods, "sft_near_optimum": float(values_of(path)["near the optimum"].mean())}


def check(ordering: Ordering, values: dict[tuple[str, float], dict[str, Floats]]) -> dict[str, Any]:
    """Whether a published ordering holds here, per noise: yes, no, or no difference shown."""
    verdicts = {}
    for noise in NOISES:
        gaps = {world: values[world, noise][ordering.better] - values[world, noise][ordering.worse] for world in WORLDS}
        contrasts = {"unlikely − likely": gaps["unlikely"] - gaps["likely"]} if ordering.larger_when_unlikely else gaps
        for name, gap in contrasts.items():
            found = interval(gap)
            held = "holds" if found.low > 0 else "the opposite holds" if found.high < 0 else "no difference shown"
            numbers = {"difference": float(found.mean), "ci": [float(found.low), float(found.high)], "verdict": held}
            verdicts[f"{name}, {noise:.0%} noise"] = numbers
    return {"source": ordering.source, "cells": verdicts}


def courses_of(path: Path) -> dict[str, Floats]:
    """(S, T) gold of the answers sampled within training, of each contrastive method of a cell."""
    config, _ = load_config(CompareConfig, path)
    found = {}
    for name in (row.name for row in config.compare.methods if row.name in CONTRASTIVE):
        files = [Shared.of(config, seed).evaluation(name) for seed in config.compare.seeds]
        policies = [load_evaluation(file, remedy="delete its cell").policy for file in files]
        found[name] = np.array([[point.gold for point in policy.trajectory] for policy in policies if policy], float)
    return found


def fall(golds: Floats) -> dict[str, Any]:
    """How far gold falls from the first checkpoint within training to the last, with Student's interval over seeds.

    Args:
        golds: (S, T) of the start and T − 1 checkpoints, on the same prompts.
    """
    falls = golds[:, 1] - golds[:, -1]  # (S,)
    mean, seeds = float(falls.mean()), len(falls)
    half = float(stats.t.ppf(0.975, seeds - 1) * falls.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else np.inf
    held = "holds" if mean - half > 0 else "the opposite holds" if mean + half < 0 else "no difference shown"
    ci = [mean - half, mean + half] if seeds > 1 else None
    return {"gold": golds.mean(axis=0).tolist(), "difference": mean, "ci": ci, "verdict": held}


def draw(cells: dict[str, Any], path: Path) -> None:
    """Gold reward of each method against noise, one panel per world."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, world in zip(figure.subplots(1, len(WORLDS), sharey=True, squeeze=False)[0], WORLDS, strict=True):
        found = [cells[f"{world}, {noise:.0%} noise"] for noise in NOISES]
        for name in sorted(found[0]["methods"]):  # each cell has its own order, and a colour is one method
            gold = [cell["methods"][name]["gold"] for cell in found]
            low, high = zip(*(cell["methods"][name]["gold_ci"] for cell in found), strict=True)
            errors = [np.subtract(gold, low), np.subtract(high, gold)]
            axes.errorbar([100 * noise for noise in NOISES], gold, yerr=errors, marker="o", capsize=2, label=name)
        axes.set_title(f"optimum {world} ({found[0]['sft_near_optimum']:.0%} of sft's answers near it)")
        axes.set_xlabel("labels turned round, %")
    figure.axes[0].set_ylabel("gold reward")
    figure.axes[-1].legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


if __name__ == "__main__":
    raise SystemExit(main())
