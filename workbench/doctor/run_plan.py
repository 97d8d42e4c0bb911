"""`python -m workbench doctor`: the memory and the hours of a configuration, before anything is downloaded or trained.

The phase itself is asked for its resolved values (`python -m PHASE CONFIG --dry-run --json`); the arithmetic is
`workbench.doctor.plan`.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.data.base_files import BaseFiles, check_quantisation, fit_positions, read_base_files
from workbench.doctor.hours import Amounts, hours, step_seconds
from workbench.doctor.memory import Shape
from workbench.doctor.plan import PLANS, Plan, Settings, largest_divisor, largest_that_fits, plan_of
from workbench.doctor.shapes import shape_named, shape_of
from workbench.run.config import dotted, read_values
from workbench.run.errors import Problems, WorkbenchError

ROOT = Path(__file__).parents[2]
DEFAULT_RANK = 16
CLASSIFIERS = ("head", "verbalizer")
"""Methods of `python -m sft`; a classifier takes the memory and the hours of supervised tuning on the same rows."""
OF_SFT = {"validation", "validation_share", "loss_on", "packing", "mix", "replay"}
"""Keys of `data` that supervised tuning alone has: it may start from a run too, as reward training does."""
TRAINED = ("micro_batch", "train.micro_batch_size", "train.batch_size")
MICRO_BATCHES = {
    "sft": (TRAINED,),
    "reward": (TRAINED, ("sample_batch", "normalise.batch_size", "normalise.answers")),
    "contrastive": (TRAINED,),
    "ppo": (
        ("micro_batch", "train.micro_batch_size", "train.minibatch_size"),
        ("rollout_micro_batch", "rollout.micro_batch_size", "rollout.batch_size"),
        ("sample_batch", "rollout.sample_batch_size", "rollout.batch_size"),
    ),
}
"""Kind of training → (field of the plan's settings, its key, the key of what it has to divide)."""


@dataclass(frozen=True)
class RunPlan:
    """A configuration with everything that planning needs to know about its base."""

    config: Path
    phase: str
    """The package that runs it."""
    method: str
    """The phase's name, or the method of a contrastive run."""
    values: dict[str, Any]
    """Dotted key → value, as the phase resolves them."""
    base: str
    shape: Shape
    shape_source: str
    settings: Settings
    files: BaseFiles | None
    """The base's files, if they are on this machine."""

    @property
    def kind(self) -> str:
        """`sft`, `reward`, `ppo` or `contrastive`: decides the plan of memory and hours."""
        return self.method if self.method in PLANS else "contrastive"


def examine(config: Path, overrides: Sequence[str], *, shape: str | None, device: str) -> RunPlan:
    """Read a configuration, and find its base and the ranks of its adapters.

    Args:
        config: a phase's YAML file.
        overrides: `a.b=value`.
        shape: name of a well-known shape, instead of the base's config.json.
        device: `cuda` or `cpu`: what `dtype: auto` means.

    Raises:
        WorkbenchError: the phase refuses the configuration; its base or start run cannot be found.
    """
    phase = phase_of(config)
    values = resolved_values(phase, config, overrides)
    method = "sft" if phase == "sft" else str(values.get("method", phase))
    start = source_of(config, (values["model.start"],) if values.get("model.start") else ())
    base = values.get("model.base") or start.get("base")
    if base is None and shape is None:
        raise WorkbenchError(
            f"{config}: model.start",
            f"{values.get('model.start')} is not a finished run, and no file in the same folder describes it",
            expected="a run folder, or the configuration of that run in the same folder",
            remedy="model.base=NAME, or --shape llama-7b",
        )
    if shape is not None:
        found, source, files = shape_named(shape), f"--shape {shape}", None
    else:
        found, source = shape_of(str(base), values.get("model.revision"))
        files = read_base_files(str(base), values.get("model.revision")) if "known shape" not in source else None
    settings = settings_of(method, values, start, source_of(config, rewards_of(values)[:1]), device)
    return RunPlan(config, phase, method, values, str(base or shape), found, source, settings, files)


def phase_of(config: Path) -> str:
    """The package that reads a file, judged by its sections.

    Raises:
        WorkbenchError: the file is missing, or belongs to no phase that trains.
    """
    sections = read_values(config)
    if "model" not in sections:
        raise WorkbenchError(
            config, "has no `model:`", expected="a configuration of sft, reward or ppo: those that hold a model"
        )
    if sections.get("method") in CLASSIFIERS:
        return "sft"
    if "method" in sections or "rollout" in sections:
        return "ppo"
    tunes = "sample" in sections or OF_SFT & (sections.get("data") or {}).keys()
    return "reward" if "start" in sections["model"] and not tunes else "sft"


def resolved_values(phase: str, config: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The values that the phase resolves the file and the overrides to, by dotted key.

    Raises:
        WorkbenchError: the phase refuses them.
    """
    command = [sys.executable, "-m", phase, str(config), *overrides, "--dry-run", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        text = done.stderr.strip().removeprefix("error: ")
        raise WorkbenchError(f"python -m {phase} {config} --dry-run", f"refuses it: {text}")
    return dotted(json.loads(done.stdout)["config"])


def rewards_of(values: dict[str, Any], key: str = "model.reward") -> tuple[str, ...]:
    """The reward runs of a PPO configuration, which names one or several; with `guard.judge`, those of its guard."""
    named = values.get(key, ())
    return (named,) if isinstance(named, str) else tuple(named)


def source_of(config: Path, runs: tuple[str, ...]) -> dict[str, Any]:
    """Base, quantisation, dtype and rank of the first run: from its folder, else from the configuration next to it."""
    if not runs:
        return {}
    run = runs[0]
    record, adapter = Path(run) / "run.json", Path(run) / "adapter/adapter_config.json"
    if record.is_file() and adapter.is_file():
        base = json.loads(record.read_text(encoding="utf-8")).get("base", {})
        rank = json.loads(adapter.read_text(encoding="utf-8")).get("r")
        return {"base": base.get("name"), "quantise": base.get("quantise"), "dtype": base.get("dtype"), "r": rank}
    for path in sorted(config.parent.glob("*.yaml")):
        sections = read_values(path)
        if sections.get("run", {}).get("dir") == run:
            model = sections.get("model", {})
            known = {key: model.get(key) for key in ("base", "quantise", "dtype")}
            # A run with a start run takes the shape of that adapter and ignores `lora`.
            return known if "start" in model else {**known, "r": sections.get("lora", {}).get("r", DEFAULT_RANK)}
    return {}


def settings_of(
    method: str, values: dict[str, Any], start: dict[str, Any], reward: dict[str, Any], device: str
) -> Settings:
    """The values that determine the memory."""
    quantise = values.get("model.quantise") or start.get("quantise") or "nf4"
    dtype = values.get("model.dtype") or start.get("dtype") or "auto"
    wide = dtype == "float32" or (dtype == "auto" and device == "cpu")
    rank = start.get("r") or (values.get("lora.r") if method == "sft" else DEFAULT_RANK)
    length = int(values.get("data.max_length") or 0)
    sampling = {
        "sft": ("sample.prompts", "sample.max_new_tokens"),
        "reward": ("normalise.batch_size", "normalise.max_new_tokens"),
        "ppo": ("rollout.micro_batch_size", "rollout.max_new_tokens"),
    }
    rows, response = (int(values.get(key) or 0) for key in sampling[method]) if method in sampling else (0, 0)
    return Settings(
        nf4=quantise == "nf4",
        unit=4 if wide else 2,
        checkpointing=bool(values["model.activation_checkpointing"]),
        r=int(rank or DEFAULT_RANK),
        # A reward adapter is a copy of its start adapter, in that one's shape.
        reward_r=int(reward.get("r") or start.get("r") or DEFAULT_RANK),
        eight_bit=values.get("train.optimizer") == "paged_adamw_8bit",
        micro_batch=int(values["train.micro_batch_size"]),
        length=length,
        prompt=int(values.get("data.max_prompt_length") or max(1, length // 2)),
        response=response,
        sample_batch=int(values.get("rollout.sample_batch_size") or rows),
        rollout_micro_batch=rows,
        value=str(values.get("model.value")) if values.get("train.advantage", "gae") == "gae" else "none",
        reward_models=max(1, len(rewards_of(values))) + len(rewards_of(values, "guard.judge")),
        merged=values.get("rollout.engine") == "merged",
        bounded=bool(values.get("train.target_kl")),
    )


def report(run_plan: RunPlan, gpu_memory: float, amounts: Amounts) -> str:
    """Memory by part, whether it fits, the largest micro-batches that fit, and hours by stage.

    Args:
        run_plan: from `examine`.
        gpu_memory: GiB of the card.
        amounts: records and rates that decide the hours.
    """
    plan = plan_of(run_plan.kind, run_plan.shape, run_plan.settings)
    memory = gpu_memory * 2**30
    lines = [
        f"{run_plan.method} · {run_plan.config} · {run_plan.base}: {run_plan.shape.parameters:,} parameters "
        f"({run_plan.shape_source})",
        *_base_lines(run_plan),
        "held all the time, GB",
        *_rows(plan.parts),
        f"at its largest, on top of that, GB (rows of {_length(run_plan)} tokens)",
        *_rows(plan.moments, mark=plan.worst),
        f"{_gb(plan.resident)}  held all the time",
        f"{_gb(plan.peak)}  peak ({plan.worst})",
        f"{_gb(plan.needed)}  with CUDA's context and fragmentation, of {memory / 1e9:.2f} GB ({gpu_memory:g} GiB): "
        + ("fits" if plan.needed <= memory else "DOES NOT FIT"),
        *(f"largest that fits: {line}" for line in advice(run_plan, plan, memory)),
        *time_report(run_plan, amounts),
    ]
    return "\n".join(lines)


def _base_lines(run_plan: RunPlan) -> list[str]:
    """One line on the base, and a line for each conflict with the configuration."""
    if run_plan.files is None:
        return []
    values = run_plan.values
    keys = ("data.max_prompt_length", "rollout.max_new_tokens") if run_plan.method == "ppo" else ("data.max_length",)
    problems = Problems()
    problems.attempt(fit_positions, run_plan.files.positions, {key: int(values[key]) for key in keys})
    problems.attempt(check_quantisation, run_plan.files, values.get("model.quantise", "nf4"))
    return [f"base: {run_plan.files.describe()}", *(f"problem: {error}" for error in problems.errors)]


def time_report(run_plan: RunPlan, amounts: Amounts) -> list[str]:
    """Hours by stage, with the assumptions behind them."""
    s = run_plan.settings
    stages = hours(run_plan.kind, run_plan.values, run_plan.shape, s, amounts)
    assumed = [f"rows of {amounts.row_tokens} tokens on average (--row-tokens)"]
    if run_plan.method != "ppo":
        assumed.append(f"{amounts.records:,} records (--records)")
    if s.sample_batch:
        milliseconds = 1e3 * step_seconds(run_plan.shape, s, amounts)
        assumed.append(f"a decode step of {s.sample_batch} answers in {milliseconds:.0f} ms (--step-ms)")
    assumed.append(f"products at {amounts.flop_per_second / 1e12:.0f} TFLOP/s (--tflops)")
    return [
        "hours on a GPU, from these assumptions: " + ", ".join(assumed),
        *(f"{value:>9.2f}  {name}" for name, value in stages.items()),
        f"{sum(stages.values()):>9.2f}  in all",
    ]


def advice(run_plan: RunPlan, plan: Plan, memory: float) -> list[str]:
    """The largest micro-batches, or which keys to change if none fits."""
    lines = []
    for field, name, whole_key in MICRO_BATCHES[run_plan.kind]:
        whole = int(run_plan.values[whole_key])
        limit = largest_that_fits(run_plan.kind, run_plan.shape, run_plan.settings, memory, field=field)
        size = largest_divisor(whole, limit)
        lines.append(
            f"{name}={size} (limit {limit}; it divides {whole})" if size else f"no {name} at all: {_knobs(plan)}"
        )
    if run_plan.method == "ppo":
        lines += _fastest_engine(run_plan, memory)
    return lines


def _fastest_engine(run_plan: RunPlan, memory: float) -> list[str]:
    """Advise the merged engine if it samples faster than the adapter, each with as many answers as fit."""
    seconds = {}
    for merged in (False, True):
        s = replace(run_plan.settings, merged=merged)
        limit = largest_that_fits("ppo", run_plan.shape, s, memory, field="sample_batch")
        size = largest_divisor(int(run_plan.values["rollout.batch_size"]), limit)
        step = step_seconds(run_plan.shape, replace(s, sample_batch=size), Amounts())
        seconds[merged] = (step / size if size else math.inf, size)
    if seconds[True] < seconds[False]:
        return [f"rollout.engine=merged, which samples faster, with rollout.sample_batch_size={seconds[True][1]}"]
    return []


def _knobs(plan: Plan) -> str:
    if "sampling" in plan.worst:
        return "fewer answers at a time, or shorter ones"
    return "model.activation_checkpointing=true, model.quantise=nf4, shorter rows, or more memory"


def _length(run_plan: RunPlan) -> int:
    s = run_plan.settings
    return s.prompt + s.response if run_plan.method == "ppo" else s.length


def _rows(entries: dict[str, float], mark: str | None = None) -> list[str]:
    return [f"{_gb(value)}  {name}{'  <- largest' if name == mark else ''}" for name, value in entries.items()]


def _gb(value: float) -> str:
    digits = 2 if value >= 1e7 or value == 0 else 5
    return f"{max(value, 0.0) / 1e9:>9.{digits}f}"
