"""The run folder: created, opened, gone on with, and what a kill may leave in it."""

import json
import shutil

import pytest

from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_parent, find_parents, record_lineage


class Run(Section):
    dir: str = "x"
    seed: int = 0
    threads: int = 0


class Train(Section):
    lr: float = 0.1


class Every(Section):
    every: int = 0


class Config(Section):
    run: Run = Run()
    train: Train = Train()
    checkpoint: Every = Every()


def create(path, config=None, **options):
    return RunFolder.create(path, phase="sft", config=config or Config(), **options)


def failure(action) -> WorkbenchError:
    with pytest.raises(WorkbenchError) as caught:
        action()
    return caught.value


def test_a_new_run_records_what_it_is(tmp_path):
    folder = create(tmp_path / "a" / "first")
    record = folder.record()
    assert (record["name"], record["phase"], record["status"]) == ("first", "sft", "started")
    assert record["versions"]["python"]
    assert "lr: 0.1" in folder.config_path.read_text()
    assert not folder.finished
    assert RunFolder.open(folder.path, phase=("reward", "sft")) == folder


def test_no_run_here_names_the_nearest_sibling(tmp_path):
    create(tmp_path / "reward")
    error = failure(lambda: RunFolder.open(tmp_path / "rewrad"))
    assert "no run here" in error.problem
    assert "reward" in error.remedy
    assert "earlier phase" in failure(lambda: RunFolder.open(tmp_path / "no" / "run")).remedy


def test_another_phase_is_refused_by_open_and_by_create(tmp_path):
    create(tmp_path / "a")
    error = failure(lambda: RunFolder.open(tmp_path / "a", phase=("reward", "ppo")))
    assert error.problem == "is a sft run"
    assert "reward or ppo" in error.expected
    for options in ({}, {"resume": True}, {"overwrite": True}):
        error = failure(
            lambda options=options: RunFolder.create(tmp_path / "a", phase="ppo", config=Config(), **options)
        )
        assert error.problem == "is a sft run"
    assert (tmp_path / "a/run.json").exists()


def test_an_existing_run_needs_a_decision(tmp_path):
    folder = create(tmp_path / "a")
    folder.metrics_path.write_text('{"step": 0, "seconds": 1}\n')
    error = failure(lambda: create(tmp_path / "a"))
    assert "'started'" in error.problem
    assert "--resume" in error.remedy
    assert "run.overwrite=true" in error.remedy
    assert create(tmp_path / "a", resume=True).read_metrics() == [{"step": 0, "seconds": 1}]
    assert create(tmp_path / "a", overwrite=True).read_metrics() == []


def test_resume_wins_over_overwrite(tmp_path):
    create(tmp_path / "a").metrics_path.write_text('{"step": 0, "seconds": 1}\n')
    assert create(tmp_path / "a", overwrite=True, resume=True).read_metrics()


def test_resume_without_a_run_starts_one(tmp_path):
    assert create(tmp_path / "a", resume=True).record()["status"] == "started"


def test_resume_with_another_configuration_is_refused(tmp_path):
    create(tmp_path / "a")
    error = failure(lambda: create(tmp_path / "a", Config(train=Train(lr=0.2)), resume=True))
    assert "differ: train.lr" in error.problem
    # The seed decides which records are held out: with another one they would be trained on.
    assert "run.seed" in failure(lambda: create(tmp_path / "a", Config(run=Run(seed=1)), resume=True)).problem


def test_resume_may_move_threads_and_checkpoint_rhythm(tmp_path):
    create(tmp_path / "a")
    create(tmp_path / "a", Config(run=Run(dir="elsewhere", threads=2), checkpoint=Every(every=5)), resume=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        assert "not empty" in failure(lambda options=options: create(tmp_path, **options)).problem
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "is a file" in failure(lambda: create(tmp_path / "notes.txt")).problem


def test_killed_while_being_created_starts_again(tmp_path):
    # config.yaml is written before run.json; a kill in between leaves it, perhaps half-written.
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.yaml").write_text("run:\n  di")
    (tmp_path / "a/.run.json.writing").write_text("{")
    assert create(tmp_path / "a", resume=True).record()["status"] == "started"
    assert create(tmp_path / "a", resume=True).record()["status"] == "started"


def test_unfinished_run_is_refused_as_a_parent(tmp_path):
    folder = create(tmp_path / "a run")
    assert "last checkpoint none" in failure(folder.require_finished).problem
    (folder.checkpoints / "step-20").mkdir(parents=True)
    error = failure(folder.require_finished)
    assert "last checkpoint 20" in error.problem
    assert f"python -m sft '{folder.config_path}' --resume" in error.remedy, "it can be pasted"
    folder.update_record(status="finished")
    assert folder.require_finished() == folder


def test_lineage_is_recorded_and_the_rest_kept(tmp_path):
    (tmp_path / "data.jsonl").write_text("x")
    folder = create(tmp_path / "a")
    record_lineage(folder, parents={"start": "runs/sft"}, data={"train": tmp_path / "data.jsonl"}, seed=3)
    record = folder.record()
    assert (record["parents"], record["seed"], record["phase"]) == ({"start": "runs/sft"}, 3, "sft")
    assert record["data"]["train"]["bytes"] == 1


def test_broken_record_names_its_line(tmp_path):
    folder = create(tmp_path / "a")
    folder.record_path.write_text('{"phase": "sft",\n"status" "started"}')
    assert "line 2" in failure(folder.record).problem


ROWS = [{"step": 0, "seconds": 0.5}, {"step": 1, "seconds": 1.0}]


@pytest.mark.parametrize("tail", [b'{"step": 2, "secon', b"{", b'{"response": "caf\xc3', b""])
def test_a_row_cut_by_a_kill_is_left_out(tmp_path, tail):
    folder = create(tmp_path / "a")
    folder.metrics_path.write_bytes("".join(json.dumps(row) + "\n" for row in ROWS).encode() + tail)
    assert folder.read_metrics() == ROWS
    folder.rewind_rows(5)
    with folder.metrics_path.open("a") as file:
        file.write(json.dumps({"step": 2, "seconds": 2.0}) + "\n")
    assert folder.read_metrics() == [*ROWS, {"step": 2, "seconds": 2.0}]


def test_a_broken_row_in_the_middle_is_an_error_with_its_line(tmp_path):
    folder = create(tmp_path / "a")
    folder.metrics_path.write_text('{"step": 0}\n{"step": \n{"step": 2}\n')
    assert failure(folder.read_metrics).place == f"{folder.metrics_path}:2"


def test_rewind_drops_later_rows_of_metrics_and_samples(tmp_path):
    folder = create(tmp_path / "a")
    for path in (folder.metrics_path, folder.samples_path):
        path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(5)))
    folder.rewind_rows(2)
    assert [row["step"] for row in folder.read_metrics()] == [0, 1, 2]
    assert [row["step"] for row in folder.read_samples()] == [0, 1, 2]
    folder.rewind_rows(-1)
    assert folder.read_metrics() == []


@pytest.mark.parametrize("text", ["a\u2028b\u2029c", "a\x85b\x0cc\x1ed", "line\r\nline\rline\n", "😀é", "\x00\ue000"])
def test_any_character_survives_in_a_sample(tmp_path, text):
    folder = create(tmp_path / "a")
    rows = [{"step": 0, "response": text}, {"step": 1, "response": "next"}]
    folder.samples_path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    assert folder.read_samples() == rows
    folder.rewind_rows(1)
    assert folder.read_samples() == rows


def with_parent(runs):
    """`runs/ppo`, made from `runs/sft`, each with an adapter."""
    for name in ("sft", "ppo"):
        folder = create(runs / name)
        folder.adapter.mkdir()
        (folder.adapter / "adapter_model.safetensors").write_bytes(name.encode())
    record_lineage(folder, parents={"start": str(runs / "sft")}, data={})
    return folder


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_moved_run_finds_its_parent_beside_it(tmp_path, move):
    with_parent(tmp_path / "runs")
    move(tmp_path / "runs", tmp_path / "elsewhere")
    moved = RunFolder.open(tmp_path / "elsewhere" / "ppo")
    assert find_parent(moved, "start").path == tmp_path / "elsewhere" / "sft"
    assert find_parent(moved, "reward_1") is None
    assert list(find_parents(moved)) == ["start"]


def test_a_run_that_was_moved_alone_finds_its_parent_where_it_was(tmp_path):
    with_parent(tmp_path / "runs")
    shutil.move(tmp_path / "runs" / "ppo", tmp_path / "ppo")
    assert find_parent(RunFolder(tmp_path / "ppo"), "start").path == tmp_path / "runs" / "sft"


def test_a_run_recorded_by_path_alone_finds_its_parent_beside_it(tmp_path):
    folder = with_parent(tmp_path / "runs")
    folder.write_record({key: value for key, value in folder.record().items() if key != "parents_at"})
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    assert find_parent(RunFolder(tmp_path / "elsewhere" / "ppo"), "start").path == tmp_path / "elsewhere" / "sft"


def test_a_parent_that_is_gone_or_was_trained_again_is_an_error(tmp_path):
    folder = with_parent(tmp_path / "runs")
    (tmp_path / "runs" / "sft" / "adapter" / "adapter_model.safetensors").write_bytes(b"another")
    error = failure(lambda: find_parent(folder, "start"))
    assert "holds another adapter than this run was made from" in error.problem
    shutil.rmtree(tmp_path / "runs" / "sft")
    error = failure(lambda: find_parent(folder, "start"))
    assert error.problem == f"its start run {tmp_path / 'runs' / 'sft'} is not here"
    assert "model.start=RUN" in error.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "broken JSON at line 1"),
        (b"\xff\xfe{", "not JSON in UTF-8"),
        ("[]", "holds \\[\\] instead of the record of a run"),
        ("{}", "has no phase"),
        ('{"phase": 3}', "phase is 3"),
        ('{"phase": "sft"}', "has no status"),
        ('{"phase": "sft", "status": "finished", "parents": []}', "parents is \\[\\], not a mapping"),
        ('{"phase": "sft", "status": "finished", "parents": {"start": 1}}', "parents.start is 1"),
        ('{"phase": "sft", "status": "finished", "data": {"train": "x"}}', "data.train is 'x'"),
        ('{"phase": "sft", "status": "finished", "data": {"train": {"path": "x"}}}', "data.train has no bytes"),
    ],
)
def test_a_record_of_another_form_is_one_clear_error(tmp_path, text, said):
    (tmp_path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(WorkbenchError, match=rf"run.json: {said}(.|\n)*repeat the run"):
        RunFolder.open(tmp_path).record()


def test_a_run_without_its_parent_is_not_its_own_parent(tmp_path):
    folder = RunFolder(tmp_path / "new/ppo")
    folder.path.mkdir(parents=True)
    folder.write_record({"phase": "ppo", "status": "finished", "parents": {"start": str(tmp_path / "old/ppo")}})
    with pytest.raises(WorkbenchError, match=r"its start run .* is not here"):
        find_parent(folder, "start")
