"""Every one-line mutant of a pure module is noticed by the tests of that module."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, TESTS

GROUPS = {
    "losses": [file for file in MUTANTS if file.startswith(("ppo/", "reward/"))],
    "model": [file for file in MUTANTS if file.startswith("workbench/model/")],
    "evaluate": [file for file in MUTANTS if file.startswith("workbench/evaluate/")],
    "annotate": [file for file in MUTANTS if file.startswith("annotate/")],
}


def test_every_module_is_in_a_group():
    assert MUTANTS.keys() == TESTS.keys()
    assert sorted(file for files in GROUPS.values() for file in files) == sorted(MUTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_no_mutant_survives(group):
    environment = (
        os.environ
        | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    )
    command = [sys.executable, "-m", "tests.mutate", *GROUPS[group]]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    problems = []
    for file, found in json.loads(done.stdout.splitlines()[-1]).items():
        if found["unchanged"] != 0:
            problems.append(f"{TESTS[file]} fails without any mutant (pytest's exit code {found['unchanged']})")
        for mutant in found["mutants"]:
            change = f"{file}: {mutant['old']} → {mutant['new']}"
            if mutant["places"] != 1:
                problems.append(f"{change}: stands in {mutant['places']} places, must be one")
            elif mutant["code"] not in (1, -1):
                problems.append(f"{change}: {'survives' if mutant['code'] == 0 else 'breaks the tests, not a number'}")
    assert not problems, "\n".join(problems)
