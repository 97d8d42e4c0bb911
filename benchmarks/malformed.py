"""Question: does every command that reads users' files answer a malformed one with one clear error?

Good files of four forms (demonstrations, labelled texts, pairs, items) are each broken in one of the ways of
`benchmarks.broken_files`. Each file goes through validate, sft, classify, reward and `annotate load`. An answer is
clear if the exit code is 2, standard error has one line `error: …`, which names the file, and there is no traceback.
A file counts as clear if all five answers are. The control: every command accepts the good files of its form.

This process runs each command on the good files, which loads its modules, and is then forked for each broken file: the
exit code, the output and the peak memory are that file's own, plus those of the loaded modules. Every `--real`-th file
also runs as a whole process.

    python -m benchmarks.malformed [--files 300] [--real 60]
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.broken_files import BREAKS, FORMS, good_rows, lines
from workbench.run.command_line import run_main
from workbench.run.progress import progress

OUT = Path("benchmarks/results/malformed.json")
COMMANDS = ("validate", "sft", "classify", "reward", "annotate")


class File(NamedTuple):
    """A file that was written."""

    path: Path
    form: str
    broken: str
    """The way it is broken; empty: it is good."""


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    said: str
    """Standard error."""
    peak_gib: float

    def is_clear(self, path: Path) -> bool:
        """Whether it is one error about the file."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        named = len(errors) == 1 and str(path) in errors[0]
        return self.code == 2 and named and "Traceback" not in self.said


def words_of(command: str, file: File, top: Path) -> list[str]:
    """The words after `python -m`."""
    run = [f"data.train={file.path}", f"run.dir={top / 'run'}", "tracking.wandb=disabled"]
    dry = [] if file.broken else ["--dry-run"]
    return {
        "validate": [
            "workbench",
            "validate",
            str(file.path),
            "--for",
            FORMS[file.form],
            "--out",
            f"{file.path}.html",
        ],
        "sft": ["sft", "configs/tiny/sft.yaml", "data.validation=null", *run, *dry],
        "classify": ["sft", "configs/tiny/classify.yaml", *run, *dry],
        "reward": ["reward", "configs/tiny/reward.yaml", f"model.start={top / 'start'}", *run, *dry],
        "annotate": [
            "annotate",
            "load",
            "configs/tiny/annotate.yaml",
            str(file.path),
            f"store.url={file.path}.sqlite",
        ],
    }[command]


def main(argv: list[str] | None = None) -> None:
    """Write the files, run the commands, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--real", type=int, default=60, help="every how many files also run as whole processes")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        start_run(top / "start")
        files = [broken_file(number, top) for number in range(arguments.files)]
        good = [written(top / f"good-{form}.jsonl", form, "", lines(good_rows(form, 0))) for form in FORMS]
        answers: dict[str, list[tuple[File, Answer]]] = {}
        accepted = {}
        for command in COMMANDS:
            accepted[command] = accepts(command, good, top)
            answers[command] = forked(command, files, top)
            answers[command] += [(file, as_process(words_of(command, file, top))) for file in files[:: arguments.real]]
    result = summary(answers)
    from benchmarks.record import write_result  # imports torch, which the forked commands must not inherit

    processes = len(files[:: arguments.real]) * len(COMMANDS)
    write_result(arguments.out, {**result, "good_files_accepted": accepted, "real_processes": processes})


def broken_file(number: int, top: Path) -> File:
    """A file of the next form that is broken in the next way."""
    broken, form = list(BREAKS)[number % len(BREAKS)], list(FORMS)[number // len(BREAKS) % len(FORMS)]
    suffix, spoil = BREAKS[broken]
    content = spoil(random.Random(f"broken-{number}"), good_rows(form, number))
    return written(top / f"{number:03}-{broken}{suffix}", form, broken, content)


def written(path: Path, form: str, broken: str, content: bytes) -> File:
    """A file with this content."""
    path.write_bytes(content)
    return File(path, form, broken)


def start_run(folder: Path) -> None:
    """A finished run of sft, as far as reward looks at it before it reads data."""
    import numpy as np
    from safetensors.numpy import save_file

    (folder / "adapter").mkdir(parents=True)
    save_file({"weight": np.zeros(1, dtype=np.float32)}, folder / "adapter/adapter_model.safetensors")
    record = {"name": "start", "phase": "sft", "status": "finished", "schema_version": 1, "parents": {}, "data": {}}
    (folder / "run.json").write_text(json.dumps({**record, "base": {"name": "tiny"}}), encoding="utf-8")
    lora = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter/adapter_config.json").write_text(json.dumps(lora), encoding="utf-8")
    (folder / "config.yaml").write_text("{}\n", encoding="utf-8")


def accepts(command: str, good: list[File], top: Path) -> bool:
    """Whether a command takes the good file of its form: without it, the errors would mean nothing."""
    accepted = True
    for file in good:
        if command not in ("validate", FORMS[file.form]):
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = exit_code(words_of(command, file, top))
        if code > (command == "validate") or "# problem" in said.getvalue():
            print(f"{command} refuses the good {file.form}: {said.getvalue()[-1000:]}")
            accepted = False
    return accepted


def exit_code(words: list[str]) -> int:
    """Run a command in this process."""
    try:
        run_main(importlib.import_module(f"{words[0]}.__main__").main, words[1:])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def forked(command: str, files: list[File], top: Path) -> list[tuple[File, Answer]]:
    """The answers of one command, each of a fork of this process, which has run the command before."""
    found = []
    for file in progress(files, description=command, unit=" files"):
        said = top / "said.txt"
        child = os.fork()
        if not child:
            _be(words_of(command, file, top), said)
        _, status, usage = os.wait4(child, 0)
        answer = Answer(os.waitstatus_to_exitcode(status), said.read_text(encoding="utf-8"), usage.ru_maxrss / 2**20)
        found.append((file, answer))
        if not answer.is_clear(file.path):
            print(f"\n{command} {file.path.name} ({file.form}): exit {answer.code}: {answer.said[-700:]}", flush=True)
    return found


def _be(words: list[str], said: Path) -> None:
    """Run a command in a forked child, with its standard error in a file; never returns."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = 70
    try:
        code = exit_code(words)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, io.UnsupportedOperation):
                stream.flush()
        os._exit(code)


def as_process(words: list[str]) -> Answer:
    """The answer of `python -m WORDS`."""
    command = [sys.executable, "-m", *words]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return Answer(child.returncode, said.read().decode(errors="replace"), usage.ru_maxrss / 2**20)


def summary(answers: dict[str, list[tuple[File, Answer]]]) -> dict[str, Any]:
    """The counts, and the largest memory of each command."""
    every = [(file, answer) for own in answers.values() for file, answer in own]
    unclear = Counter(file.path for file, answer in every if not answer.is_clear(file.path))
    files = {file.path for file, _ in every}
    return {
        "files": len(files),
        "clear": len(files - set(unclear)),
        "answers": len(every),
        "clear_answers": len(every) - sum(unclear.values()),
        "tracebacks": sum("Traceback" in answer.said for _, answer in every),
        "peak_rss_gib": round(max(answer.peak_gib for _, answer in every), 3),
        "peak_rss_gib_by_command": {
            command: round(max(answer.peak_gib for _, answer in own), 3) for command, own in answers.items()
        },
        "ways_to_break": len(BREAKS),
        "bytes_of_long_line": 50 << 20,
        "unfolded_gib": 8,
    }


if __name__ == "__main__":
    main()
