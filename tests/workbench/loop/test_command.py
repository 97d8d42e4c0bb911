"""A very small loop: killed at a random moment of every step, it ends with the files of a loop that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from workbench.data.embedded import resolve_data

pytestmark = pytest.mark.slow

STEPS = ("sample", "choose", "label", "export", "reward", "policy", "measure")
"""All steps of a round."""
LOOP = {
    "rounds": 1,
    "labels": 24,
    "strategy": "wide-gaps",
    "annotators": "simulated",
    "sft": {"use": "configs/tiny/sft.yaml", "set": ["train.max_steps=8", "checkpoint.every=3", "sample.prompts=2"]},
    "annotate": {
        "use": "configs/tiny/annotate.yaml",
        "set": [
            *("pairs.number=40", "pairs.responses_per_prompt=2", "pairs.max_new_tokens=16", "pairs.batch_size=8"),
            *("queue.overlap_share=0", "export.heldout_share=0.25"),
        ],
    },
    "reward": {
        "use": "configs/tiny/reward.yaml",
        "set": ["normalise.answers=16", "normalise.max_new_tokens=16", "passport.answers=4", "checkpoint.every=2"],
    },
    "policy": {
        "use": "configs/tiny/ppo.yaml",
        "set": [
            *("model.force=true", "train.iterations=2", "rollout.batch_size=16", "rollout.micro_batch_size=16"),
            *("train.minibatch_size=16", "train.micro_batch_size=16", "rollout.max_new_tokens=16"),
            *("evaluation.prompts=4", "checkpoint.every=1", "train.value_only_iterations=1"),
        ],
    },
}


def start(config, folder):
    """The loop as a process of its own, with all output in a file."""
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, "-m", "workbench", "loop", str(config)]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def contents(out):
    """What a loop leaves, without times: pairs, labels, weights, and the report's numbers."""
    found = {}
    folder = out / "round-1"
    for name in ("pool", "priorities", "items", "preferences"):
        found[name] = (folder / f"{name}.jsonl").read_bytes()
    for run in ("reward", "policy"):
        found[run] = (folder / run / "adapter/adapter_model.safetensors").read_bytes()
    found["passport"] = json.loads((folder / "reward/passport.json").read_text())["checks"]
    rounds = json.loads((out / "loop.json").read_text())["rounds"]
    return found | {"rounds": [{name: row[name] for name in row if name != "seconds"} for row in rounds]}


def test_killed_in_every_step_it_ends_as_if_left_alone(tmp_path):
    config, out = tmp_path / "loop.yaml", tmp_path / "loop"
    measure = {"max_new_tokens": 16}
    for name in ("prompts", "demonstrations"):
        lines = resolve_data(f"tiny:{name}_heldout").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:8]), encoding="utf-8")
        measure[name] = str(tmp_path / f"{name}.jsonl")
    config.write_text(yaml.safe_dump({"loop": {"out": str(out), **LOOP}, "measure": measure}), encoding="utf-8")
    assert start(config, tmp_path).wait() == 0, (tmp_path / "output.txt").read_text()
    calm = contents(out)
    out.rename(tmp_path / "calm")
    assert calm["preferences"].count(b"\n") == 24

    rng = random.Random(0)
    for log in (out / f"logs/round-1-{part}.txt" for part in STEPS):
        process = start(config, tmp_path)
        while not log.exists():
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            time.sleep(0.05)
        seconds = json.loads((tmp_path / "calm/steps.json").read_text())[_name(log)]["seconds"]
        time.sleep(rng.uniform(0.1, 0.95) * float(seconds))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(config, tmp_path).wait() == 0, (tmp_path / "output.txt").read_text()
    assert contents(out) == calm


def _name(log: Path) -> str:
    """`round-1-sample.txt` is the log of "round 1 sample"."""
    return " ".join(log.stem.split("-"))
