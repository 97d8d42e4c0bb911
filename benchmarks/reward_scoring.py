"""Claim: scoring pairs is at least 1.5 times as fast as the evaluation loop of TRL's RewardTrainer, in less memory.

Both sides load the same reward run and the same tokenised pairs, each in a process of its own, in turn; only the loop
is timed. TRL's gets several batch sizes, of which the fastest counts. Both must come to the same accuracy and margin.

Time is the process's CPU time (with one thread it is what a quiet machine would take), or on a GPU wall time; the wall
time stands beside it. Peak memory is the process's largest resident set during the loop (on a GPU: torch's peak of
allocated memory). Answers that occur in several pairs of a prompt are read once by ours; --one-per-prompt shows what is
left without that.

    python -m benchmarks.reward_scoring RUN PAIRS [--limit 1000] [--repeats 3] [--one-per-prompt] [--out FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, write_result
from workbench.data.batching import encode_pairs
from workbench.data.readers import read_preferences
from workbench.model.base import load_base, load_tokenizer
from workbench.model.open import base_of, open_runs
from workbench.model.score import score_rows
from workbench.run.folder import RunFolder

OUT = RESULTS / "reward_scoring.json"
CLAIM = "scoring pairs is at least 1.5 times as fast as TRL's evaluation loop, in less memory"
TRL_BATCHES = (8, 16, 32)
"""Pairs a batch that TRL's loop is given: 8 is its default."""
OUR_BATCH = 64


def main(argv: list[str] | None = None) -> None:
    """Run both sides in turn and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reward_run", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--limit", type=int, default=1000, help="pairs")
    parser.add_argument(
        "--max-length", type=int, default=256, help="tokens of prompt and answer; longer pairs are left out"
    )
    parser.add_argument("--one-per-prompt", action="store_true", help="one pair a prompt: no answer occurs twice")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.side:
        print(json.dumps(measure(arguments)))
        return
    sides: dict[str, list[dict[str, float]]] = {"ours": []} | {f"trl, batch {size}": [] for size in TRL_BATCHES}
    for _ in range(arguments.repeats):
        for name, measured in sides.items():
            measured.append(in_process(arguments, name))
            print(name, measured[-1], flush=True)
    content = {
        "claim": CLAIM,
        "threads": torch.get_num_threads(),
        "pairs_file": arguments.pairs.name,
        "one_pair_a_prompt": arguments.one_per_prompt,
        "repeats": arguments.repeats,
        **compare(sides),
    }
    write_result(arguments.out, content)


def compare(sides: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of both sides, and their ratios: ours to the fastest of TRL's.

    Raises:
        AssertionError: the sides did not do the same work.
    """
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in sides.items()
    }
    ours = medians["ours"]
    fastest = max((name for name in sides if name != "ours"), key=lambda name: medians[name]["pairs_per_second"])
    theirs = medians[fastest]
    for name, other in medians.items():
        assert abs(other["accuracy"] - ours["accuracy"]) < 5e-3, (name, other, ours)
        assert abs(other["margin"] - ours["margin"]) < 1e-2 * max(1.0, abs(ours["margin"])), (name, other, ours)
    return {
        "medians": medians,
        "fastest_trl": fastest,
        "speed_ratio": ours["pairs_per_second"] / theirs["pairs_per_second"],
        "memory_ratio": ours["peak_mib"] / theirs["peak_mib"],
        "runs": sides,
    }


def in_process(arguments: argparse.Namespace, name: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    side, _, batch = name.partition(", batch ")
    command = [sys.executable, "-m", "benchmarks.reward_scoring", str(arguments.reward_run), str(arguments.pairs)]
    options = {"--limit": arguments.limit, "--max-length": arguments.max_length, "--side": side, "--batch": batch or 0}
    command += [str(word) for option in options.items() for word in option]
    command += ["--one-per-prompt"] * arguments.one_per_prompt
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Time one side's loop."""
    folder = RunFolder.open(arguments.reward_run, phase="reward").require_finished()
    spec = base_of(folder)
    tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
    records = [record for record in read_preferences(arguments.pairs) if record.strength > 0]
    if arguments.one_per_prompt:
        records = list({record.group: record for record in records}.values())
    records = records[: arguments.limit]
    rows = encode_pairs(tokenizer, records, max_length=arguments.max_length, source=arguments.pairs).rows
    whole = len(rows) - len(rows) % max(TRL_BATCHES)
    rows = rows[:whole] if whole else rows  # TRL's means give a last, smaller batch the weight of a whole one
    if arguments.side == "ours":
        return ours(folder, rows)
    with tempfile.TemporaryDirectory() as scratch:
        return trl(folder, rows, arguments.batch, scratch)


def ours(folder: RunFolder, rows: list[dict[str, Any]]) -> dict[str, float]:
    """`score_rows`, which `python -m reward score` and the evaluation call."""
    roles = open_runs({"reward": folder.path})
    flat = [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]
    score_rows(roles, "reward", flat[:8], batch_size=8)  # warm-up
    before, started = start_memory(), clock()
    scores = score_rows(roles, "reward", flat, batch_size=OUR_BATCH)
    seconds = [now - then for now, then in zip(clock(), started, strict=True)]
    gaps = (scores[: len(rows)] - scores[len(rows) :]) / roles.heads["reward"].gain.cpu()
    return numbers(len(rows), seconds, before, float((gaps > 0).float().mean()), float(gaps.mean()))


def trl(folder: RunFolder, rows: list[dict[str, Any]], batch: int, scratch: str) -> dict[str, float]:
    """`RewardTrainer.evaluate` on rows that are tokenised already."""
    from datasets import Dataset
    from peft import PeftModel
    from trl import RewardConfig, RewardTrainer

    spec = base_of(folder)
    tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
    base: Any = load_base(spec, tokenizer, head="score")
    model: Any = PeftModel.from_pretrained(base, str(folder.adapter))
    dataset = Dataset.from_list(rows)
    arguments = RewardConfig(
        output_dir=scratch,
        per_device_eval_batch_size=batch,
        report_to="none",
        max_length=None,
        disable_tqdm=True,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = RewardTrainer(
        model=model, args=arguments, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer
    )
    trainer.evaluate(dataset.select(range(min(8, len(dataset)))))  # warm-up
    before, started = start_memory(), clock()
    found = trainer.evaluate()
    seconds = [now - then for now, then in zip(clock(), started, strict=True)]
    return numbers(len(rows), seconds, before, found["eval_accuracy"], found["eval_margin"])


def start_memory() -> float:
    """Resident memory before the loop, MiB; the peak is counted from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts anew
    return _status("VmRSS")


def clock() -> tuple[float, float]:
    """Seconds by which speed is told (CPU time, on a GPU wall time), and wall time."""
    wall = time.perf_counter()
    return wall if torch.cuda.is_available() else time.process_time(), wall


def numbers(pairs: int, seconds: list[float], before: float, accuracy: float, margin: float) -> dict[str, float]:
    """What a measurement gives."""
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else _status("VmHWM")
    return {
        "pairs": pairs,
        "seconds": seconds[0],
        "wall_seconds": seconds[1],
        "pairs_per_second": pairs / seconds[0],
        "peak_mib": peak,
        "loop_mib": peak - before,
        "accuracy": accuracy,
        "margin": margin,
    }


def _status(name: str) -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith(name)
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
