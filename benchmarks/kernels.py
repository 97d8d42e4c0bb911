"""Claim: the CPU kernels train what the modules train, up to float32 rounding, about twice as fast.

On one machine, for `model.kernels=cpu` and `model.kernels=modules`: the seconds of the whole demo; the speed of PPO
against TRL 1.12 (as in `benchmarks.ppo_vs_trl`, all three in turns); and the largest differences between the two in
losses, scores, KL and gradient norms, over a few steps of sft, reward, PPO and DPO from one seed.

    python -m benchmarks.kernels [--parts differences ppo demo] [--repeats 2] [--iterations 4]

About 40 minutes on two cores, most of them for the demo on the modules.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.full_width import dpo_values
from benchmarks.ppo_vs_trl import (
    EPISODES,
    MEASURES,
    PROMPT,
    RESPONSE,
    Material,
    cache_folder,
    obtain_trl,
    our_speed,
    trl_speed,
)
from benchmarks.record import RESULTS, spread, write_result
from workbench.demo import run_demo
from workbench.doctor.rehearsal import deep_merge, reward_values, run_phase, sft_values
from workbench.run.command_line import run_main
from workbench.run.folder import RunFolder

OUT = RESULTS / "kernels.json"
KERNELS = ("cpu", "modules")
PARTS = ("differences", "ppo", "demo")
STEPS = 4
"""Optimizer steps of sft, reward and DPO that are compared, and iterations of PPO."""
KINDS = {
    "losses": ("loss",),
    "scores": ("score", "margin"),
    "kl": ("/kl", "/kl_exact", "/approx_kl"),
    "gradient_norms": ("grad_norm",),
}
"""Kind of metric → how the metrics' names end."""


def main(argv: list[str]) -> int:
    """Measure the chosen parts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--repeats", type=int, default=2, help="processes of each PPO (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=4, help="of each PPO process; the first is not counted")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    content: dict[str, Any] = {"claim": __doc__.split("\n")[0].removeprefix("Claim: ")}
    content |= {kernels: {} for kernels in KERNELS}
    with tempfile.TemporaryDirectory(prefix="kernels-") as name:
        folder = Path(name)
        if {"differences", "ppo"} & set(arguments.parts):
            material = Material.prepare(folder, arguments.threads)
        if "differences" in arguments.parts:
            content["largest_differences"] = largest_differences(material)
        if "ppo" in arguments.parts:
            for kernels, speed in ppo_speeds(material, arguments.repeats, arguments.iterations).items():
                content[kernels]["ppo_vs_trl"] = speed
        if "demo" in arguments.parts:
            for kernels in KERNELS:
                content[kernels]["demo_seconds"] = demo_seconds(folder / f"demo-{kernels}", kernels)
    content["load_average_after"] = os.getloadavg()
    write_result(arguments.out, content)
    return 0


def demo_seconds(folder: Path, kernels: str) -> dict[str, float]:
    """Seconds of each step of the demo, seed 0, and of all."""
    run_demo(folder, seed=0, kernels=kernels)
    seconds: dict[str, float] = json.loads((folder / "demo.json").read_text(encoding="utf-8"))["seconds"]
    return {"total": round(sum(seconds.values()), 1), **seconds}


def ppo_speeds(material: Material, repeats: int, iterations: int) -> dict[str, Any]:
    """Kernels → speed and memory of PPO, alone and over TRL's; all three run in turns."""
    trl = obtain_trl(cache_folder())
    rounds: list[dict[str, dict[str, Any]]] = []
    for repeat in range(repeats):
        speeds = {kernels: our_speed(material.on(kernels), iterations, repeat) for kernels in KERNELS}
        rounds.append(speeds | {"trl": trl_speed(material, trl, iterations)})
        shown = [f"{side} {speed['episodes_per_second']:.2f}" for side, speed in rounds[-1].items()]
        print(f"repeat {repeat}, episodes per second: {', '.join(shown)}", flush=True)
    return {
        kernels: {name: spread([speeds[kernels][name] for speeds in rounds]) for name in MEASURES}
        | {
            f"ratio_{name}": spread([speeds[kernels][name] / speeds["trl"][name] for speeds in rounds])
            for name in MEASURES
        }
        for kernels in KERNELS
    }


def largest_differences(material: Material) -> dict[str, dict[str, float]]:
    """Phase → kind of metric that it logs → the largest |cpu − modules| / max(1, |modules|) over all steps."""
    cpu, modules = (chain(material, kernels) for kernels in KERNELS)
    found = {
        phase: {kind: relative_differences(cpu[phase], modules[phase], endings) for kind, endings in KINDS.items()}
        for phase in cpu
    }
    return {phase: {kind: max(values) for kind, values in kinds.items() if values} for phase, kinds in found.items()}


def relative_differences(
    rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], endings: tuple[str, ...]
) -> list[float]:
    """Relative differences of all metrics with these endings, row by row."""
    return [
        abs(row[name] - other[name]) / max(1.0, abs(other[name]))
        for row, other in zip(rows, others, strict=True)
        for name in row
        if name.endswith(endings)
    ]


def chain(material: Material, kernels: str) -> dict[str, list[dict[str, Any]]]:
    """Phase → metrics of a few steps; every phase starts from the runs of the same chain."""
    folder, records, threads = material.folder / f"chain-{kernels}", material.records, material.threads
    length, model = PROMPT + RESPONSE, {"model": {"kernels": kernels, "activation_checkpointing": False}}
    few = {"train": {"max_steps": STEPS, "lr": 1e-3}, "tracking": {"log_every": 1}}
    sft = sft_values(folder / "sft", material.base, records, max_length=length)
    reward = reward_values(folder / "reward", folder / "sft", records, max_length=length)
    # The first head is a least-squares fit, which would enlarge rounding.
    reward = deep_merge(reward, {"loss": {"head_first": False}})
    ours = material.on(kernels, start=folder / "sft", reward=folder / "reward")
    ppo = ours.ppo_values(folder / "ppo", iterations=STEPS, epochs=1, minibatch=EPISODES)
    dpo = deep_merge(dpo_values(folder, records, length), {"train": {"batch_size": 8, "micro_batch_size": 8}})
    phases = {"sft": ("sft", sft), "reward": ("reward", reward), "ppo": ("ppo", ppo), "dpo": ("ppo", dpo)}
    for name, (phase, values) in phases.items():
        changes = model if name == "ppo" else deep_merge(few, model)
        run_phase(phase, deep_merge(values, changes), folder / f"{name}-files", threads=threads)
    return {name: RunFolder(folder / name).read_metrics() for name in phases}


if __name__ == "__main__":
    run_main(main)
