"""Claim: PPO here answers at least twice as many episodes a second as TRL 1.12's PPOTrainer, in less memory.

Both train on one random tiny NF4 Llama, the same adapters, prompts, response length, epochs and minibatches, in turns,
each in a process of its own. A second part gives both the same responses and one minibatch an epoch, and compares the
losses of every step.

    python -m benchmarks.ppo_vs_trl [--repeats 3] [--iterations 4]

TRL 1.12.0 is fetched once with pip, into a folder that is first on the path of TRL's process only.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig

from benchmarks.record import RESULTS, spread, write_result
from workbench.data.readers import read_prompts
from workbench.data.tokenise import encode_prompt
from workbench.doctor.random_base import write_random_base
from workbench.doctor.rehearsal import (
    Measured,
    Records,
    reward_values,
    run_module,
    run_phase,
    sft_values,
    write_records,
)
from workbench.model.base import load_tokenizer
from workbench.run.command_line import run_main
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

OUT = RESULTS / "ppo_vs_trl.json"
VERSION = "1.12.0"
PROMPT, RESPONSE, EPISODES, EPOCHS, MINIBATCHES = 24, 48, 64, 4, 4
LR, ADAM_EPS, ADAM_BETA2 = 1e-4, 1e-8, 0.999
SHAPE = {
    "vocab_size": 768,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def main(argv: list[str]) -> int:
    """Prepare, alternate, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="processes of each (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=4, help="of each process; the first is not counted")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    trl = obtain_trl(cache_folder())
    with tempfile.TemporaryDirectory(prefix="ppo-vs-trl-") as name:
        material = Material.prepare(Path(name), arguments.threads)
        content = {
            "claim": "at least 2 times the episodes/s, less memory, equal losses where the algorithms are equal",
            "sizes": {
                **SHAPE,
                "prompt_tokens": PROMPT,
                "response_tokens": RESPONSE,
                "episodes": EPISODES,
                "epochs": EPOCHS,
                "minibatches": MINIBATCHES,
                "threads": arguments.threads,
            },
            "speed": compare_speed(material, trl, arguments.repeats, arguments.iterations),
            "losses": compare_losses(material, trl),
        }
    write_result(arguments.out, content)
    return 0


def cache_folder() -> Path:
    """Where TRL 1.12.0 is kept."""
    root = os.environ.get("WORKBENCH_CACHE") or "~/.cache/alignment-workbench"
    return Path(root).expanduser() / f"trl-{VERSION}"


def obtain_trl(folder: Path) -> Path:
    """Unpack TRL's wheel into the folder, where it is not there yet.

    Raises:
        WorkbenchError: pip cannot reach its index.
    """
    if (folder / "trl/experimental/ppo/ppo_trainer.py").is_file():
        return folder
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", download, f"trl=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(download).glob("trl-*.whl"))
        if done.returncode or not wheels:
            raise WorkbenchError(
                f"trl {VERSION}",
                f"cannot be fetched: {(done.stderr.strip().splitlines() or ['pip gave no wheel'])[-1]}",
                expected="a package index that pip can reach, once",
                remedy=f"unpack the wheel trl-{VERSION}-py3-none-any.whl into {folder}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(folder)
    return folder


class Material:
    """One base, one sft run, one reward run, and prompts of exact length."""

    def __init__(
        self, folder: Path, base: Path, records: Records, threads: int, *, heldout: Path | None = None
    ) -> None:
        self.folder, self.base, self.records, self.threads, self.heldout = folder, base, records, threads, heldout
        self.sft, self.reward = RunFolder(folder / "sft"), RunFolder(folder / "reward")
        self.kernels = "auto"

    @classmethod
    def prepare(cls, folder: Path, threads: int) -> "Material":
        """Write the base and the records, and run sft and reward for two steps each."""
        base = write_random_base(folder / "base", LlamaConfig(**SHAPE), dtype=torch.float32)
        records = write_records(
            folder / "data", base, prompt_tokens=PROMPT, response_tokens=RESPONSE, number=4 * EPISODES
        )
        material = cls(folder, base, records, threads)
        sft = sft_values(material.sft.path, base, records, max_length=PROMPT + RESPONSE)
        run_phase("sft", sft, folder, threads=threads)
        reward = reward_values(material.reward.path, material.sft.path, records, max_length=PROMPT + RESPONSE)
        run_phase("reward", reward, folder, threads=threads)
        return material

    def on(self, kernels: str, *, start: Path | None = None, reward: Path | None = None) -> "Material":
        """The same with a choice of `model.kernels`, and other runs to start from if they are given."""
        other = Material(self.folder, self.base, self.records, self.threads, heldout=self.heldout)
        other.sft, other.reward = RunFolder(start or self.sft.path), RunFolder(reward or self.reward.path)
        other.kernels = kernels
        return other

    def with_prompts(self, number: int) -> "Material":
        """The same on the first so many prompts, so that one iteration answers each once."""
        lines = self.records.prompts.read_text(encoding="utf-8").splitlines(keepends=True)
        fewer = self.records.prompts.with_name(f"prompts-{number}.jsonl")
        fewer.write_text("".join(lines[:number]), encoding="utf-8")
        other = self.records.prompts.with_name("prompts-heldout.jsonl")
        other.write_text(lines[-1], encoding="utf-8")
        records = Records(fewer, self.records.demonstrations, self.records.preferences)
        return Material(self.folder, self.base, records, self.threads, heldout=other)

    def ppo_values(self, run: Path, *, iterations: int, epochs: int, minibatch: int) -> dict[str, Any]:
        """Configuration of ours."""
        return {
            "method": "ppo",
            "run": {"dir": str(run), "threads": self.threads},
            "model": {
                "start": str(self.sft.path),
                "reward": str(self.reward.path),
                "force": True,
                "kernels": self.kernels,
            },
            "data": {
                "train": str(self.records.prompts),
                "heldout": str(self.heldout) if self.heldout else None,
                "heldout_share": 0.02,
                "max_prompt_length": PROMPT,
            },
            "rollout": {"batch_size": EPISODES, "micro_batch_size": EPISODES, "max_new_tokens": RESPONSE},
            "reward": {"kl_coef": 0.05, "missing_eos_score": None, "score_clip": 0.0},
            "train": {
                "iterations": iterations,
                "ppo_epochs": epochs,
                "minibatch_size": minibatch,
                "micro_batch_size": minibatch,
                "lr": LR,
                "value_lr": LR,
                "target_kl": 0.0,  # TRL has no such limit
                "max_grad_norm": 1e9,
                "adam_eps": ADAM_EPS,
                "adam_beta2": ADAM_BETA2,
            },
            "evaluation": {"every": 0, "prompts": 1},
            "checkpoint": {"every": 0},
            "tracking": {"wandb": "disabled", "log_every": 1},
        }

    def trl_job(self, **changes: Any) -> dict[str, Any]:
        """The job of TRL's process."""
        return {
            "version": VERSION,
            "threads": self.threads,
            "base": str(self.base),
            "sft_adapter": str(self.sft.adapter),
            "reward_adapter": str(self.reward.adapter),
            "head": str(self.reward.head_path),
            "prompts": str(self.records.prompts),
            "folder": str(self.folder / "trl"),
            "rollout": EPISODES,
            "rollout_micro_batch": EPISODES,
            "micro_batch": EPISODES,  # a minibatch, a part of it, then has an optimizer step of its own
            "checkpointing": False,
            "response_tokens": RESPONSE,
            "lr": LR,
            "adam_eps": ADAM_EPS,
            "adam_beta2": ADAM_BETA2,
            "responses": None,
            **changes,
        }


MEASURES = ("episodes_per_second", "episodes_per_cpu_second", "peak_rss_mib")


def compare_speed(material: Material, trl: Path, repeats: int, iterations: int) -> dict[str, Any]:
    """Both in turns; the first iteration of each process warms up and is not counted.

    On a machine that others use at the same time, the ratio of CPU seconds is the one to read.
    """
    pairs = []
    for repeat in range(repeats):
        pairs.append((our_speed(material, iterations, repeat), trl_speed(material, trl, iterations)))
        shown = [f"{side[name]:.2f}" for name in MEASURES for side in pairs[-1]]
        print(f"repeat {repeat}: ours and TRL, {', '.join(MEASURES)}: {' '.join(shown)}", flush=True)
    content: dict[str, Any] = {"load_average_after": os.getloadavg()}
    for name in MEASURES:
        for side, runs in zip(("ours", "trl"), zip(*pairs, strict=True), strict=True):
            content[f"{side}_{name}"] = spread([run[name] for run in runs])
        content[f"ratio_{name}"] = spread([ours[name] / theirs[name] for ours, theirs in pairs])
    return content | {"ours_stages_seconds": pairs[-1][0]["stages"]}


def our_speed(material: Material, iterations: int, repeat: int) -> dict[str, Any]:
    """One process of ours."""
    run = RunFolder(material.folder / f"ppo-{material.kernels}-{repeat}")
    values = material.ppo_values(run.path, iterations=iterations, epochs=EPOCHS, minibatch=EPISODES // MINIBATCHES)
    ends, measured = run_ours(material, run.path.name, values)
    last = [row for row in run.read_metrics() if "policy/loss" in row][-1]
    stages = {name: value for name, value in last.items() if name.startswith("speed/") and name.endswith("_seconds")}
    return speed_of(ends, measured) | {"stages": stages}


def trl_speed(material: Material, trl: Path, iterations: int) -> dict[str, Any]:
    """One process of TRL's."""
    job = material.trl_job(iterations=iterations, epochs=[EPOCHS], minibatches=MINIBATCHES)
    results, measured = run_trl(material, trl, job)
    return speed_of(results[0]["ends"], measured)


def speed_of(ends: list[tuple[float, float]], measured: Measured) -> dict[str, Any]:
    """Episodes/s between the end of the first iteration and that of the last, and the process's memory."""
    episodes = EPISODES * (len(ends) - 1)
    wall, cpu = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    return {
        "episodes_per_second": episodes / wall,
        "episodes_per_cpu_second": episodes / cpu,
        "peak_rss_mib": measured.peak_rss_bytes / 2**20,
    }


def run_ours(
    material: Material, name: str, values: dict[str, Any], *responses: str
) -> tuple[list[tuple[float, float]], Measured]:
    """Start our process on a configuration."""
    config, out, peak = (material.folder / f"{name}{ending}" for ending in (".yaml", "-ends.json", "-peak.json"))
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    run_module("benchmarks.our_ppo", str(config), str(out), *responses, out=peak, threads=material.threads)
    return json.loads(out.read_text(encoding="utf-8")), Measured(**json.loads(peak.read_text(encoding="utf-8")))


def run_trl(material: Material, trl: Path, job: dict[str, Any]) -> tuple[list[dict[str, Any]], Measured]:
    """Start TRL's process on a job."""
    out, peak, path = (material.folder / name for name in ("trl-out.json", "trl-peak.json", "trl-job.json"))
    path.write_text(json.dumps(job | {"out": str(out)}), encoding="utf-8")
    run_module("benchmarks.trl_ppo", str(path), out=peak, threads=material.threads, first_on_path=trl)
    return json.loads(out.read_text(encoding="utf-8")), Measured(**json.loads(peak.read_text(encoding="utf-8")))


def compare_losses(material: Material, trl: Path, steps: Sequence[int] = (1, 2, 3, 4)) -> dict[str, Any]:
    """The same responses, no EOS among them, one minibatch an epoch: means of the losses over the first k steps.

    Where a response has an EOS the two differ on purpose: TRL puts the score one slot after it and averages values over
    one slot more. Whitening differs by Bessel's correction, 2e-4 of the policy loss here.
    """
    material = material.with_prompts(EPISODES)
    responses = material.folder / "responses.json"
    responses.write_text(json.dumps(fixed_responses(material)), encoding="utf-8")
    job = material.trl_job(iterations=1, epochs=list(steps), minibatches=1, responses=str(responses))
    theirs = [result["metrics"][0] for result in run_trl(material, trl, job)[0]]
    ours = [our_losses(material, epochs, responses) for epochs in steps]
    pairs = {
        "policy/loss": "loss/policy_avg",
        "value/loss": "loss/value_avg",
        "policy/approx_kl": "policy/approxkl_avg",
    }
    content: dict[str, Any] = {"means_over_the_first_steps": list(steps)}
    for mine, other in pairs.items():
        first, second = [row[mine] for row in ours], [row[other] for row in theirs]
        content[mine] = {
            "ours": first,
            "trl": second,
            "largest_difference": max(abs(a - b) for a, b in zip(first, second, strict=True)),
        }
    return content


def fixed_responses(material: Material) -> list[tuple[list[int], list[int]]]:
    """A random response of full length, without special tokens, to each prompt."""
    rng = random.Random(1)
    tokenizer = load_tokenizer(str(material.base))
    return [
        (encode_prompt(tokenizer, record.prompt), [rng.randrange(3, SHAPE["vocab_size"]) for _ in range(RESPONSE)])
        for path in (material.records.prompts, material.heldout)
        if path is not None
        for record in read_prompts(path)
    ]


def our_losses(material: Material, epochs: int, responses: Path) -> dict[str, Any]:
    """Metrics of one iteration of ours on the given responses."""
    run = RunFolder(material.folder / f"losses-{epochs}")
    values = material.ppo_values(run.path, iterations=1, epochs=epochs, minibatch=EPISODES)
    run_ours(material, run.path.name, values, str(responses))
    row: dict[str, Any] = next(row for row in run.read_metrics() if "policy/loss" in row)
    return row


if __name__ == "__main__":
    run_main(main)
