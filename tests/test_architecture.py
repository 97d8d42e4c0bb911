"""The import rules of docs/architecture.md, enforced on the syntax trees of all files, lazy imports included."""

import ast
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[1]
PACKAGES = ("annotate", "ppo", "reward", "sft", "workbench")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROOMS = {
    "workbench": (
        "run",
        "privacy",
        "data",
        "lineage",
        "model",
        "evaluate",
        "validate",
        "suite",
        "export",
        "serve",
        "compare",
        "loop",
        "doctor",
        "tiny",
    ),
    "annotate": (
        "statistics",
        "store",
        "config",
        "intake",
        "queue",
        "people",
        "judge",
        "labels",
        "sampling",
        "campaign",
        "web",
        "arena",
    ),
}
"""Rooms of each package that has them, lowest first."""

PURE = (
    "ppo/advantages.py",
    "ppo/kl.py",
    "ppo/watch.py",
    "ppo/contrastive/curriculum.py",
    "ppo/contrastive/losses.py",
    "ppo/guard/decide.py",
    "ppo/guard/signals.py",
    "ppo/ladder/select.py",
    "ppo/loss.py",
    "ppo/people/evidence.py",
    "ppo/rewards.py",
    "reward/loss.py",
    "reward/passport/interventions.py",
    "reward/passport/judge.py",
    "reward/passport/measures.py",
    "reward/passport/samples.py",
    "reward/verbs/acquire_scores.py",
    "reward/verbs/curve_fit.py",
    "annotate/statistics/agreement.py",
    "annotate/statistics/agreement_sums.py",
    "annotate/statistics/pace.py",
    "annotate/statistics/powered.py",
    "annotate/statistics/quality.py",
    "annotate/statistics/ratings.py",
    "workbench/data/hashing.py",
    "workbench/data/perturb.py",
    "workbench/evaluate/best_of.py",
    "workbench/evaluate/classification.py",
    "workbench/evaluate/metrics.py",
    "workbench/evaluate/statistics.py",
    "workbench/evaluate/win_rate.py",
    "workbench/suite/gates.py",
    "workbench/suite/measures.py",
    "workbench/compare/paired.py",
    "workbench/export/agreement.py",
    "workbench/loop/forecast.py",
    "workbench/doctor/hours.py",
    "workbench/doctor/memory.py",
    "workbench/doctor/plan.py",
    "workbench/model/cpu/kernels.py",
    "workbench/model/logprobs.py",
    "workbench/model/masks.py",
    "workbench/model/rows.py",
)
SHARES_CORES = "workbench/model/cpu/blocks.py"
"""Hands calculations to the cores; pure modules may use it."""
CALCULATING = {"torch", "numpy", "scipy", "sklearn"}
TOUCHING = {
    "os",
    "io",
    "pathlib",
    "random",
    "subprocess",
    "socket",
    "tempfile",
    "shutil",
    "logging",
    "urllib",
    "sqlite3",
}
"""Modules of the standard library: files, processes, networks, global random state."""

PLACES = {
    "gradio": ("annotate/web/components.py",),
    "sqlalchemy": ("annotate/store/",),
    "peft": ("workbench/model/",),
    "bitsandbytes": ("workbench/model/",),
    "wandb": ("workbench/run/tracking.py",),
    "prometheus_client": ("workbench/serve/metrics.py",),
    "captum": ("reward/verbs/explain_tokens.py",),
    "presidio_analyzer": ("workbench/privacy/find.py",),
}
"""Who may import a large dependency."""


@cache
def imports(path: Path, *, for_types: bool = True) -> frozenset[str]:
    """Dotted names that a file imports anywhere in it: modules, and what is taken from them.

    Args:
        path: of the file.
        for_types: with the imports under `if TYPE_CHECKING`, which never run.
    """
    names: set[str] = set()
    package = ".".join(path.relative_to(ROOT).parent.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not for_types:
        tree.body = [node for node in tree.body if not _is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def top_level(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def file_of(module: str) -> Path | None:
    """The project's file of a dotted name, or None for other people's modules and for names within a module."""
    place = ROOT.joinpath(*module.split("."))
    if place.with_suffix(".py").is_file():
        return place.with_suffix(".py")
    return place / "__init__.py" if (place / "__init__.py").is_file() else None


def parents(module: str) -> list[str]:
    """A module and the packages around it, whose __init__ files run first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def reached(start: Path) -> dict[Path, Path | None]:
    """The project's files that importing (or ever calling into) a file can load, each with the file that imports it."""
    found: dict[Path, Path | None] = {start: None}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        for name in imports(path):
            for module in parents(name):
                target = file_of(module)
                if target is not None and target not in found:
                    found[target] = path
                    waiting.append(target)
    return found


def chain(found: dict[Path, Path | None], path: Path | None) -> str:
    names = []
    while path is not None:
        names.append(named(path))
        path = found[path]
    return " ← ".join(names)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_phase_imports_itself_and_workbench_only(package):
    files = [path for path in FILES if named(path).startswith(f"{package}/")]
    assert files, f"package {package} is missing"
    for path in files:
        illegal = top_level(path) & set(PACKAGES) - {package, "workbench"}
        assert not illegal, f"{named(path)} imports {illegal}"
        assert "tests" not in top_level(path), named(path)


@pytest.mark.parametrize("package", ROOMS)
def test_lower_rooms_never_import_higher_ones(package):
    order, found = ROOMS[package], 0
    for path in FILES:
        parts = path.relative_to(ROOT).parts
        if parts[0] != package or len(parts) < 3:
            continue
        names = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
        higher = names - set(order[: order.index(parts[1]) + 1])
        assert not higher, f"{named(path)} imports {higher}"
        found += len(names)
    assert found, f"no file of {package} imports another: the rule guards nothing"


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_is_in_the_order(package):
    folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS[package]) - {"config"}  # one file, whose sections all rooms above it may take


@pytest.mark.parametrize("library", PLACES)
def test_large_dependencies_are_known_in_few_places(library):
    users = [named(path) for path in FILES if library in top_level(path)]
    assert users, f"nobody imports {library}: its rule guards nothing"
    assert [user for user in users if not user.startswith(PLACES[library])] == []


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_calculate_and_do_nothing_else(name):
    path = ROOT / name
    assert path.is_file(), f"{name} is missing"
    for module in imports(path, for_types=False):
        top = module.split(".")[0]
        if top in PACKAGES:
            target = file_of(module)
            assert target is None or named(target) in (*PURE, SHARES_CORES), f"{name} imports {module}, not pure"
        else:
            assert top in CALCULATING or top in sys.stdlib_module_names - TOUCHING, f"{name} imports {module}"


@pytest.mark.parametrize("phase", ["sft", "reward", "ppo"])
def test_training_never_reaches_the_truth(phase):
    """No chain of imports, lazy ones included, leads from a training phase into workbench/tiny."""
    for start in (path for path in FILES if named(path).startswith(f"{phase}/")):
        found = reached(start)
        tiny = [path for path in found if named(path).startswith("workbench/tiny/")]
        assert not tiny, chain(found, tiny[0])


def test_chains_of_imports_are_seen():
    """The negative control: where a chain exists, also a lazy one, it is found."""
    found = reached(ROOT / "workbench/__main__.py")
    assert any(named(path).startswith("workbench/tiny/") for path in found)
    training = {named(path) for path in reached(ROOT / "sft/__main__.py")}
    assert "workbench/model/base.py" in training, "sft imports its training lazily, and that was missed"


def test_only_the_verbs_and_the_simulation_know_the_truth():
    gold = "workbench.tiny"
    users = {
        named(path) for path in FILES if any(name == gold or name.startswith(f"{gold}.") for name in imports(path))
    }
    outside = {user for user in users if not user.startswith("workbench/tiny/")}
    assert outside <= {"workbench/__main__.py", "annotate/simulate.py"}


HEAVY = {"torch", "transformers", "trl", "peft", "bitsandbytes", "datasets"}


def eager_imports(path: Path) -> set[str]:
    """Names imported when the module is loaded: not within a function, not for type checkers only."""
    names: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return names


@pytest.mark.parametrize(
    "name",
    [
        "annotate/__main__.py",
        "annotate/arena/serve.py",
        "annotate/web/app.py",
        "annotate/web/page.py",
        "sft/__main__.py",
        "workbench/serve/start.py",
    ],
)
def test_command_lines_and_the_page_start_without_torch(name):
    found, waiting = {ROOT / name}, [ROOT / name]
    while waiting:
        path = waiting.pop()
        modules = eager_imports(path)
        heavy = {module.split(".")[0] for module in modules} & HEAVY
        assert not heavy, f"{name} loads {named(path)}, which imports {heavy}"
        targets = {file_of(module) for module_name in modules for module in parents(module_name)}
        new = {target for target in targets if target is not None} - found
        found |= new
        waiting += new


def test_no_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    every = [*FILES, *(ROOT / "tests").rglob("*.py")]
    assert [named(path) for path in every if path.stem in drawers or path.parent.name in drawers] == []


def test_the_file_map_names_every_module():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    block = text.split("## File map")[1].split("```")[1]
    mapped: dict[str, set[str]] = {}
    folder = ""
    for line in block.strip().splitlines():
        if not line.startswith(" "):
            folder, line = line.split(maxsplit=1)
        words = line.replace("(verbs)", "").replace("*", "").split()
        mapped.setdefault(folder, set()).update(word for word in words if not word.endswith("/"))
    there: dict[str, set[str]] = {}
    for path in FILES:
        if path.stem != "__init__":
            there.setdefault(f"{path.parent.relative_to(ROOT).as_posix()}/", set()).add(path.stem)
    assert mapped == there


def circles(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Groups of files that reach one another: strongly connected components of more than one file."""
    paths = sorted(graph)
    edges = np.array([[target in graph[path] for target in paths] for path in paths])
    _, labels = connected_components(edges, connection="strong")
    groups = [[path for path, label in zip(paths, labels, strict=True) if label == n] for n in range(max(labels) + 1)]
    return sorted(group for group in groups if len(group) > 1)


def import_graph() -> dict[Path, set[Path]]:
    """Which files of the project each file imports, lazy imports included; imports for type checkers never run."""
    graph = {}
    for path in FILES:
        targets = {file_of(module) for module in imports(path, for_types=False)}
        graph[path] = {target for target in targets if target is not None} - {path}
    return graph


def test_no_file_imports_itself_through_others():
    assert [[named(path) for path in circle] for circle in circles(import_graph())] == []


def test_circles_of_imports_are_seen():
    """The negative control, also of a circle that hangs on another one."""
    a, b, c, d, e = map(Path, "abcde")
    assert circles({a: {b}, b: {a, c}, c: {d}, d: {e}, e: {c}}) == [[a, b], [c, d, e]]
    assert circles({a: {b, c}, b: {c}, c: set()}) == []


def test_json_lines_are_split_at_line_feeds_only():
    """`str.splitlines` also splits at U+0085, U+2028 and U+2029, which a JSON text may hold; `lines_of` does not."""
    output_of_a_process = {"workbench/doctor/rehearsal.py", "workbench/run/steps.py"}
    texts = {named(path): path.read_text(encoding="utf-8") for path in FILES}
    splitting = {name for name, text in texts.items() if "json.loads(" in text and ".splitlines()" in text}
    assert splitting == output_of_a_process
