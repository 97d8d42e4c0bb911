"""The whole loop on the embedded default, each step by the command that a user would type.

Each step is a process of its own: packages exchange files only. A finished step is not repeated; an interrupted one
resumes from its last checkpoint.
"""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.embedded import tiny_folder
from workbench.run.checkpoints import make_folder, write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.process import start

CONFIGS = Path("configs/tiny")
DEFAULT_DIR = Path("runs/demo")


@dataclass(frozen=True)
class Step:
    """One command of the loop."""

    name: str
    words: tuple[str, ...]
    """After `python -m`."""
    resumable: bool = False
    """Whether the command takes --resume."""


def demo_steps(folder: Path, seed: int, kernels: str = "auto") -> list[Step]:
    """The commands in order. Values that differ from the shipped configurations are overrides."""

    def phase(module: str, config: str, *overrides: str) -> tuple[str, ...]:
        return (module, str(CONFIGS / f"{config}.yaml"), *overrides)

    def given(**values: str) -> list[str]:
        """Overrides of paths, if the folder is not the default one."""
        return [] if folder == DEFAULT_DIR else [f"{k.replace('__', '.')}={folder / v}" for k, v in values.items()]

    chosen = [] if seed == 0 else [f"run.seed={seed}"]
    chosen += [] if kernels == "auto" else [f"model.kernels={kernels}"]
    pairs, facts = "annotate/preferences.jsonl", str(folder / "annotate/facts.jsonl")
    labels = given(
        pairs__run="sft", pairs__out="annotate/items.jsonl", store__url="annotate/labels.sqlite", export__out=pairs
    )
    labels += [] if seed == 0 else [f"{key}={seed + 1}" for key in ("pairs.seed", "simulate.seed", "queue.seed")]
    runs = [str(folder / name) for name in ("sft", "reward", "ppo", "dpo")]
    evaluation = ["evaluate", *runs, "--reward", str(folder / "reward"), "--against", str(folder / "sft")]
    return [
        Step("base", ("workbench", "tiny")),
        Step("sft", phase("sft", "sft", *given(run__dir="sft"), *chosen), resumable=True),
        Step("pairs", ("annotate", "pairs", str(CONFIGS / "annotate.yaml"), *labels)),
        Step("labels", ("annotate", "simulate", str(CONFIGS / "annotate.yaml"), *labels)),
        Step("export", ("annotate", "export", str(CONFIGS / "annotate.yaml"), *labels)),
        Step("facts", ("workbench", "tiny", "--facts", facts)),
        Step(
            "reward",
            phase(
                "reward",
                "reward",
                *given(run__dir="reward", model__start="sft", data__train=pairs),
                f"passport.facts={facts}",
                *chosen,
            ),
            resumable=True,
        ),
        Step(
            "ppo",
            phase("ppo", "ppo", *given(run__dir="ppo", model__start="sft", model__reward="reward"), *chosen),
            resumable=True,
        ),
        Step(
            "dpo",
            phase("ppo", "dpo", *given(run__dir="dpo", model__start="sft", data__train=pairs), *chosen),
            resumable=True,
        ),
        Step("evaluate", ("workbench", *evaluation)),
        Step("report", ("workbench", "report", *runs, "--out", str(folder / "report.html"))),
    ]


def run_demo(folder: Path, *, seed: int, kernels: str = "auto") -> None:
    """Run the steps that are not done yet, write summary.json, and print the results.

    Raises:
        WorkbenchError: another seed than before, the folder cannot be written, or a step failed.
    """
    make_folder(folder)
    ledger = _Ledger.open(folder / "demo.json", seed)
    ledger.save()  # an error here, if the folder cannot be written, is clearer than one of a step
    for step in demo_steps(folder, seed, kernels):
        _run_step(step, ledger)
    _write_summary(folder, ledger)
    _print_outcome(folder, ledger)


@dataclass
class _Ledger:
    """The finished steps, their seconds, and the peak memory of the largest process so far."""

    path: Path
    seed: int
    seconds: dict[str, float]
    peak_rss_gib: float

    @classmethod
    def open(cls, path: Path, seed: int) -> "_Ledger":
        if not path.is_file():
            return cls(path, seed, {}, 0.0)
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["seed"] != seed:
            raise WorkbenchError(
                path,
                f"was made with seed {content['seed']}, not {seed}",
                remedy=f"--dir runs/demo-seed{seed}, or delete {path.parent}",
            )
        return cls(path, seed, content["seconds"], content["peak_rss_gib"])

    def save(self) -> None:
        content = {"seed": self.seed, "seconds": self.seconds, "peak_rss_gib": self.peak_rss_gib}
        write_text_atomically(self.path, json.dumps(content, indent=2) + "\n")


def _run_step(step: Step, ledger: _Ledger) -> None:
    done = step.name in ledger.seconds and (step.name != "base" or (tiny_folder() / "base").is_dir())
    shown = shlex.join(["python", "-m", *step.words])
    if done:
        print(f"\n\033[2m$ {shown}\n  done before in {ledger.seconds[step.name]:.0f} s\033[0m", flush=True)
        return
    print(f"\n\033[1m$ {shown}\033[0m", flush=True)
    words = [*step.words, "--resume"] if step.resumable else list(step.words)
    started = time.monotonic()
    code, rss = _run(words, ledger.path.with_name("peak.json"))
    if code != 0:
        raise WorkbenchError(
            f"demo, step {step.name}",
            f"ended with exit code {code}; its own message is above",
            remedy="fix the cause and start the demo again: it continues with this step",
        )
    ledger.seconds[step.name] = round(time.monotonic() - started, 1)
    ledger.peak_rss_gib = round(max(ledger.peak_rss_gib, rss), 3)
    ledger.save()


def _run(words: Sequence[str], measured: Path) -> tuple[int, float]:
    """Exit code and peak resident memory (GiB) of a command."""
    process = start(words, measured)
    try:
        process.join()
    except BaseException:
        process.terminate()
        process.join()
        raise
    peak = json.loads(measured.read_text(encoding="utf-8"))["peak_rss_bytes"] if measured.is_file() else 0
    return process.exitcode or 0, peak / 2**30


def _write_summary(folder: Path, ledger: _Ledger) -> None:
    from workbench.evaluate.summary import build_summary

    summary = build_summary(
        {name: folder / name for name in ("sft", "reward", "ppo", "dpo")},
        ledger.seconds,
        ledger.peak_rss_gib,
        ledger.seed,
    )
    write_text_atomically(folder / "summary.json", json.dumps(summary, indent=2) + "\n")


COLUMNS = {
    "gold reward": "gold_mean",
    "win rate": "win_rate",
    "KL": "kl",
    "length": "length_mean",
    "EOS": "eos_rate",
    "distinct-2": "distinct_2",
}


def _print_outcome(folder: Path, ledger: _Ledger) -> None:
    from workbench.evaluate.summary import parts_moved

    phases = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["phases"]
    reward = phases["reward"]
    print("\n" + " " * 8 + "".join(f"{title:>13}" for title in COLUMNS))
    for name in ("sft", "ppo", "dpo"):
        cells = [phases[name].get(key) for key in COLUMNS.values()]
        print(f"{name:<8}" + "".join(f"{'–' if cell is None else format(cell, '.3f'):>13}" for cell in cells))
    for name in ("ppo", "dpo"):
        if moved := parts_moved(phases["sft"]["gold_parts"], phases[name]["gold_parts"]):
            print(f"{name}, parts of gold: {moved}")
    print(
        f"\nreward model: held-out accuracy {reward['accuracy']:.3f} (noise ceiling {reward['noise_ceiling']:.3f}), "
        f"calibration error {reward['ece']:.3f}"
    )
    total = sum(ledger.seconds.values())
    print(f"{total:.0f} s in all, largest process {ledger.peak_rss_gib:.2f} GiB, labels by simulated annotators")
    page = shlex.join(demo_steps(folder, ledger.seed)[2].words[2:])
    print(f"\nreport:  {folder / 'report.html'}\npage:    python -m annotate serve {page}")
