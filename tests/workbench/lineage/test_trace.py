"""Records of a person or with an id, found in files; runs made from them; the plan to train these again."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import write_jsonl
from workbench.__main__ import main
from workbench.lineage.graph import as_dot, as_svg, as_text, lineage
from workbench.lineage.refit import plan, touched_runs
from workbench.lineage.trace import (
    BLOCK,
    Sought,
    annotators_by_file,
    annotators_of,
    count_records,
    number_of_records,
    without,
)
from workbench.run.config import read_values
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint

ROWS = [
    {"id": "a", "annotators": ["ann"], "chosen": 'says "bea"'},
    {"id": "b", "annotators": ["bea", "ann"], "chosen": "plain"},
    {"id": "c:0-1", "annotators": ["Ünal"], "chosen": "plain"},
    {"id": "c:0-2", "annotators": [], "chosen": "plain"},
    {"id": "cc", "annotators": ["bea2"], "chosen": "a\u2028b"},
]


@pytest.mark.parametrize(
    ("sought", "count"),
    [
        (Sought(frozenset({"ann"})), 2),
        (Sought(frozenset({"bea"})), 1),  # neither a text that names her, nor a longer name
        (Sought(frozenset({"Ünal"})), 1),
        (Sought(frozenset({"nobody"})), 0),
        (Sought(record="c"), 2),
        (Sought(record="a"), 1),
        (Sought(frozenset({"bea"}), record="cc"), 2),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_records_are_found_by_annotator_and_id(tmp_path: Path, sought: Sought, count: int, ascii_only: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in ROWS).rstrip("\n"), "utf-8")
    assert count_records(path, sought) == count
    other = path.with_suffix(".ndjson")  # read row by row, not searched
    other.write_bytes(path.read_bytes())
    assert count_records(other, sought) == count
    assert without(path, tmp_path / "out.jsonl", sought) == len(ROWS) - count
    assert count_records(tmp_path / "out.jsonl", sought) == 0


def test_a_last_line_in_another_encoding_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    last = json.dumps(
        {"id": "z", "annotators": ["Ünal"], "chosen": "für die schöne Größe, natürlich"}, ensure_ascii=False
    )
    path.write_bytes(b'{"id": "a", "annotators": []}\n' * 20 + last.encode("latin-1"))  # without a line's end
    assert count_records(path, Sought(frozenset({"Ünal"}))) == 1


def test_a_configuration_among_the_data_files_holds_no_records(tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text("pairs: {run: ann}\n")
    assert annotators_by_file({"refresh": path}) == {"refresh": {}}
    assert count_records(path, Sought(record="ann")) == number_of_records(path) == 0


def test_a_line_across_two_blocks_is_found(tmp_path: Path) -> None:
    filler = {"id": "x" * (BLOCK - 30), "annotators": []}
    path = write_jsonl(tmp_path / "rows.jsonl", [filler, *ROWS])
    assert count_records(path, Sought(frozenset({"ann"}))) == 2


@pytest.mark.parametrize("kind", ["gzip", "list", "latin-1", "bad line", "indented", "no object"])
def test_records_are_found_in_files_that_are_not_plain_lines(tmp_path: Path, kind: str) -> None:
    """Their name says JSON lines; the content decides how they are read."""
    path = tmp_path / "rows.jsonl"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[:4])
    content = {
        "gzip": gzip.compress(lines.encode()),
        "list": json.dumps(ROWS[:4]).encode(),
        "latin-1": (lines * 20).encode("latin-1"),  # enough text to be sure of the encoding
        "bad line": lines.encode() + b'{"annotators": ["ann"], "id":',
        "indented": json.dumps(ROWS[0], indent=1).encode() + b"\n" + lines.encode(),
        "no object": lines.encode() + b'["annotators"]\n',
    }
    path.write_bytes(content[kind])
    times, more = (20 if kind == "latin-1" else 1), kind == "indented"
    assert annotators_of(path) == {"ann": 2 * times + more, "bea": times, "Ünal": times}
    assert count_records(path, Sought(frozenset({"Ünal"}))) == times


def make_run(path: Path, phase: str, data: dict[str, Path], parents: dict[str, Path] | None = None) -> Path:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.config_path.write_text("run: {}\n")
    record: dict[str, Any] = {"name": path.name, "phase": phase, "status": "finished", "seed": 0}
    record["parents"] = {role: str(parent) for role, parent in (parents or {}).items()}
    record["data"] = {name: data_fingerprint(file) for name, file in data.items()}
    folder.write_record(record)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """sft ← reward (labelled by ann) ← ppo, and a reward run of others' labels."""
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"id": "p"}])
    labels, others = (write_jsonl(tmp_path / name, rows) for name, rows in (("l.jsonl", ROWS), ("o.jsonl", ROWS[4:])))
    root = tmp_path / "runs"
    sft = make_run(root / "z-sft", "sft", {"train": prompts})
    reward = make_run(root / "reward", "reward", {"train": labels}, {"start": sft})
    make_run(root / "other", "reward", {"train": others}, {"start": sft})
    make_run(root / "a-ppo", "ppo", {"train": prompts}, {"start": sft, "reward_1": reward})
    return root


def test_runs_are_touched_by_their_files_and_by_their_parents(runs: Path) -> None:
    touched = touched_runs(runs, Sought(frozenset({"ann"})))
    assert [one.folder.path.name for one in touched] == ["reward", "a-ppo"]
    assert "2 records in" in str(touched[0])
    todo = plan(touched)
    new = runs.parent / "l-refit.jsonl"
    assert list(todo.files.values()) == [new]
    assert [list(command) for command in todo.commands] == [
        ["reward", str(runs / "reward/config.yaml"), f"run.dir={runs / 'reward-refit'}", f"data.train={new}"],
        [
            "ppo",
            str(runs / "a-ppo/config.yaml"),
            f"run.dir={runs / 'a-ppo-refit'}",
            f"model.reward={runs / 'reward-refit'}",
        ],
    ]
    assert touched_runs(runs, Sought(frozenset({"nobody"}))) == []


def test_a_reference_that_is_trained_again_is_named(runs: Path) -> None:
    prompts = {"train": runs.parent / "prompts.jsonl"}
    make_run(runs / "b-ppo", "ppo", prompts, {"start": runs / "a-ppo", "reference": runs / "a-ppo"})
    command = plan(touched_runs(runs, Sought(frozenset({"ann"})))).commands[-1]
    again = runs / "a-ppo-refit"
    assert command[-2:] == [f"model.start={again}", f"model.reference={again}"]


def test_a_file_that_has_changed_is_not_taken_for_the_one_that_was_read(runs: Path) -> None:
    write_jsonl(runs.parent / "l.jsonl", ROWS[4:])
    touched = touched_runs(runs, Sought(frozenset({"ann"})))
    assert [one.gone for one in touched] == [("train",), ()]
    todo = plan(touched)
    assert todo.commands == []
    assert len(todo.blocked) == 2
    assert "changed since" in as_text(lineage(runs / "a-ppo"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_content_of_the_same_size_and_time_is_seen(runs: Path, kind: str) -> None:
    """As after `cp -p` or `rsync -t`, or if the run folder is a copy that is newer than its files."""
    path = runs.parent / "l.jsonl"
    if kind == "folder":
        (runs.parent / "shards").mkdir()
        path = path.rename(runs.parent / "shards/l.jsonl")
        make_run(runs / "sharded", "reward", {"train": path.parent})
    before = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace('"ann"', '"eve"'), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**10))
    assert path.stat().st_size == before.st_size
    touched = touched_runs(runs, Sought(frozenset({"ann"})))
    assert ("reward" if kind == "file" else "sharded") in [one.folder.path.name for one in touched if one.gone]
    assert not any(one.records for one in touched)


def test_whose_records_a_run_has_read_is_known_when_its_file_is_gone(runs: Path) -> None:
    for name in ("reward", "other"):
        folder = RunFolder(runs / name)
        files = {key: Path(file["path"]) for key, file in folder.record()["data"].items()}
        folder.update_record(annotators=annotators_by_file(files))
    (runs.parent / "l.jsonl").unlink()
    (runs.parent / "o.jsonl").unlink()
    touched = touched_runs(runs, Sought(frozenset({"ann", "annotator-1"})))
    assert [one.folder.path.name for one in touched] == ["reward", "a-ppo"]
    assert touched[0].records == {"train": 2}
    text = as_text(lineage(runs / "reward"))
    assert "l.jsonl (not here)" in text
    assert "annotator: ann: 2 records" in text
    assert plan(touched).commands == []  # the labels of the others are gone, too
    by_record = touched_runs(runs, Sought(record="a"))
    assert {one.folder.path.name for one in by_record} == {"other", "reward", "a-ppo"}  # an id is sought in the file


def test_the_graph_leads_down_to_annotators(runs: Path) -> None:
    node = lineage(runs / "a-ppo")
    text = as_text(node)
    assert text.splitlines()[0].startswith(f"run: {runs / 'a-ppo'} (ppo, seed 0, finished)")
    assert "    annotator: ann: 2 records" in text
    assert text.count("z-sft") == 2  # a parent of both
    dot, svg = as_dot(node), as_svg(node)
    assert dot.count("z-sft") == 1 + 3  # one vertex, one edge into it, two out of it
    assert svg.startswith("<svg")
    assert svg.count("<text") == len(text.splitlines())
    for name in ("graph.dot", "graph.svg"):
        main(["lineage", str(runs / "a-ppo"), "--out", str(runs / name)])
    assert ((runs / "graph.dot").read_text(), (runs / "graph.svg").read_text()) == (dot, svg)
    with pytest.raises(WorkbenchError, match="unknown kind of graph"):
        main(["lineage", str(runs / "a-ppo"), "--out", "graph.png"])
    assert annotators_of(runs.parent / "l.jsonl") == {"ann": 2, "bea": 1, "Ünal": 1, "bea2": 1}


def test_runs_that_are_made_from_each_other_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "runs/first", tmp_path / "runs/second"
    make_run(first, "sft", {}, {"start": second})
    make_run(second, "sft", {}, {"start": first})
    for look in (lambda: lineage(first), lambda: touched_runs(tmp_path / "runs", Sought(record="a"))):
        with pytest.raises(WorkbenchError, match=r"run.json: the parents of this run lead back to it: .*first is made"):
            look()


def test_a_plan_replaces_judges_and_does_not_guess_other_parents(runs: Path) -> None:
    judged, average = runs / "b-ppo", runs / "b-average"
    prompts = {"train": runs.parent / "prompts.jsonl"}
    make_run(judged, "ppo", prompts, {"start": runs / "z-sft", "reward_1": runs / "other", "judge_1": runs / "reward"})
    make_run(average, "reward", {}, {"start": runs / "z-sft", "average": runs / "reward"})
    todo = plan(touched_runs(runs, Sought(frozenset({"ann"}))))
    (command,) = (words for words in todo.commands if str(judged / "config.yaml") in words)
    assert f"guard.judge={runs / 'reward-refit'}" in command
    assert not any(word.startswith("model.reward=") for word in command)  # its own stays
    (blocked,) = todo.blocked
    assert str(average) in blocked
    assert "as average" in blocked


def test_files_with_several_dots_stay_apart(runs: Path) -> None:
    files = {}
    for name in ("train", "heldout"):
        files[name] = write_jsonl(runs.parent / f"prefs.{name}.jsonl", ROWS)
    make_run(runs / "dots", "reward", files, {"start": runs / "z-sft"})
    new = plan(touched_runs(runs, Sought(frozenset({"ann"})))).files
    assert {new[path].name for path in files.values()} == {"prefs.train-refit.jsonl", "prefs.heldout-refit.jsonl"}


def test_a_compressed_file_is_named_like_any_other_and_stays_apart(runs: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    files = {}
    for name in ("zipped.jsonl.gz", "both.jsonl", "both.jsonl.gz", "both.csv.gz"):
        files[name] = runs.parent / name
        files[name].write_bytes(gzip.compress(rows) if name.endswith("gz") else rows)
    files["both.csv.gz"].write_bytes(gzip.compress(b"id,annotators\na,ann\n"))
    make_run(runs / "zips", "reward", files, {"start": runs / "z-sft"})
    new = plan(touched_runs(runs, Sought(record="a"))).files
    assert {name: new[path].name for name, path in files.items()} == {
        "zipped.jsonl.gz": "zipped-refit.jsonl",
        "both.jsonl": "both-refit.jsonl",
        "both.jsonl.gz": "both.jsonl.gz-refit.jsonl",
        "both.csv.gz": "both.csv.gz-refit.jsonl",
    }


def test_files_that_are_mixed_in_are_named_in_their_list(runs: Path) -> None:
    mixed, labels = runs.parent / "mixed.jsonl", runs.parent / "l.jsonl"
    write_jsonl(mixed, [{"id": "b", "annotators": ["bea"]}])
    run = make_run(runs / "sft-mix", "sft", {"train": mixed, "mix_1": mixed, "mix_2": labels})
    mix = [{"file": str(mixed), "share": 0.2}, {"file": str(labels), "share": 0.1}]
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"train": str(mixed), "mix": mix}}), encoding="utf-8")
    todo = plan(touched_runs(runs, Sought(frozenset({"ann"}))))
    (command,) = (words for words in todo.commands if str(run / "config.yaml") in words)
    (value,) = (word for word in command if word.startswith("data.mix="))
    assert json.loads(value.removeprefix("data.mix=")) == [
        mix[0],
        {"file": str(runs.parent / "l-refit.jsonl"), "share": 0.1},
    ]
    assert not [word for word in command if word.startswith(("data.mix_", "data.train"))]
    assert read_values(run / "config.yaml", [value])["data"]["mix"][1]["share"] == 0.1
