"""Claim: sft, reward, PPO and DPO on two layers of full 7B width agree in bfloat16 and float32, by the path of a GPU.

Random weights of Llama-7B's width in NF4, activation checkpointing, and transformers' modules, also on a CPU. Each
phase runs once in each dtype from the same seeds. Reports seconds, memory, losses, and how PPO's rollout is reproduced.

    python -m benchmarks.full_width [--folder /scratch]     (1.1 GB)
    python -m benchmarks.full_width --tiny                  (a small Llama: shows that the script runs)
"""

import argparse
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, write_result
from workbench.doctor.measure import llama_config
from workbench.doctor.memory import Shape
from workbench.doctor.random_base import write_random_base
from workbench.doctor.rehearsal import Records, deep_merge, reward_values, run_phase, sft_values, write_records
from workbench.doctor.shapes import KNOWN
from workbench.run.command_line import run_main
from workbench.run.folder import RunFolder

OUT = RESULTS / "full_width.json"
TINY = Shape(vocabulary=512, hidden=64, intermediate=128, layers=2, heads=2, kv_heads=2, head_dim=32, tied=False)
GPU_PATH = {"model": {"activation_checkpointing": True, "kernels": "modules"}}
SHOWN = {
    "sft": ("sft/loss", "validation/loss"),
    "reward": ("reward/loss", "heldout/loss", "normalise/raw_std"),
    "ppo": ("policy/rollout_gap", "policy/rollout_gap_max", "policy/ratio", "objective/kl_exact", "objective/entropy"),
    "dpo": ("contrastive/loss", "heldout/loss"),
}
"""Phase → metrics that are reported."""
COMPARED = ("sft/loss", "validation/loss", "reward/loss", "heldout/loss", "contrastive/loss")
"""Metrics of the same rows in both dtypes."""


@dataclass(frozen=True)
class Sizes:
    """Tokens and rows: few, since each pass of a CPU unpacks 0.4 G weights."""

    prompt: int = 24
    response: int = 4
    episodes: int = 2
    records: int = 8


def main(argv: list[str]) -> int:
    """Prepare, run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small Llama")
    parser.add_argument("--layers", type=int, default=2, help="layers of full width (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to put base and runs (default: the temporary folder)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    shape = TINY if arguments.tiny else replace(KNOWN["llama-7b"], layers=arguments.layers)
    sizes = Sizes()
    with tempfile.TemporaryDirectory(prefix="full-width-", dir=arguments.folder) as name:
        folder = Path(name)
        base = write_random_base(folder / "base", llama_config(shape), dtype=torch.bfloat16)
        tokens = {"prompt_tokens": sizes.prompt, "response_tokens": sizes.response}
        records = write_records(folder / "data", base, **tokens, number=sizes.records)
        found = {dtype: phases(folder / dtype, base, records, sizes, dtype) for dtype in ("bfloat16", "float32")}
    content = {
        "claim": "losses in bfloat16 and float32 differ by at most 0.03, and PPO reproduces its rollout in either",
        "tiny": arguments.tiny,
        "shape": asdict(shape),
        "sizes": asdict(sizes),
        **found,
        "largest_difference": differences(found["bfloat16"], found["float32"]),
    }
    write_result(arguments.out, content)
    return 0


def phases(folder: Path, base: Path, records: Records, sizes: Sizes, dtype: str) -> dict[str, Any]:
    """Phase → seconds, GiB and metrics, each as a user starts it."""
    length = sizes.prompt + sizes.response
    sft = sft_values(folder / "sft", base, records, max_length=length)
    reward = reward_values(folder / "reward", folder / "sft", records, max_length=length)
    started = {
        "sft": ("sft", deep_merge(deep_merge(sft, GPU_PATH), {"model": {"dtype": dtype}})),
        "reward": (
            "reward",
            deep_merge(deep_merge(reward, GPU_PATH), {"normalise": {"max_new_tokens": 2, "batch_size": 16}}),
        ),
        "ppo": ("ppo", ppo_values(folder, records, sizes)),
        "dpo": ("ppo", dpo_values(folder, records, length)),
    }
    found = {}
    for name, (phase, values) in started.items():
        measured = run_phase(phase, values, folder / f"{name}-files")
        rows = RunFolder(folder / name).read_metrics()
        found[name] = {
            "seconds": measured.seconds,
            "peak_rss_gib": measured.peak_rss_bytes / 2**30,
            "metrics": {key: [row[key] for row in rows if key in row] for key in SHOWN[name]},
        }
    return found


def ppo_values(folder: Path, records: Records, sizes: Sizes) -> dict[str, Any]:
    """One iteration: all episodes scored together, updated in halves."""
    return {
        "method": "ppo",
        "run": {"dir": str(folder / "ppo")},
        "model": {
            "start": str(folder / "sft"),
            "reward": str(folder / "reward"),
            "force": True,  # of two steps: nothing to examine
            **GPU_PATH["model"],
        },
        "data": {"train": str(records.prompts), "heldout_share": 0.1, "max_prompt_length": sizes.prompt},
        "rollout": {
            "batch_size": sizes.episodes,
            "micro_batch_size": sizes.episodes,
            "max_new_tokens": sizes.response,
        },
        "train": {
            "iterations": 1,
            "ppo_epochs": 1,
            "minibatch_size": sizes.episodes,
            "micro_batch_size": sizes.episodes // 2,
        },
        "evaluation": {"every": 0, "prompts": 1},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


def dpo_values(folder: Path, records: Records, length: int) -> dict[str, Any]:
    """Two steps on one pair each."""
    return {
        "method": "dpo",
        "run": {"dir": str(folder / "dpo")},
        "model": {"start": str(folder / "sft"), **GPU_PATH["model"]},
        "data": {"train": str(records.preferences), "max_length": length},
        "train": {"lr": 1e-4, "max_steps": 2, "batch_size": 1, "micro_batch_size": 1},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """Phase and metric → the largest difference between two dtypes, over all rows of the log."""
    largest = {}
    for phase, result in first.items():
        for key, values in result["metrics"].items():
            if key in COMPARED:
                others = second[phase]["metrics"][key]
                largest[f"{phase} {key}"] = max(abs(a - b) for a, b in zip(values, others, strict=True))
    return largest


if __name__ == "__main__":
    run_main(main)
