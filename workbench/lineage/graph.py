"""The lineage of a run as a graph: its parent runs, their data files, and who labelled them. As text, DOT and SVG."""

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.lineage.trace import annotators_of, number_of_records
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.parents import check_circle, find_data, find_parent

MOST_ANNOTATORS = 12
"""Annotators shown per file, those with the most records first."""


@dataclass(frozen=True)
class Node:
    """A run, a data file, or a group of annotators, with what it is made from."""

    label: str
    role: str
    """What it is to the node above: `start`, `reward_1`, `data.train`, `annotator`."""
    children: tuple["Node", ...] = ()


def lineage(run: Path, role: str = "run", above: tuple[Path, ...] = ()) -> Node:
    """The graph below a run.

    Args:
        run: its folder.
        role: what it is to the run above.
        above: the runs that it is a parent of, directly or not.

    Raises:
        WorkbenchError: there is no such run, or its parents lead back to it.
    """
    folder = RunFolder.open(run)
    above = (*above, folder.path.resolve())
    check_circle(above)
    record = folder.record()
    parents = []
    for name, written in record.get("parents", {}).items():
        try:
            parent = find_parent(folder, name)
        except WorkbenchError:
            parent = None
        parents.append(lineage(parent.path, name, above) if parent else Node(f"{written} (not here)", name))
    noted = record.get("annotators", {})
    files = [_file_node(folder, name, noted.get(name)) for name in record.get("data", {})]
    label = f"{folder.path} ({record['phase']}, seed {record.get('seed')}, {record['status']})"
    return Node(label, role, (*parents, *files))


def _file_node(folder: RunFolder, name: str, noted: dict[str, int] | None) -> Node:
    """A data file with its annotators: as the run noted them, otherwise as they are in the file, if it is the same."""
    file, path, role = folder.record()["data"][name], find_data(folder, name), f"data.{name}"
    if not path.exists():
        return Node(f"{path} (not here)", role, _people(noted or {}))
    if data_fingerprint(path)["sha256"] != file["sha256"]:
        return Node(f"{path} (changed since)", role, _people(noted or {}))
    names = annotators_of(path) if noted is None else noted
    return Node(f"{path}: {number_of_records(path):,} records, SHA-256 {file['sha256'][:12]}", role, _people(names))


def _people(names: Mapping[str, int]) -> tuple[Node, ...]:
    most = sorted(names.items(), key=lambda one: -one[1])
    shown = [Node(f"{who}: {count:,} records", "annotator") for who, count in most[:MOST_ANNOTATORS]]
    if len(names) > MOST_ANNOTATORS:
        shown.append(Node(f"{len(names) - MOST_ANNOTATORS:,} more", "annotator"))
    return tuple(shown)


def draw(node: Node, out: Path) -> None:
    """Write the graph as DOT or SVG, by the suffix.

    Raises:
        WorkbenchError: another suffix.
    """
    if out.suffix not in (".dot", ".svg"):
        raise WorkbenchError(f"--out {out}", "unknown kind of graph", expected="a name that ends in .dot or .svg")
    write_text_atomically(out, as_dot(node) if out.suffix == ".dot" else as_svg(node))


def as_text(node: Node, depth: int = 0) -> str:
    """An indented tree."""
    lines = [f"{'  ' * depth}{node.role}: {node.label}"]
    return "\n".join([*lines, *(as_text(child, depth + 1) for child in node.children)])


def as_dot(node: Node) -> str:
    """The graph in Graphviz' language; a run or file that appears twice is one vertex."""
    edges = list(dict.fromkeys(_edges(node)))
    vertices = list(dict.fromkeys([node.label, *(label for edge in edges for label in edge[:2])]))
    lines = [f"  {_quoted(label)};" for label in vertices]
    lines += [f"  {_quoted(below)} -> {_quoted(above)} [label={_quoted(role)}];" for above, below, role in edges]
    return "digraph lineage {\n  rankdir=LR;\n  node [shape=box];\n" + "\n".join(lines) + "\n}\n"


def _edges(node: Node) -> Iterator[tuple[str, str, str]]:
    for child in node.children:
        yield node.label, child.label, child.role
        yield from _edges(child)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def as_svg(node: Node) -> str:
    """The tree as a picture: one row per node, indented by depth."""
    rows: list[tuple[Node, int, int]] = []

    def place(current: Node, depth: int, above: int) -> None:
        row = len(rows)
        rows.append((current, depth, above))
        for child in current.children:
            place(child, depth + 1, row)

    place(node, 0, -1)
    width = max(32 * depth + 8 * len(f"{each.role}: {each.label}") for each, depth, _ in rows) + 40
    drawn = []
    for row, (each, depth, above) in enumerate(rows):
        x, y = 20 + 32 * depth, 24 + 28 * row
        if above >= 0:
            drawn.append(f'<path d="M{x - 22} {30 + 28 * above}V{y - 5}H{x - 6}" fill="none" stroke="#888"/>')
        drawn.append(f'<text x="{x}" y="{y}">{html.escape(f"{each.role}: {each.label}")}</text>')
    size = f'width="{width}" height="{28 * len(rows) + 16}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="13">\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )
