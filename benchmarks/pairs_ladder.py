"""Question: on the tiny default, how much gold reward does DPO on automatic pairs, without any label, add to supervised
tuning; how much does twice as much supervised tuning add; and what is the order of the pairs worth?

Every seed tunes, samples and trains anew. The arms:

* `sft`, and `sft_longer`: the same demonstrations for three epochs, after which more of it adds little, and for four.
* `ladder_linear`, `ladder_mixed`, `ladder_reversed`, `ladder_hard`: DPO with the likelihood of the chosen answers, on
  the pairs of a ladder whose order is taken on trust (the supervised model at temperatures 1.3, .8 and .5), with each
  curriculum, over equally many draws.
* `ladder_sft`: the likelihood of the chosen answers of the same ladder alone.

Rungs, rates and epochs were chosen on seed 100.

All are measured on the same held-out prompts, one answer each at temperature 1, with the gold reward. Finished runs are
kept in `--runs`: start it again and it goes on. Without `--seed` the measured seeds are put together.
`benchmarks.demo_seeds` measures DPO and SLiC-HF on labelled pairs.

    for s in 0 1 2; do python -m benchmarks.pairs_ladder --seed $s; done; python -m benchmarks.pairs_ladder
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, write_result
from benchmarks.reward_fits import difference
from ppo.__main__ import main as ppo
from sft.__main__ import main as sft
from workbench.__main__ import main as workbench
from workbench.evaluate.evaluation import read_evaluation
from workbench.evaluate.statistics import bootstrap_interval
from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder

OUT = RESULTS / "pairs_ladder.json"
EXPECTED = (
    "ladder_linear gains at least .15 over sft without a label, where sft_longer gains at most .02; linear against "
    "mixed, reversed and hard as it comes out"
)
SCHEDULES = ("linear", "mixed", "reversed", "hard")
ARMS = ("sft", "sft_longer", *(f"ladder_{schedule}" for schedule in SCHEDULES), "ladder_sft")
CONTRASTS = (
    *((arm, "sft") for arm in ARMS[1:]),
    *(("ladder_linear", f"ladder_{other}") for other in SCHEDULES[1:]),
    ("ladder_linear", "ladder_sft"),
)
RUNGS = "[{name: hot, temperature: 1.3}, {name: warm, temperature: 0.8}, {name: cold, temperature: 0.5}]"
LEARNING = ("loss.label_smoothing=0", "loss.sft_coef=1", "train.lr=1.4e-3", "train.epochs=2")
CONFIGS = Path("configs/tiny")
Main = Callable[[list[str]], int]


def main(argv: list[str] | None = None) -> None:
    """Measure one seed, or put the measured ones together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="measure this seed; without it: put the measured ones together")
    parser.add_argument("--prompts", type=int, default=1500, help="of the ladder (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/pairs_ladder"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seed is None:
        write_result(arguments.out, together(arguments.runs))
    else:
        measure(arguments.runs / f"seed-{arguments.seed}", arguments.seed, arguments.prompts, arguments.threads)


def measure(folder: Path, seed: int, prompts: int, threads: int) -> None:
    """Every run of one seed, and the gold reward of its answers."""
    common = (f"run.seed={seed}", f"run.threads={threads}", "tracking.wandb=disabled")
    ladder = folder / "ladder/preferences.jsonl"
    for name, *words in (("sft", "train.epochs=3"), ("sft_longer", "train.epochs=4")):
        trained(sft, CONFIGS / "sft.yaml", folder / name, *common, *words)
    if not ladder.is_file():
        climb(folder, seed, prompts)
    own = (*common, f"model.start={folder / 'sft'}", f"data.train={ladder}", "data.limit=0", "evaluation.every=0")
    for schedule in SCHEDULES:
        words = (*LEARNING, "loss.beta=0.3", f"curriculum.schedule={schedule}")
        trained(ppo, CONFIGS / "dpo.yaml", folder / f"ladder_{schedule}", *own, *words)
    trained(ppo, CONFIGS / "dpo.yaml", folder / "ladder_sft", *own, "method=sft", *LEARNING)
    runs = [folder / arm for arm in ARMS]
    due = [str(run) for run in runs if not (run / "evaluation.json").is_file()]
    if due:
        said(workbench, "evaluate", *due, "--against", str(folder / "sft"))
    write_text_atomically(folder / "measured.json", json.dumps(summary(folder), indent=1) + "\n")


def trained(program: Main, config: Path, run: Path, *words: str) -> None:
    """A run of a phase, unless it is finished; one that was stopped goes on."""
    if not (run / "run.json").is_file():
        said(program, str(config), f"run.dir={run}", *words)
    elif not RunFolder(run).finished:
        said(program, str(config), f"run.dir={run}", *words, "--resume")


def said(program: Main, *words: str) -> None:
    """Run one command in this process, printed."""
    print("$", program.__module__.removesuffix(".__main__"), *words, flush=True)
    assert program(list(words)) == 0


def climb(folder: Path, seed: int, prompts: int) -> None:
    """Pairs of the ladder, without a reward model."""
    values = {
        "ladder.start": folder / "sft",
        "ladder.reward": "null",
        "ladder.rungs": RUNGS,
        "ladder.number": prompts,
        "ladder.seed": seed,
        "select.length_ratio": 4,  # the better answer is often the shorter one
        "ladder.out": folder / "ladder",
    }
    said(ppo, "pairs", str(CONFIGS / "pairs.yaml"), *(f"{key}={value}" for key, value in values.items()))


def summary(folder: Path) -> dict[str, Any]:
    """Per arm the gold reward of each prompt, and what else describes its answers."""
    arms: dict[str, Any] = {}
    for arm in ARMS:
        policy = read_evaluation(folder / arm).policy
        assert policy is not None
        arms[arm] = {
            "gold": {answer.prompt_id: answer.gold for answer in policy.answers},
            "kl": policy.kl.mean if policy.kl else None,
            "length": policy.length.mean,
            "eos_rate": policy.eos_rate.mean,
            "distinct_2": policy.distinct["2"],
        }
    ladder = json.loads((folder / "ladder/ladder.json").read_text(encoding="utf-8"))
    return {"arms": arms, "ladder": ladder}


def together(runs: Path) -> dict[str, Any]:
    """Means over seeds with intervals, and paired differences of the arms."""
    files = sorted(runs.glob("seed-*/measured.json"))
    assert files, f"no seed is measured in {runs}: start with --seed 0"
    by_seed = {int(file.parent.name.removeprefix("seed-")): json.loads(file.read_text("utf-8")) for file in files}
    prompts = list(next(iter(by_seed.values()))["arms"]["sft"]["gold"])
    gold = {
        arm: {seed: np.array([one["arms"][arm]["gold"][prompt] for prompt in prompts]) for seed, one in by_seed.items()}
        for arm in ARMS
    }
    arms: dict[str, Any] = {}
    for arm in ARMS:
        estimate = bootstrap_interval(np.mean(list(gold[arm].values()), axis=0), seed=0)
        means = [float(found.mean()) for found in gold[arm].values()]
        arms[arm] = {"gold": estimate.mean, "gold_95": [estimate.low, estimate.high], "by_seed": means}
        for name in ("kl", "length", "eos_rate", "distinct_2"):
            found = [one["arms"][arm][name] for one in by_seed.values()]
            arms[arm][name] = None if None in found else float(np.mean(found))
    contrasts = {f"{ours} - {theirs}": difference(gold[ours], gold[theirs], prompts) for ours, theirs in CONTRASTS}
    ladders = {str(seed): one["ladder"] for seed, one in by_seed.items()}
    return {"expected": EXPECTED, "seeds": list(by_seed), "arms": arms, "differences": contrasts, "ladders": ladders}


if __name__ == "__main__":
    main()
