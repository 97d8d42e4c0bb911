"""The models of a suite as columns of its table: the untuned base, each run, and the run that it started from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from workbench.evaluate.inputs import POLICIES
from workbench.evaluate.role_models import reward_roles
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.folder import RunFolder
from workbench.run.parents import find_parent, unique_names
from workbench.suite.measures import Difference, Measure, Signs

BASE, FEW_SHOT = "base", "base, few-shot"


@dataclass(frozen=True)
class Column:
    """One model."""

    name: str
    kind: str
    """`policy`, `reward` or `classifier`."""
    roles: tuple[str, ...]
    """Its adapters; several for an ensemble of reward models, none for a classifier."""
    run: Path | None = None
    """None: the untuned base."""
    before: str | None = None
    """Name of the column that its training started from."""
    shots: int = 0
    gated: bool = False
    """It was named on the command line, so the gates apply."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a column."""

    column: Column
    measures: dict[str, Measure | Difference] = field(default_factory=dict)
    points: dict[str, float] = field(default_factory=dict)
    """Metrics of a whole set of answers, which have no interval."""
    signs: dict[str, Signs] = field(default_factory=dict)
    """Sign tests of the gaps among the measures."""


def columns_of(folders: Sequence[RunFolder], shots: int) -> list[Column]:
    """The columns for some runs: the base (if there is a policy), then each policy after the run it started from."""
    policies = [folder for folder in folders if kind_of(folder) == "policy"]
    chain: list[RunFolder] = []
    for folder in policies:
        start = find_parent(folder, "start")
        chain += [one for one in (start, folder) if one is not None and not _within(one, chain)]
    others = [folder for folder in folders if kind_of(folder) != "policy"]
    names = unique_names([folder.path for folder in (*chain, *others)], reserved=(BASE, FEW_SHOT))
    columns = []
    if chain:
        columns.append(Column(BASE, "policy", (BASE,)))
        if shots:
            columns.append(Column(FEW_SHOT, "policy", (BASE,), shots=shots))
    for number, folder in enumerate(chain):
        start = find_parent(folder, "start")
        before = BASE if start is None else names[start.path.resolve()]
        name, role = names[folder.path.resolve()], f"policy_{number}"
        columns.append(Column(name, "policy", (role,), folder.path, before, gated=_within(folder, policies)))
    for number, folder in enumerate(others):
        kind = kind_of(folder)
        roles = tuple(f"{role}_of_{number}" for role in reward_roles(folder.path)) if kind == "reward" else ()
        columns.append(Column(names[folder.path.resolve()], kind, roles, folder.path, gated=True))
    return columns


def kind_of(folder: RunFolder) -> str:
    """`policy`, `reward` or `classifier`."""
    phase = folder.record()["phase"]
    return "policy" if phase in POLICIES else "reward" if phase == "reward" else "classifier"


def _within(folder: RunFolder, folders: Sequence[RunFolder]) -> bool:
    return folder.path.resolve() in {other.path.resolve() for other in folders}


def open_columns(columns: Sequence[Column], judge: Path | None, base: str | None) -> tuple[Roles, tuple[str, ...]]:
    """All models on one base, and the roles of the reward run that scores the policies' answers.

    Raises:
        WorkbenchError: they do not share a base, or a reward model's probe scores differ.
    """
    runs: dict[str, Path] = {}
    for column in columns:
        if column.kind == "policy" and column.run is not None:
            runs[column.roles[0]] = column.run
        elif column.kind == "reward" and column.run is not None:
            runs |= dict(zip(column.roles, reward_roles(column.run).values(), strict=True))
    judges = {f"judge_{role}": path for role, path in reward_roles(judge).items()} if judge is not None else {}
    roles = open_runs(runs | judges, base=base)
    if any(column.run is None for column in columns):
        source = next(iter(runs))
        roles.copy(source, BASE)
        state = roles.adapter_state(source)
        roles.load_adapter_state(BASE, {name: torch.zeros_like(weight) for name, weight in state.items()})
    return roles, tuple(judges)
