"""Rehearse phases on random weights and random text of exact length, to measure them without data.

Phases start as a user would start them: as processes, through their scripts and a configuration file.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Records:
    """Files of random records with exact lengths in tokens of a byte tokenizer."""

    prompts: Path
    demonstrations: Path
    preferences: Path


@dataclass(frozen=True)
class Measured:
    """Time and memory that the process of one phase took."""

    seconds: float
    peak_rss_bytes: int
    peak_gpu_bytes: int | None
    """By torch's allocator; None without a GPU."""


def write_records(
    folder: Path,
    base: Path,
    *,
    prompt_tokens: int,
    response_tokens: int,
    number: int,
    shortest: int | None = None,
    seed: int = 0,
) -> Records:
    """Records for a base with a byte tokenizer.

    Args:
        folder: for the files.
        base: as `workbench.doctor.random_base` writes it.
        prompt_tokens: of each prompt as the phases encode it, template and BOS included.
        response_tokens: of each response, EOS included.
        number: records in each file.
        shortest: of each response, where lengths are to vary evenly between this and `response_tokens`.
        seed: of the letters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    tokenizer = load_tokenizer(str(base))
    around = len(encode_prompt(tokenizer, [Message(role="user", content="a")])) - 1
    if prompt_tokens <= around or response_tokens < 4:
        raise ValueError(f"a prompt takes more than {around} tokens, a response at least 4")

    def letters(count: int) -> str:
        return "".join(rng.choices(LETTERS, k=count))

    prompts = [[{"role": "user", "content": letters(prompt_tokens - around)}] for _ in range(number)]
    rows: dict[str, list[dict[str, Any]]] = {"prompts": [], "demonstrations": [], "preferences": []}
    for i, prompt in enumerate(prompts):
        # A template puts a space before a response and EOS after it.
        chosen, rejected = (letters(rng.randint(shortest or response_tokens, response_tokens) - 2) for _ in range(2))
        rows["prompts"].append({"id": f"p{i}", "prompt": prompt})
        rows["demonstrations"].append({"id": f"d{i}", "prompt": prompt, "response": chosen})
        rows["preferences"].append(
            {
                "id": f"pair{i}",
                "group": f"g{i}",
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "split": "train" if i % 4 else "heldout",
            }
        )
    for name, records in rows.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return Records(*(folder / f"{name}.jsonl" for name in ("prompts", "demonstrations", "preferences")))


def run_phase(phase: str, values: Mapping[str, Any], folder: Path, *, threads: int | None = None) -> Measured:
    """Start a phase on a configuration and wait for it.

    Raises:
        WorkbenchError: the phase failed; its last lines are in the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, out = folder / f"{phase}.yaml", folder / f"{phase}-peak.json"
    config.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    run_module(phase, str(config), out=out, threads=threads)
    return Measured(**json.loads(out.read_text(encoding="utf-8")))


def run_module(
    module: str, *arguments: str, out: Path, threads: int | None = None, first_on_path: Path | None = None
) -> None:
    """Run `python -m MODULE …` under `workbench.run.peak`, with this source tree on the path.

    Raises:
        WorkbenchError: it ended with an error.
    """
    paths = [*([str(first_on_path)] if first_on_path else []), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "HF_HUB_OFFLINE": "1"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "workbench.run.peak", str(out), str(os.getpid()), module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise WorkbenchError(f"python -m {module}", f"ended with code {done.returncode}:\n{tail}")


def sft_values(run: Path, base: Path, records: Records, *, max_length: int, **changes: Any) -> dict[str, Any]:
    """Two steps of supervised tuning, one row at a time, learning rate constant: an adapter that is not empty."""
    values: dict[str, Any] = {
        "run": {"dir": str(run), "overwrite": True},
        "model": {"base": str(base)},
        "data": {"train": str(records.demonstrations), "validation_share": 0.25, "max_length": max_length},
        "train": {
            "lr": 1e-3,
            "max_steps": 2,
            "schedule": "constant",
            "warmup_share": 0.0,
            "batch_size": 1,
            "micro_batch_size": 1,
        },
        "sample": {"prompts": 0},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }
    return deep_merge(values, changes)


def reward_values(run: Path, start: Path, records: Records, *, max_length: int, **changes: Any) -> dict[str, Any]:
    """Two steps of reward modelling on one pair each."""
    values: dict[str, Any] = {
        "run": {"dir": str(run), "overwrite": True},
        "model": {"start": str(start)},
        "data": {"train": str(records.preferences), "max_length": max_length},
        "train": {
            "lr": 1e-3,
            "max_steps": 2,
            "schedule": "constant",
            "warmup_share": 0.0,
            "batch_size": 1,
            "micro_batch_size": 1,
        },
        "normalise": {"answers": 16, "max_new_tokens": 4, "batch_size": 4},
        "passport": {"at_end": False},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }
    return deep_merge(values, changes)


def deep_merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `values` with the keys of `changes` put into them."""
    result = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for name, section in changes.items():
        result[name] = {**result.get(name, {}), **section} if isinstance(section, Mapping) else section
    return result
