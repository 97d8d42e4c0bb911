"""Claim: PPO of a 7B on one GPU: 256 + 256 tokens, all roles on one NF4 base, at most 16 GiB, as the plan says.

A Llama-7B of random weights is written to disk and loaded as NF4, so nothing is fetched. Reports samples/s, tokens/s of
each stage, milliseconds of a decode step, the share of time spent in rollouts, peak memory beside the plan's, and the
fraction of the card's measured bfloat16 rate. With --trl, TRL 1.12's PPOTrainer runs the same sizes afterwards.

    python -m benchmarks.ppo_7b [--trl] [--engine merged] [--folder /scratch]
    python -m benchmarks.ppo_7b --tiny         (a small Llama, also without a GPU: shows that the script runs)
    python -m benchmarks.ppo_7b --layers 2 --dtype bfloat16 --kernels modules --episodes 8 --prompt 32 --response 8
                                               (two layers of full width, without a GPU, on the path that a GPU runs)
"""

import argparse
import contextlib
import itertools
import json
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ppo_vs_trl import VERSION, cache_folder, obtain_trl
from benchmarks.rate import matmul_rate
from benchmarks.record import RESULTS, write_result
from workbench.doctor.hours import forward_flop, training_flop
from workbench.doctor.measure import llama_config
from workbench.doctor.memory import Shape
from workbench.doctor.plan import Settings, plan_of
from workbench.doctor.random_base import write_random_base
from workbench.doctor.rehearsal import (
    Measured,
    Records,
    deep_merge,
    reward_values,
    run_module,
    run_phase,
    sft_values,
    write_records,
)
from workbench.doctor.shapes import KNOWN, read_shape
from workbench.run.command_line import run_main
from workbench.run.folder import RunFolder

OUT = RESULTS / "ppo_7b.json"
TINY = Shape(vocabulary=512, hidden=64, intermediate=128, layers=2, heads=2, kv_heads=2, head_dim=32, tied=False)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the run."""

    prompt: int = 256
    response: int = 256
    episodes: int = 128
    """Episodes per iteration."""
    sample_batch: int = 32
    rollout_micro_batch: int = 32
    micro_batch: int = 8
    minibatch: int = 64
    epochs: int = 1
    iterations: int = 3
    """The first warms up and is not counted."""
    checkpointing: bool = True
    engine: str = "transformers"
    dtype: str = "auto"
    kernels: str = "auto"
    """`modules` keeps a CPU on the path that a GPU runs."""


CLAIMED_GIB = 16.0
"""Memory that the sizes above must fit, by the plan (tested)."""
SMALL = Sizes(
    prompt=24, response=8, episodes=8, sample_batch=8, rollout_micro_batch=8, micro_batch=2, minibatch=4, iterations=2
)


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small Llama and few tokens")
    parser.add_argument("--trl", action="store_true", help=f"TRL {VERSION} afterwards, on the same sizes")
    parser.add_argument("--layers", type=int, help="fewer layers of full width (default: 32)")
    for field in fields(Sizes):
        if field.name != "checkpointing":
            kind = type(field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=f"(default: {field.default})")
    parser.add_argument("--folder", type=Path, help="for base (14 GB) and runs, which are found again (default: none)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    return parser


def main(argv: list[str]) -> int:
    """Prepare, run, write."""
    arguments = argument_parser().parse_args(argv)
    shape, sizes = (TINY, SMALL) if arguments.tiny else (KNOWN["llama-7b"], Sizes())
    shape = replace(shape, layers=arguments.layers or shape.layers)
    given = {field.name: getattr(arguments, field.name, None) for field in fields(Sizes)}
    sizes = consistent(replace(sizes, **{name: value for name, value in given.items() if value is not None}))
    with contextlib.nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = prepare(folder, shape, sizes)
        ours = our_run(folder, records, shape, sizes)
        theirs = trl_run(folder, records, sizes) if arguments.trl else None
    rate = matmul_rate()
    ours["fraction_of_matmul_rate"] = ours.pop("flop_per_second") / rate["flop_per_second"]
    content: dict[str, Any] = {
        "claim": f"at most {CLAIMED_GIB:g} GiB at the default sizes; at least 3 samples/s with one epoch on an H200",
        "tiny": arguments.tiny,
        "shape": asdict(shape),
        "sizes": asdict(sizes),
        "matmul_rate": rate,
        "ours": ours,
        "trl": theirs,
    }
    if theirs is not None:
        content["ratio_samples_per_second"] = ours["samples_per_second"] / theirs["samples_per_second"]
    write_result(arguments.out, content)
    return 0


def consistent(sizes: Sizes) -> Sizes:
    """Batches no larger than what they are taken from."""
    minibatch = min(sizes.minibatch, sizes.episodes)
    return replace(sizes, minibatch=minibatch, micro_batch=min(sizes.micro_batch, minibatch))


def plan_settings(sizes: Sizes) -> Settings:
    """These sizes as the plan takes them."""
    wide = sizes.dtype == "float32" or (sizes.dtype == "auto" and not torch.cuda.is_available())
    return Settings(
        unit=4 if wide else 2,
        checkpointing=sizes.checkpointing,
        micro_batch=sizes.micro_batch,
        prompt=sizes.prompt,
        response=sizes.response,
        sample_batch=sizes.sample_batch,
        rollout_micro_batch=sizes.rollout_micro_batch,
        merged=sizes.engine == "merged",
    )


def prepare(folder: Path, shape: Shape, sizes: Sizes) -> Records:
    """Base, records, and the two runs that PPO starts from; runs that are there already are taken."""
    base = random_base(folder, shape)
    records = write_records(
        folder / "data",
        base,
        prompt_tokens=sizes.prompt,
        response_tokens=sizes.response,
        number=2 * sizes.episodes + 8,
    )
    length = sizes.prompt + sizes.response
    model = {"activation_checkpointing": sizes.checkpointing, "kernels": sizes.kernels}
    form = {**model, "dtype": sizes.dtype}
    sft = deep_merge(sft_values(folder / "sft", base, records, max_length=length), {"model": form})
    done = [run.exists() and RunFolder.open(run).finished for run in (folder / "sft", folder / "reward")]
    if all(done):
        return records
    run_phase("sft", sft, folder)
    reward = deep_merge(reward_values(folder / "reward", folder / "sft", records, max_length=length), {"model": model})
    run_phase("reward", reward, folder)
    return records


def random_base(folder: Path, shape: Shape) -> Path:
    """The folder's random base of a shape; written where it is not there yet."""
    base = folder / "base"
    if not (base / "config.json").is_file() or read_shape(base / "config.json") != shape:
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        write_random_base(base, llama_config(shape), dtype=dtype)
    return base


def our_run(folder: Path, records: Records, shape: Shape, sizes: Sizes) -> dict[str, Any]:
    """PPO as a user starts it; times from its metrics."""
    run = RunFolder(folder / "ppo")
    measured = run_phase("ppo", ppo_values(run.path, folder, records, sizes), folder)
    rows = [row for row in run.read_metrics() if "policy/loss" in row]
    seconds = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(rows)]
    counted = rows[1:]
    stages = {
        stage: sum(row[f"speed/{stage}_seconds"] for row in counted) / len(counted) for stage in ("rollout", "update")
    }
    iteration = sum(seconds) / len(seconds)
    answered = sizes.episodes * sum(row["response/length"] for row in counted) / len(counted)
    read = sizes.episodes * sizes.prompt + answered
    # Sampling reads each token once; then policy, reference, value and reward read the row; policy and value train.
    flop = 5 * forward_flop(shape) * read + 2 * sizes.epochs * read * training_flop(
        shape, checkpointing=sizes.checkpointing
    )
    on_gpu = torch.cuda.is_available()
    steps = -(-sizes.episodes // sizes.sample_batch) * sizes.response
    return {
        "samples_per_second": sizes.episodes / iteration,
        "seconds_per_iteration": iteration,
        "rollout_share": stages["rollout"] / iteration,
        "rollout_tokens_per_second": answered / stages["rollout"],
        "update_tokens_per_second": 2 * sizes.epochs * read / stages["update"],
        "flop_per_second": flop / iteration,
        "rollout_milliseconds_per_decode_step": 1e3 * stages["rollout"] / steps,
        "planned_peak_gib": plan_of("ppo", shape, plan_settings(sizes)).peak / 2**30,
        "rollout_gap": max(row.get("policy/rollout_gap", 0.0) for row in rows),
        "rollout_gap_max": max(row.get("policy/rollout_gap_max", 0.0) for row in rows),
        **memory_of(measured),
        "peak_gpu_gib": max((row["speed/peak_gib"] for row in rows), default=None) if on_gpu else None,
    }


def ppo_values(run: Path, folder: Path, records: Records, sizes: Sizes) -> dict[str, Any]:
    """Configuration of ours."""
    return {
        "method": "ppo",
        "run": {"dir": str(run), "overwrite": True},
        "model": {
            "start": str(folder / "sft"),
            "reward": str(folder / "reward"),
            "force": True,  # of two steps: nothing to examine
            "activation_checkpointing": sizes.checkpointing,
            "kernels": sizes.kernels,
        },
        "data": {"train": str(records.prompts), "heldout_share": 0.1, "max_prompt_length": sizes.prompt},
        "rollout": {
            "batch_size": sizes.episodes,
            "sample_batch_size": sizes.sample_batch,
            "micro_batch_size": sizes.rollout_micro_batch,
            "engine": sizes.engine,
            "max_new_tokens": sizes.response,
        },
        "train": {
            "iterations": sizes.iterations,
            "ppo_epochs": sizes.epochs,
            "minibatch_size": sizes.minibatch,
            "micro_batch_size": sizes.micro_batch,
        },
        "evaluation": {"every": 0, "prompts": 1},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


def trl_run(folder: Path, records: Records, sizes: Sizes) -> dict[str, Any]:
    """TRL 1.12 on the same base, adapters, prompts and sizes; one optimizer step an epoch, in micro batches."""
    out, peak, path = (folder / name for name in ("trl-out.json", "trl-peak.json", "trl-job.json"))
    job = {
        "version": VERSION,
        "threads": torch.get_num_threads(),
        "base": str(folder / "base"),
        "sft_adapter": str(folder / "sft/adapter"),
        "reward_adapter": str(folder / "reward/adapter"),
        "head": str(folder / "reward/head.safetensors"),
        "prompts": str(records.prompts),
        "folder": str(folder / "trl"),
        "rollout": sizes.episodes,
        "rollout_micro_batch": sizes.rollout_micro_batch,
        "micro_batch": sizes.micro_batch,
        "checkpointing": sizes.checkpointing,
        "minibatches": 1,
        "response_tokens": sizes.response,
        "lr": 1e-5,
        "adam_eps": 1e-5,
        "adam_beta2": 0.95,
        "responses": None,
        "iterations": sizes.iterations,
        "epochs": [sizes.epochs],
        "out": str(out),
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    run_module("benchmarks.trl_ppo", str(path), out=peak, first_on_path=obtain_trl(cache_folder()))
    ends = json.loads(out.read_text(encoding="utf-8"))[0]["ends"]
    seconds = [after[0] - before[0] for before, after in itertools.pairwise(ends)]
    measured = Measured(**json.loads(peak.read_text(encoding="utf-8")))
    return {"samples_per_second": sizes.episodes * len(seconds) / sum(seconds), **memory_of(measured)}


def memory_of(measured: Measured) -> dict[str, Any]:
    """Peaks in GiB."""
    gpu = measured.peak_gpu_bytes
    return {
        "peak_gpu_gib": None if gpu is None else gpu / 2**30,
        "peak_rss_gib": measured.peak_rss_bytes / 2**30,
    }


if __name__ == "__main__":
    run_main(main)
