"""Claim: on the embedded default, PPO and DPO raise the gold reward of held-out answers above supervised tuning.

Runs the whole demo once a seed and keeps every summary.

    python -m benchmarks.demo_seeds [--seeds 0 1 2]
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from workbench.demo import run_demo
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
        summaries[str(seed)] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    content = {"commit": git_commit(), "seeds": seeds, "table": _table(summaries), "summaries": summaries}
    write_text_atomically(OUT, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["table"], indent=2))


def _table(summaries: dict[str, Any]) -> dict[str, Any]:
    """Mean and each seed's value of what decides."""
    wanted = {
        "sft": ("gold_mean", "perplexity", "length_mean", "eos_rate", "distinct_2"),
        "reward": ("accuracy", "gold_accuracy", "noise_ceiling", "ece"),
        "ppo": ("gold_mean", "win_rate", "kl", "length_mean", "eos_rate", "distinct_2"),
        "dpo": ("gold_mean", "win_rate", "kl", "length_mean", "eos_rate", "distinct_2"),
    }
    table: dict[str, Any] = {}
    for phase, names in wanted.items():
        for name in names:
            values = [summary["phases"][phase][name] for summary in summaries.values()]
            table[f"{phase}/{name}"] = {"mean": statistics.mean(values), "seeds": values}
    for phase in ("ppo", "dpo"):
        gains = [s["phases"][phase]["gold_mean"] - s["phases"]["sft"]["gold_mean"] for s in summaries.values()]
        table[f"{phase}/gain over sft"] = {"mean": statistics.mean(gains), "seeds": gains}
    table["seconds"] = {"seeds": [sum(s["seconds"].values()) for s in summaries.values()]}
    table["peak_rss_gib"] = {"seeds": [s["peak_rss_gib"] for s in summaries.values()]}
    return table


if __name__ == "__main__":
    main()
