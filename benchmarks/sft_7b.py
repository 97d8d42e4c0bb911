"""Claim: QLoRA tuning of a 7B on rows of 1024 tokens is at least 1.3 times as fast as a plain SFTTrainer, in 8 GiB.

A Llama-7B of random weights is written to disk and loaded as NF4. Demonstrations vary in length, as real ones do: ours
packs them into full rows, as configs/llama-7b/sft.yaml says; the plain trainer pads them. Tokens are real ones.

    python -m benchmarks.sft_7b [--folder /scratch]
    python -m benchmarks.sft_7b --tiny         (a small Llama, also without a GPU: shows that the script runs)
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.ppo_7b import TINY, memory_of, random_base
from benchmarks.rate import matmul_rate
from benchmarks.record import RESULTS, spread, write_result
from workbench.doctor.hours import training_flop
from workbench.doctor.rehearsal import Measured, Records, deep_merge, run_module, run_phase, sft_values, write_records
from workbench.doctor.shapes import KNOWN
from workbench.run.command_line import run_main
from workbench.run.folder import RunFolder

OUT = RESULTS / "sft_7b.json"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the run."""

    length: int = 1024
    prompt: int = 128
    shortest: int = 128
    """Response; the longest fills the row."""
    micro_batch: int = 4
    steps: int = 12
    """The first of each process warms up and is not counted."""
    records: int = 400
    repeats: int = 3
    checkpointing: bool = True


SMALL = Sizes(length=64, prompt=24, shortest=8, micro_batch=2, steps=3, records=64, repeats=1)


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small Llama and few tokens")
    parser.add_argument("--layers", type=int, help="fewer layers of full width (default: 32)")
    parser.add_argument("--repeats", type=int, help="pairs of runs")
    parser.add_argument("--folder", type=Path, help="whose base (14 GB) is used, or written (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    return parser


def main(argv: list[str]) -> int:
    """Prepare, alternate, write."""
    arguments = argument_parser().parse_args(argv)
    shape, sizes = (TINY, SMALL) if arguments.tiny else (KNOWN["llama-7b"], Sizes())
    shape = replace(shape, layers=arguments.layers or shape.layers)
    sizes = replace(sizes, repeats=arguments.repeats or sizes.repeats)
    with tempfile.TemporaryDirectory(prefix="sft-7b-", dir=arguments.folder) as name:
        folder = Path(name)
        base = random_base(arguments.folder or folder, shape)
        records = write_records(
            folder / "data",
            base,
            prompt_tokens=sizes.prompt,
            response_tokens=sizes.length - sizes.prompt,
            shortest=sizes.shortest,
            number=sizes.records,
        )
        pairs = [
            (our_run(folder, base, records, sizes), trl_run(folder, base, records, sizes)) for _ in range(sizes.repeats)
        ]
    rate = matmul_rate()
    per_token = training_flop(shape, checkpointing=sizes.checkpointing)
    ours, theirs = (summary(runs, per_token, rate["flop_per_second"]) for runs in zip(*pairs, strict=True))
    content = {
        "claim": "at least 1.3 times the tokens/s of a plain SFTTrainer, at most 8 GiB at 1024 tokens",
        "tiny": arguments.tiny,
        "shape": asdict(shape),
        "sizes": asdict(sizes),
        "matmul_rate": rate,
        "ours": ours,
        "trl": theirs,
        "ratio": spread([a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs]),
    }
    write_result(arguments.out, content)
    return 0


def our_run(folder: Path, base: Path, records: Records, sizes: Sizes) -> dict[str, Any]:
    """`python -m sft` with packing; times and tokens from its metrics."""
    run = RunFolder(folder / "sft")
    values = deep_merge(
        sft_values(run.path, base, records, max_length=sizes.length),
        {
            "model": {"activation_checkpointing": sizes.checkpointing},
            "data": {"packing": True, "validation_share": 0.05},
            "train": {
                "batch_size": sizes.micro_batch,
                "micro_batch_size": sizes.micro_batch,
                "max_steps": sizes.steps,
            },
        },
    )
    measured = run_phase("sft", values, folder)
    rows = [row for row in run.read_metrics() if "sft/tokens" in row]
    seconds, tokens = (rows[-1][name] - rows[0][name] for name in ("seconds", "sft/tokens"))
    return {"tokens_per_second": tokens / seconds, **memory_of(measured)}


def trl_run(folder: Path, base: Path, records: Records, sizes: Sizes) -> dict[str, Any]:
    """The plain trainer, in a process of its own."""
    out, peak, path = (folder / name for name in ("trl-out.json", "trl-peak.json", "trl-job.json"))
    job = {
        "base": str(base),
        "folder": str(folder / "trl"),
        "demonstrations": str(records.demonstrations),
        "micro_batch": sizes.micro_batch,
        "steps": sizes.steps,
        "length": sizes.length,
        "checkpointing": sizes.checkpointing,
        "out": str(out),
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    run_module("benchmarks.trl_sft", str(path), out=peak)
    result = json.loads(out.read_text(encoding="utf-8"))
    measured = Measured(**json.loads(peak.read_text(encoding="utf-8")))
    return {"tokens_per_second": result["tokens"] / result["seconds"], **memory_of(measured)}


def summary(runs: tuple[dict[str, Any], ...], flop_per_token: float, rate: float) -> dict[str, Any]:
    """Repeats of one side."""
    speed = spread([run["tokens_per_second"] for run in runs])
    return {
        "tokens_per_second": speed,
        "fraction_of_matmul_rate": speed["median"] * flop_per_token / rate,
        "peak_gpu_gib": runs[-1]["peak_gpu_gib"],
        "peak_rss_gib": runs[-1]["peak_rss_gib"],
    }


if __name__ == "__main__":
    run_main(main)
