"""Claim: on the tiny default, PPO, DPO and SLiC-HF raise the gold reward of held-out answers above supervised tuning.

Runs the whole demo once a seed, then SLiC-HF on the same pairs, and keeps every summary.

    python -m benchmarks.demo_seeds [--seeds 0 1 2]
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.command import command
from workbench.demo import run_demo
from workbench.evaluate.evaluation import read_evaluation
from workbench.evaluate.summary import policy_summary
from workbench.run.checkpoints import write_text_atomically
from workbench.run.lineage import git_commit

OUT = Path("benchmarks/results/demo_seeds.json")


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    summaries: dict[str, Any] = {}
    for seed in seeds:
        folder = Path("runs/demo") if seed == 0 else Path(f"runs/demo-seed{seed}")
        run_demo(folder, seed=seed)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        summary["phases"]["slic"] = _slic(folder, seed)
        summaries[str(seed)] = summary
    content = {"commit": git_commit(), "seeds": seeds, "table": _table(summaries), "summaries": summaries}
    write_text_atomically(OUT, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["table"], indent=2))


def _slic(folder: Path, seed: int) -> dict[str, Any]:
    """Numbers of SLiC-HF on the pairs of a finished demo."""
    run = folder / "slic"
    paths = (f"run.dir={run}", f"model.start={folder / 'sft'}", f"data.train={folder / 'annotate/preferences.jsonl'}")
    evaluation = (
        "workbench",
        "evaluate",
        str(run),
        "--reward",
        str(folder / "reward"),
        "--against",
        str(folder / "sft"),
    )
    for words in (("ppo", "configs/tiny/slic.yaml", *paths, f"run.seed={seed}", "--resume"), evaluation):
        command(*words)
    policy = read_evaluation(run).policy
    assert policy is not None
    return policy_summary(policy)


def _table(summaries: dict[str, Any]) -> dict[str, Any]:
    """Mean and each seed's value of what decides."""
    wanted = {
        "sft": ("gold_mean", "perplexity", "length_mean", "eos_rate", "distinct_2"),
        "reward": ("accuracy", "gold_accuracy", "noise_ceiling", "ece"),
        "ppo": ("gold_mean", "win_rate", "kl", "length_mean", "eos_rate", "distinct_2"),
        "dpo": ("gold_mean", "win_rate", "kl", "length_mean", "eos_rate", "distinct_2"),
        "slic": ("gold_mean", "win_rate", "kl", "length_mean", "eos_rate", "distinct_2"),
    }
    table: dict[str, Any] = {}
    for phase, names in wanted.items():
        for name in names:
            values = [summary["phases"][phase][name] for summary in summaries.values()]
            table[f"{phase}/{name}"] = {"mean": statistics.mean(values), "seeds": values}
    for phase in ("ppo", "dpo", "slic"):
        gains = [s["phases"][phase]["gold_mean"] - s["phases"]["sft"]["gold_mean"] for s in summaries.values()]
        table[f"{phase}/gain over sft"] = {"mean": statistics.mean(gains), "seeds": gains}
    table["seconds"] = {"seeds": [sum(s["seconds"].values()) for s in summaries.values()]}
    table["peak_rss_gib"] = {"seeds": [s["peak_rss_gib"] for s in summaries.values()]}
    return table


if __name__ == "__main__":
    main()
