"""Mutation tests: change a module by one operator at a time and count the changes that its tests notice.

    python -m tests.mutate ppo/kl.py workbench/model/masks.py

prints one JSON object. Mutants come from the syntax tree, so a rename or a new line breaks none of them. A hash chooses
which are tried, so unchanged code keeps its mutants. The libraries are imported once; each mutant then has a forked
process, in which the mutated module takes the module's place at import and pytest runs the module's tests up to the
first failure.
"""

import ast
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 60
"""A mutant that takes longer has made something endless and counts as killed."""
MUTANTS = 10
"""Tried per module, at most."""
ELSEWHERE = {"annotate/statistics/agreement_sums.py": "annotate/statistics/agreement.py"}
"""Modules whose tests bear another module's name."""
TUNED = 2
"""Larger numbers and fractions other than ½ are settings (resamples, tolerances): no test has to notice them."""

COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
PAIRS = (
    *(("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax"), ("floor", "ceil")),
    *(("any", "all"), ("mean", "sum"), ("cumsum", "cumprod"), ("exp", "log"), ("logsigmoid", "sigmoid")),
)
NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}


@dataclass(frozen=True)
class Mutant:
    """One change of a module."""

    line: int
    old: str
    new: str
    source: str
    """The whole module with the change."""


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a module's source."""
    tree = ast.parse(source)
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _calculations(tree):
        for text in _changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            changed = b"%s(%s)%s" % (data[:start], text.encode(), data[end:])
            found.append(Mutant(node.lineno, ast.unparse(node), text, changed.decode()))
    return found


def chosen(mutants: Sequence[Mutant], count: int = MUTANTS) -> list[Mutant]:
    """`count` of the mutants by a hash of what they change: spread over the module, and the same in every run."""
    seen: Counter[tuple[str, str]] = Counter()
    keyed = []
    for mutant in mutants:
        change = (mutant.old, mutant.new)
        seen[change] += 1  # the same text may stand in several places
        keyed.append((hashlib.sha256(repr((change, seen[change])).encode()).digest(), mutant))
    return [mutant for _, mutant in sorted(keyed, key=lambda pair: pair[0])[:count]]


def _calculations(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that compute: no annotation, default, decorator, error text, f-string or check of lengths."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "defaults", "kw_defaults"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if isinstance(node, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
                continue  # a setting with a name
            if isinstance(child, ast.expr):
                yield child
            yield from _calculations(child)


def _changes(node: ast.expr) -> Iterator[str]:
    """The texts that may stand in the place of an expression."""
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in COMPARISONS:
            yield ast.unparse(ast.Compare(left, [COMPARISONS[type(operator)]()], [right]))
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            yield ast.unparse(ast.BinOp(left, OPERATORS[type(operator)](), right))
        case ast.BoolOp(operator, values):
            yield ast.unparse(ast.BoolOp(OPERATORS[type(operator)](), values))
        case ast.UnaryOp(_, operand) if not isinstance(operand, ast.Constant):
            yield ast.unparse(operand)
        case ast.IfExp(test, body, otherwise):
            yield ast.unparse(ast.IfExp(test, otherwise, body))
        case ast.Constant(bool() | int() | float() as value) if abs(value) in (0, 0.5, *range(1, TUNED + 1)):
            yield repr(_other_number(value))
        case ast.Call(ast.Attribute(owner, str() as name), arguments, keywords) if name in NAMES:
            yield ast.unparse(ast.Call(ast.Attribute(owner, NAMES[name]), arguments, keywords))
        case ast.Call(ast.Name("min" | "max" | "any" | "all" as name), arguments, keywords):
            yield ast.unparse(ast.Call(ast.Name(NAMES[name]), arguments, keywords))


def _other_number(value: bool | int | float) -> bool | int | float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 2 * value or 1.0


class MutatedSource(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module before anybody else does, with another source."""

    def __init__(self, file: str, source: str) -> None:
        self.name, self.path, self.source = file.removesuffix(".py").replace("/", "."), ROOT / file, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self.path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def exit_code_with(file: str, source: str, tests: str) -> int:
    """pytest's exit code if `source` stands in the place of `file`; -1 if it took too long."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, MutatedSource(file, source))
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--noconftest", "--tb=no", "-m", "not slow"]
        os._exit(int(pytest.main([*options, str(ROOT / tests)])))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


def checked_by(file: str) -> str:
    """`ppo/loss.py` → `tests/ppo/test_loss.py`."""
    path = Path(ELSEWHERE.get(file, file))
    return f"tests/{path.parent}/test_{path.name}"


def outcomes(file: str) -> dict[str, Any]:
    """The exit code without a mutant, the number of killed mutants, and those that no test noticed.

    Exit code 1 is a failed test. Code 2 says that the module could not be imported, which no test has to notice: such
    a mutant is not counted.
    """
    source, tests = (ROOT / file).read_text(encoding="utf-8"), checked_by(file)
    tried = [(mutant, exit_code_with(file, mutant.source, tests)) for mutant in chosen(mutants_of(source))]
    survivors = [f"{file}:{m.line}: {m.old}  →  {m.new}" for m, code in tried if code == 0]
    return {
        "unchanged": exit_code_with(file, source, tests),
        "killed": sum(code in (1, -1) for _, code in tried),
        "survivors": survivors,
    }


def main(files: Sequence[str]) -> None:
    """Import what the modules import, then try their mutants."""
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
    print(json.dumps({file: outcomes(file) for file in files}))


if __name__ == "__main__":
    main(sys.argv[1:])
