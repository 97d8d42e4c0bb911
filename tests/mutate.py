"""Runs a module's tests on its mutants: `python -m tests.mutate MODULE.py …` prints one JSON object.

The libraries are imported once; each mutant then has a forked process, in which the mutated source takes the module's
place at import and pytest runs the module's tests up to the first failure.
"""

import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 60
"""After so long a mutant counts as killed: it made something endless."""


class MutatedSource(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module before anybody else does, with another source."""

    def __init__(self, file: str, source: str) -> None:
        self.name, self.path, self.source = module_name(file), ROOT / file, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self.path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def module_name(file: str) -> str:
    """`ppo/loss.py` → `ppo.loss`."""
    return file.removesuffix(".py").replace("/", ".")


def exit_code_with(file: str, source: str, tests: str) -> int:
    """What pytest says of the tests when `source` stands in the place of `file`; −1 when it took too long."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, MutatedSource(file, source))
        import pytest

        os._exit(
            int(
                pytest.main(
                    [
                        "-x",
                        "-q",
                        "-p",
                        "no:cacheprovider",
                        "-p",
                        "no:xdist",
                        "--noconftest",
                        "--tb=no",
                        str(ROOT / tests),
                    ]
                )
            )
        )
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


def outcomes(file: str, tests: str, mutants: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The exit code without a mutant, and with each; 1 is a failed test, which is what a mutant deserves."""
    source = (ROOT / file).read_text(encoding="utf-8")
    found: dict[str, Any] = {"unchanged": exit_code_with(file, source, tests), "mutants": []}
    for old, new in mutants:
        places = source.count(old)
        code = exit_code_with(file, source.replace(old, new), tests) if places == 1 else None
        found["mutants"].append({"old": old, "new": new, "places": places, "code": code})
    return found


def main(files: Sequence[str]) -> None:
    """Import what the modules import, then try their mutants."""
    from tests.mutants import MUTANTS, TESTS

    for name in ("_pytest.config", "scipy.stats", "scipy.optimize", "sklearn.metrics", "sklearn.linear_model"):
        importlib.import_module(name)
    for plugin in importlib.import_module("_pytest.config").default_plugins:
        importlib.import_module(f"_pytest.{plugin}")
    if not all(file.startswith("annotate/") for file in files):
        importlib.import_module("torch.distributed.tensor")  # torch.testing compares with its help
    if any(file.startswith("workbench/model") for file in files):
        for name in ("datasets", "transformers", "torch.utils.checkpoint"):
            importlib.import_module(name)
    gc.freeze()
    print(json.dumps({file: outcomes(file, TESTS[file], MUTANTS[file]) for file in files}))


if __name__ == "__main__":
    main(sys.argv[1:])
