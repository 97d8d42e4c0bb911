"""How scripts end: what a person can mend is a few lines and code 2, a defect keeps its traceback."""

import errno
import subprocess
import sys

import pytest

from workbench.run.errors import WorkbenchError, did_you_mean, nearest, run_main


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


def test_full_disk_is_code_2_other_os_errors_are_defects(capsys):
    code, text = end(raising(OSError(errno.ENOSPC, "No space left on device", "/runs/x")), capsys)
    assert code == 2
    assert "/runs/x" in text
    assert "--resume" in text
    with pytest.raises(PermissionError):
        run_main(raising(PermissionError(errno.EACCES, "denied")), [])


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(raising(ZeroDivisionError()), [])


def test_as_a_process():
    code = (
        "from workbench.run.errors import WorkbenchError, run_main\n"
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


def in_file(path, error):
    """Raise an error from code whose file has this path, as a traceback shows it."""

    def main(argv):
        exec(compile("raise error", str(path), "exec"), {"error": error})

    return main


@pytest.mark.parametrize(
    ("file", "knob"),
    [
        ("/x/workbench/model/base.py", "model.quantise=nf4"),
        ("/x/workbench/model/generate.py", "rollout.micro_batch_size"),
        ("/x/ppo/update.py", "model.activation_checkpointing=true"),
        ("/x/site-packages/transformers/trainer.py", "train.micro_batch_size"),
        ("/x/anything.py", "train.micro_batch_size"),
    ],
)
def test_out_of_memory_names_the_knob(capsys, file, knob):
    torch = pytest.importorskip("torch")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    code, text = end(in_file(file, error), capsys)
    assert code == 2
    assert text.splitlines()[0].startswith("error: memory: is used up")
    assert "Tried to allocate 2.00 GiB." in text
    assert knob in text.splitlines()[1]
    assert "workbench doctor" in text
    assert "Traceback" not in text


def test_the_innermost_place_counts(capsys):
    def outer(argv):
        exec(compile("inner([])", "/x/transformers/trainer.py", "exec"), {"inner": inner})

    inner = in_file("/x/workbench/model/base.py", MemoryError())
    assert "while loading the base" in end(outer, capsys)[1]


def test_memory_of_the_cpu_counts_too_and_other_errors_do_not(capsys):
    cpu = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried …")
    assert end(raising(cpu), capsys)[0] == 2
    with pytest.raises(RuntimeError, match="shape"):
        run_main(raising(RuntimeError("shape mismatch")), [])
