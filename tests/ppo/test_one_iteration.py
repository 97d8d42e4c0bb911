"""docs/one-iteration.md against a traced iteration: its files and functions exist and are the ones that ran."""

import re
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import pytest
import torch

import ppo.train
from ppo.__main__ import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/one-iteration.md"
PACKAGES = ("ppo/", "workbench/")
REPLACED = "workbench/model/cpu/"
"""Computes the decoder's passes with `model.kernels: cpu`; with `modules` it only shares loops between cores."""

Calls = dict[str, set[str]]
"""File → functions."""


def section(title: str) -> Calls:
    """The files and functions of one table of the page."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    found: Calls = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = [re.findall(r"`([^`]+)`", cell) for cell in cells]
        for files, functions in pairwise(named):
            if len(files) == 1 and files[0].endswith(".py"):
                found[files[0]] = set(functions)
    return found


OPENING = section("From the command to the loop")
LOOP = section("From the loop to the gradient")
HELPERS = section("Helpers")


class Reached(Exception):
    """The optimizers' first steps."""


@contextmanager
def calls_recorded(calls: list[Calls]) -> Iterator[None]:
    """Add each call of a function of the project to the last element of `calls`."""
    known: dict[CodeType, tuple[str, str] | None] = {}

    def project_function(code: CodeType) -> tuple[str, str] | None:
        path = code.co_filename.removeprefix(f"{ROOT}/")
        return (path, code.co_qualname) if path.startswith(PACKAGES) else None

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            code = frame.f_code
            if code not in known:
                known[code] = project_function(code)
            if (function := known[code]) is not None:
                calls[-1][function[0]].add(function[1])

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture(params=["modules", "cpu"])
def traced(request, ppo_config, tmp_path, monkeypatch) -> tuple[Calls, Calls]:
    """The project's calls of a command up to `iterate`, and from there until policy and value model step."""
    calls: list[Calls] = [defaultdict(set)]
    iterate, steps = ppo.train.iterate, []

    def traced_iterate(run: ppo.train.Run) -> None:
        calls.append(defaultdict(set))
        iterate(run)

    def step(*_: object) -> None:
        steps.append(1)
        if len(steps) == 2:
            calls.append(defaultdict(set))  # what closes the run is not part of the iteration
            raise Reached

    monkeypatch.setattr(ppo.train, "iterate", traced_iterate)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    ppo_config()  # writes ppo.yaml
    with pytest.raises(Reached), calls_recorded(calls):
        main([str(tmp_path / "ppo.yaml"), f"model.kernels={request.param}"])
    before, loop, _ = calls
    return before, loop


@pytest.mark.slow
def test_the_page_names_the_files_that_run(traced):
    before, loop = traced
    ran = {file for file in loop if not file.startswith(REPLACED)}
    assert ran - OPENING.keys() == LOOP.keys() | HELPERS.keys()
    assert OPENING.keys() <= before.keys()


@pytest.mark.slow
def test_the_page_names_functions_that_run(traced):
    before, loop = traced
    for file, functions in OPENING.items():
        assert functions <= before[file], file
    for file, functions in (LOOP | HELPERS).items():
        assert functions <= loop[file], file


def test_the_path_is_short():
    assert len(LOOP) <= 12
    assert len(OPENING | LOOP) <= 18
    text = PAGE.read_text(encoding="utf-8")
    assert f"{len(OPENING | LOOP)} files lead from the YAML to the gradient, {len(LOOP)} of them from `iterate`" in text
