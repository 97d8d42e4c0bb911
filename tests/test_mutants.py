"""The tests of the pure modules notice when one operator of a module is changed: mutation testing."""

import json
import os
import subprocess
import sys

import pytest

from tests.mutate import ROOT, checked_by, chosen, mutants_of
from tests.test_architecture import PURE

MEASURED = ("workbench/doctor/memory.py", "workbench/doctor/plan.py")
"""Estimates: their tests compare them with the memory of whole training steps, too slow for a mutant each."""
MUTATED = [file for file in PURE if file not in MEASURED]
GROUPS = {
    "ppo": [file for file in MUTATED if file.startswith("ppo/")],
    "reward": [file for file in MUTATED if file.startswith("reward/")],
    "model": [file for file in MUTATED if file.startswith(("workbench/model/", "workbench/doctor/"))],
    "evaluate": [file for file in MUTATED if file.startswith(("workbench/evaluate/", "workbench/compare/"))],
    "data": [file for file in MUTATED if file.startswith(("workbench/data/", "workbench/suite/", "workbench/export/"))],
    "loop": [file for file in MUTATED if file.startswith("workbench/loop/")],
    "annotate": [file for file in MUTATED if file.startswith("annotate/")],
}
KILLED = 0.6
"""Least share of a module's mutants that its own test file notices. It cannot be 1: some mutants compute the same, such
as another size of a chunk, and functions that only join others are tested on whole rollouts, in other files."""


def test_every_pure_module_has_a_group_and_a_test_file_of_its_name():
    assert sorted(file for files in GROUPS.values() for file in files) == sorted(MUTATED)
    assert [checked_by(file) for file in MUTATED if not (ROOT / checked_by(file)).is_file()] == []


def test_mutants_change_one_operator_each():
    source = 'def f(x: int = 1) -> int:\n    """Text."""\n    return -x if x > 2 else x * 3\n'
    changes = {(mutant.old, mutant.new) for mutant in mutants_of(source)}
    assert changes == {
        ("-x if x > 2 else x * 3", "x * 3 if x > 2 else -x"),
        ("-x", "x"),
        ("x > 2", "x <= 2"),
        ("2", "3"),
        ("x * 3", "x / 3"),
    }


def test_the_choice_of_mutants_does_not_depend_on_their_lines():
    source = "def f(x):\n    return x + 1 - x * 2 / 3\n"
    texts = [[(m.old, m.new) for m in chosen(mutants_of(text), 3)] for text in (source, "\n\n" + source)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", GROUPS)
def test_the_tests_notice_mutants(group):
    environment = (
        os.environ
        | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    )
    command = [sys.executable, "-m", "tests.mutate", *GROUPS[group]]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    problems = []
    for file, found in json.loads(done.stdout.splitlines()[-1]).items():
        if found["unchanged"] != 0:
            problems.append(f"{checked_by(file)} fails without any mutant (pytest's exit code {found['unchanged']})")
        tried = found["killed"] + len(found["survivors"])
        if found["killed"] < KILLED * tried:
            problems += [f"{file}: {found['killed']} of {tried} mutants are noticed; not", *found["survivors"]]
    assert not problems, "\n".join(problems)
