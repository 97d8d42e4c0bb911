"""Measured memory of a phase on this machine's GPU: one step on random weights, compared with the plan.

The phases run as processes with the memory settings of the configuration, on rows of the greatest length it allows.
Knows phases by name only.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from workbench.doctor.memory import Shape
from workbench.doctor.plan import plan_of
from workbench.doctor.random_base import write_random_base
from workbench.doctor.rehearsal import (
    Measured,
    Records,
    deep_merge,
    reward_values,
    run_phase,
    sft_values,
    write_records,
)
from workbench.doctor.run_plan import RunPlan

TOLERANCE = 0.10
"""Share by which the measured peak may differ from the plan's."""


@dataclass(frozen=True)
class Rehearsal:
    """A folder with a random base, records and finished runs to start from."""

    folder: Path
    base: Path
    records: Records
    length: int


def measured_report(run_plan: RunPlan) -> str:
    """The measured peak next to the planned one; without a GPU, a line that nothing was measured."""
    if not torch.cuda.is_available():
        return "not measured: this machine has no GPU that torch can use"
    plan = plan_of(run_plan.kind, run_plan.shape, run_plan.settings)
    measured = rehearse(run_plan)
    assert measured.peak_gpu_bytes is not None
    ratio = plan.peak / measured.peak_gpu_bytes
    verdict = "agrees" if abs(ratio - 1) <= TOLERANCE else f"differs by more than {TOLERANCE:.0%}"
    return (
        f"{measured.peak_gpu_bytes / 1e9:>9.2f}  measured peak of one step on random weights; "
        f"the plan is {ratio:.2f} of it: {verdict}"
    )


def rehearse(run_plan: RunPlan) -> Measured:
    """Run the phase for a step, after the phases that it starts from, all on random weights."""
    s = run_plan.settings
    prompt, response = (s.prompt, s.response) if run_plan.method == "ppo" else (s.length // 2, s.length - s.length // 2)
    rows = max(8, 4 * s.micro_batch, 2 * s.rollout_micro_batch, 2 * s.sample_batch)
    with tempfile.TemporaryDirectory(prefix="doctor-") as name:
        folder = Path(name)
        base = write_random_base(folder / "base", llama_config(run_plan.shape), dtype=torch.bfloat16)
        records = write_records(folder / "data", base, prompt_tokens=prompt, response_tokens=response, number=rows)
        stage = Rehearsal(folder, base, records, prompt + response)
        start = _sft(stage, run_plan)
        if run_plan.method == "sft":
            return start
        if run_plan.method == "reward":
            return _reward(stage, run_plan, as_configured=True)
        if run_plan.method == "ppo":
            _reward(stage, run_plan, as_configured=False)
            return run_phase("ppo", ppo_values(stage, run_plan), folder)
        return run_phase("ppo", contrastive_values(stage, run_plan), folder)


def llama_config(shape: Shape) -> LlamaConfig:
    """A Llama of a shape, with Llama's special tokens."""
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=8192,
        tie_word_embeddings=shape.tied,
        bos_token_id=1,
        eos_token_id=2,
    )


def _train(run_plan: RunPlan) -> dict[str, Any]:
    """The configured micro batch, in steps of one micro batch."""
    size = run_plan.settings.micro_batch
    return {
        "micro_batch_size": size,
        "batch_size": size,
        "optimizer": run_plan.values.get("train.optimizer", "adamw_torch"),
    }


def _model(run_plan: RunPlan) -> dict[str, Any]:
    return {"activation_checkpointing": run_plan.settings.checkpointing}


def _sft(stage: Rehearsal, run_plan: RunPlan) -> Measured:
    """Supervised tuning: with the configured memory settings where it is what is measured."""
    values = sft_values(stage.folder / "sft", stage.base, stage.records, max_length=stage.length)
    values = deep_merge(values, {"lora": {"r": run_plan.settings.r}, "model": _form(run_plan)})
    if run_plan.method == "sft":
        sample = {"prompts": run_plan.settings.sample_batch, "max_new_tokens": run_plan.settings.response}
        values = deep_merge(values, {"train": _train(run_plan), "model": _model(run_plan), "sample": sample})
    return run_phase("sft", values, stage.folder)


def _form(run_plan: RunPlan) -> dict[str, Any]:
    return {
        "quantise": "nf4" if run_plan.settings.nf4 else "none",
        "dtype": "float32" if run_plan.settings.unit == 4 else "auto",
    }


def _reward(stage: Rehearsal, run_plan: RunPlan, *, as_configured: bool) -> Measured:
    values = reward_values(stage.folder / "reward", stage.folder / "sft", stage.records, max_length=stage.length)
    if as_configured:
        size, response = run_plan.settings.sample_batch, run_plan.settings.response
        normalise = {"answers": max(16, size), "batch_size": size, "max_new_tokens": response}
        values = deep_merge(values, {"train": _train(run_plan), "model": _model(run_plan), "normalise": normalise})
    return run_phase("reward", values, stage.folder)


def ppo_values(stage: Rehearsal, run_plan: RunPlan) -> dict[str, Any]:
    """One iteration of one epoch with the configured micro batches."""
    s = run_plan.settings
    minibatch = s.micro_batch * -(-max(s.rollout_micro_batch, s.sample_batch, s.micro_batch) // s.micro_batch)
    return {
        "method": "ppo",
        "run": {"dir": str(stage.folder / "ppo")},
        "model": {
            "start": str(stage.folder / "sft"),
            "reward": str(stage.folder / "reward"),
            "force": True,  # of two steps: nothing to examine
            "value": str(run_plan.values["model.value"]),
            **_model(run_plan),
        },
        "data": {"train": str(stage.records.prompts), "heldout_share": 0.2, "max_prompt_length": s.prompt},
        "rollout": {
            "batch_size": minibatch,
            "sample_batch_size": s.sample_batch,
            "micro_batch_size": s.rollout_micro_batch,
            "max_new_tokens": s.response,
        },
        "train": {
            "iterations": 1,
            "ppo_epochs": 1,
            "minibatch_size": minibatch,
            "micro_batch_size": s.micro_batch,
        },
        "evaluation": {"every": 0, "prompts": 1},
        "tracking": {"wandb": "disabled"},
    }


def contrastive_values(stage: Rehearsal, run_plan: RunPlan) -> dict[str, Any]:
    """Two steps of contrastive training with the configured micro batch."""
    return {
        "method": run_plan.method,
        "run": {"dir": str(stage.folder / run_plan.method)},
        "model": {"start": str(stage.folder / "sft"), **_model(run_plan)},
        "data": {"train": str(stage.records.preferences), "max_length": stage.length},
        "train": {**_train(run_plan), "max_steps": 2},
        "tracking": {"wandb": "disabled"},
    }
