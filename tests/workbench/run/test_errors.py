"""How scripts end: an error that the user can fix is a few lines and code 2, a defect keeps its traceback."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.config import AnnotateConfig
from ppo.config import ContrastiveConfig, PpoConfig
from reward.config import RewardConfig
from sft.config import SftConfig
from workbench.run.command_line import run_main
from workbench.run.config import known_keys
from workbench.run.errors import Problems, SeveralErrors, Terminated, WorkbenchError, did_you_mean, nearest
from workbench.run.out_of_memory import SMALLER_STEP, memory_hint

ROOT = Path(__file__).parents[3]
PACKAGES = ("workbench", "sft", "reward", "ppo", "annotate")


def end(main, capsys):
    with pytest.raises(SystemExit) as caught:
        run_main(main, [])
    return caught.value.code, capsys.readouterr().err


def raising(error):
    def main(argv):
        raise error

    return main


def test_bad_input_is_code_2_with_place_expectation_and_remedy(capsys):
    code, text = end(raising(WorkbenchError("a.yaml", "is odd", expected="even", remedy="add one")), capsys)
    assert code == 2
    assert text.splitlines() == ["error: a.yaml: is odd", "  expected: even", "  remedy:   add one"]


def test_success_and_returned_codes(capsys):
    assert end(lambda argv: None, capsys)[0] == 0
    assert end(lambda argv: 3, capsys)[0] == 3


def test_interruption_is_code_130_and_says_how_to_go_on(capsys):
    code, text = end(raising(KeyboardInterrupt()), capsys)
    assert code == 130
    assert "--resume" in text


def test_termination_is_code_143_and_says_how_to_go_on(capsys):
    code, text = end(raising(Terminated()), capsys)
    assert code == 143
    assert text.splitlines() == ["terminated: start the same command again to continue; a training run needs --resume"]


def test_full_disk_is_code_2_other_os_errors_are_defects(capsys):
    code, text = end(raising(OSError(errno.ENOSPC, "No space left on device", "/runs/x")), capsys)
    assert code == 2
    assert "/runs/x" in text
    assert "--resume" in text
    with pytest.raises(PermissionError):  # not of a file
        run_main(raising(PermissionError(errno.EACCES, "denied")), [])
    with pytest.raises(FileNotFoundError):
        run_main(raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "/runs/x")), [])


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_read_or_written_is_code_2(number, capsys):
    code, text = end(raising(OSError(number, os.strerror(number), "/runs/x")), capsys)
    assert code == 2
    assert text.startswith(f"error: /runs/x: cannot be read or written: {os.strerror(number)}\n  expected: a path")
    assert "give another path" in text


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(raising(ZeroDivisionError()), [])


def test_as_a_process():
    code = (
        "from workbench.run.command_line import run_main\n"
        "from workbench.run.errors import WorkbenchError\n"
        "def main(argv):\n"
        "    raise WorkbenchError(argv[0], 'broken') if argv[0] == 'user' else KeyError('defect')\n"
        "run_main(main)\n"
    )
    mended = subprocess.run([sys.executable, "-c", code, "user"], capture_output=True, text=True, check=False)
    assert (mended.returncode, mended.stderr) == (2, "error: user: broken\n")
    defect = subprocess.run([sys.executable, "-c", code, "x"], capture_output=True, text=True, check=False)
    assert defect.returncode == 1
    assert "Traceback" in defect.stderr


def test_nearest_names():
    assert nearest("rewrad", ["sft", "reward"]) == "reward"
    assert nearest("zzz", ["sft", "reward"]) is None
    assert did_you_mean("rewrad", ["sft", "reward"]) == "did you mean 'reward'?"
    assert did_you_mean("zzz", ["sft", "reward"]) == "known names: reward, sft"
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean("zzz", [f"item-{n:03}" for n in range(180)]).endswith("item-018, item-019 and 160 more")


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("promt", ["prompt", "response"], "prompt"),
        ("Prompt", ["prompt"], "prompt"),
        ("slci", ["ppo", "dpo", "slic"], "slic"),
        ("train.max_len", ["train.max_length", "train.lr"], "train.max_length"),
        ("train.quantize", ["train.quantise"], "train.quantise"),
        ("reward.yml", ["reward.yaml"], "reward.yaml"),
        ("instruction.jsonl", ["instructions.jsonl", "pairs.jsonl"], "instructions.jsonl"),
        ("demo-sft", ["demo-sft2", "demo-ppo"], "demo-sft2"),
        # What only shares letters, a section or a suffix is no misspelling.
        ("response", ["messages"], None),
        ("labels", ["tables"], None),
        ("pairs.jsonl", ["texts.jsonl", "items.jsonl"], None),
        ("train.foo", ["train.lr", "train.epochs"], None),
        ("x.jsonl", ["a.jsonl"], None),
        ("instruction", ["input", "output"], None),
        ("sft", ["ppo", "slic"], None),
        ("r", ["lr"], None),
        ("label", ["chosen"], None),
        ("", ["a"], None),
    ],
)
def test_only_likely_names_are_suggested(name, candidates, expected):
    assert nearest(name, candidates) == expected


def refuse(place):
    raise WorkbenchError(place, "is odd", remedy=f"mend {place}")


def test_problems_are_collected_and_shown_once_each(capsys):
    def main(argv):
        problems = Problems()
        assert problems.attempt(int, "3") == 3
        assert problems.attempt(refuse, "a") is None
        problems.attempt(refuse, "a")
        problems.attempt(refuse, "b")
        with pytest.raises(SeveralErrors) as caught:
            problems.raise_if_any()
        outer = Problems()
        outer.attempt(refuse, "c")
        outer.attempt(lambda: problems.raise_if_any())
        assert [error.place for error in outer.errors] == ["c", "a", "b"]
        raise caught.value

    code, text = end(main, capsys)
    assert code == 2
    assert text.splitlines() == [
        "error: 2 problems",
        "- a: is odd",
        "  remedy:   mend a",
        "- b: is odd",
        "  remedy:   mend b",
    ]


def test_one_problem_stays_itself_and_none_raises_nothing():
    problems = Problems()
    problems.raise_if_any()
    problems.attempt(refuse, "a")
    with pytest.raises(WorkbenchError, match="a: is odd") as caught:
        problems.raise_if_any()
    assert not isinstance(caught.value, SeveralErrors)


def test_defects_are_not_collected():
    with pytest.raises(ZeroDivisionError):
        Problems().attempt(lambda: 1 / 0)


SAYS = "from workbench.run.command_line import run_main; run_main(lambda argv: print('Zo\\xeb', open(argv[0]).read()))"


@pytest.mark.parametrize(
    ("environment", "name", "code"),
    [
        ({"LC_ALL": "C"}, "Zoë.txt".encode(), 0),
        ({"LC_ALL": "C"}, "Zoë.txt".encode("latin-1"), 2),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "Zoë.txt".encode(), 2),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, b"plain.txt", 0),
    ],
)
def test_names_outside_ascii_work_or_are_one_clear_error(tmp_path, environment, name, code):
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "w", encoding="ascii") as file:
        file.write("read")
    done = subprocess.run(
        [sys.executable, "-c", SAYS, path], env=os.environ | environment, capture_output=True, check=False
    )
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert ("read" in said) if code == 0 else (said.count("error: ") == 1 and "remedy:" in said)


def test_out_of_memory_names_the_setting_to_lower(capsys):
    torch = pytest.importorskip("torch")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    code, text = end(memory_hint("while sampling", "a smaller rollout.micro_batch_size")(raising(error)), capsys)
    assert code == 2
    first, second = text.splitlines()
    assert first.startswith("error: memory: is used up while sampling: CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert second == "  remedy:   a smaller rollout.micro_batch_size"


def test_the_innermost_hint_counts_and_without_one_the_remedy_is_general(capsys):
    inner = memory_hint("while loading the base", "more memory")(raising(MemoryError()))
    assert "while loading the base" in end(memory_hint("in a training step", "smaller steps")(inner), capsys)[1]
    code, text = end(raising(MemoryError()), capsys)
    assert (code, "remedy:   less data at one time" in text) == (2, True)


def test_every_setting_that_a_hint_names_exists():
    keys = {
        key
        for config in (SftConfig, RewardConfig, PpoConfig, ContrastiveConfig, AnnotateConfig)
        for key in known_keys(config)
    }
    named = []
    for path in sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
        for hint in re.findall(r"@memory_hint\((.*?)\)\ndef ", path.read_text(encoding="utf-8"), re.DOTALL):
            named += re.findall(r"\b[a-z]+\.[a-z_]{2,}\b", hint)
    named += re.findall(r"\b[a-z]+\.[a-z_]{2,}\b", SMALLER_STEP)
    assert len(set(named)) > 8
    assert set(named) <= keys


def test_memory_of_the_cpu_counts_too_and_other_errors_do_not(capsys):
    cpu = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried …")
    assert end(raising(cpu), capsys)[0] == 2
    with pytest.raises(RuntimeError, match="shape"):
        run_main(raising(RuntimeError("shape mismatch")), [])
