"""Metrics in files are the record; W&B gets the same numbers, and whatever it does the run goes on."""

import json
import math
import os
import struct
import subprocess
import sys

import pytest
import wandb

from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.tracking import Tracker, run_name


class Config(Section):
    seed: int = 0


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "demo/run", phase="sft", config=Config())


@pytest.fixture
def start(folder):
    """Starts trackers, and closes their files where a test left them open."""
    trackers = []

    def _start(mode="disabled", project=None):
        trackers.append(Tracker(folder, project=project, mode=mode, config={"train": {"lr": 0.1}}))
        return trackers[-1]

    yield _start
    for tracker in trackers:
        if not tracker._metrics.closed:
            tracker.finish()


class Recorder:
    """Stands in for a W&B run."""

    def __init__(self):
        self.rows, self.exit_code, self.options = [], None, {}

    def init(self, **options):
        self.options = options
        return self

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(wandb, "init", recorder.init)
    return recorder


def test_rows_hold_step_seconds_and_values(start, folder):
    tracker = start()
    tracker.log({"sft/loss": 1.5, "sft/tokens": 7}, step=3)
    tracker.log({"sft/loss": math.nan, "sft/grad_norm": math.inf}, step=4)
    first, second = folder.read_metrics()  # readable while the run goes on
    assert (first["step"], first["sft/loss"], first["sft/tokens"]) == (3, 1.5, 7.0)
    assert second["sft/loss"] is None
    assert second["sft/grad_norm"] is None
    assert 0 <= first["seconds"] <= second["seconds"]
    assert "NaN" not in folder.metrics_path.read_text()


def test_samples_keep_every_character(start, folder):
    tracker = start()
    row = {"prompt_id": "p", "prompt": [{"role": "user", "content": "é\u2028?"}], "response": "<b>\n", "ended": True}
    tracker.samples([row, row], step=2)
    assert folder.read_samples() == [{"step": 2, **row}] * 2


def test_finish_notes_status_and_seconds(start, folder):
    tracker = start()
    tracker.finish()
    assert folder.finished
    assert folder.record()["seconds"] >= 0
    assert "wandb_id" not in folder.record()


def test_seconds_go_on_after_a_resume(start, folder):
    folder.metrics_path.write_text(json.dumps({"step": 9, "seconds": 100.0}) + "\n")
    tracker = start()
    tracker.log({"sft/loss": 1.0}, step=10)
    assert 100.0 <= folder.read_metrics()[-1]["seconds"] < 160.0


def test_disabled_never_calls_wandb(start, folder, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("wandb.init was called"))
    monkeypatch.setattr(wandb, "login", lambda **_: pytest.fail("wandb.login was called"))
    tracker = start()
    tracker.log({"a/b": 1.0}, step=0)
    tracker.finish()


def test_wandb_gets_the_same_numbers(start, folder, recorder):
    tracker = start("offline")
    tracker.log({"sft/loss": 1.5, "sft/grad_norm": 0.5}, step=3)
    tracker.finish()
    ((step, values),) = recorder.rows
    assert {"step": step, **values} == folder.read_metrics()[0]
    assert recorder.exit_code == 0
    assert recorder.options["mode"] == "offline"
    assert recorder.options["config"] == {"train": {"lr": 0.1}}
    assert folder.record()["wandb_id"] == recorder.options["id"]
    assert folder.record()["wandb_mode"] == "offline"


def test_samples_become_a_table(start, folder, recorder):
    tracker = start("offline")
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    tracker.samples([{"prompt_id": "p", "prompt": prompt, "response": "Yes.", "ended": True, "score": 0.5}], step=1)
    ((step, values),) = recorder.rows
    table = values["samples"]
    assert step == 1
    assert table.columns == ["step", "prompt_id", "prompt", "response", "ended", "score"]
    assert table.data == [[1, "p", "system: Be kind.\nuser: Hello?", "Yes.", True, 0.5]]


def test_a_failed_run_is_failed_in_wandb_too(start, folder, recorder):
    start("offline").finish(status="failed")
    assert recorder.exit_code == 1
    assert not folder.finished


def test_resumed_run_keeps_its_wandb_id(start, folder, recorder):
    start("offline").finish()
    first = folder.record()["wandb_id"]
    start("offline").finish()
    assert recorder.options["id"] == first
    assert recorder.options["resume"] == "allow"


@pytest.mark.parametrize(("logged_in", "mode"), [(True, "online"), (False, "offline")])
def test_auto_is_online_when_logged_in_and_never_asks(start, folder, recorder, monkeypatch, logged_in, mode):
    asked = []
    monkeypatch.setattr(wandb, "login", lambda **options: asked.append(options) or logged_in)
    start("auto").finish()
    assert recorder.options["mode"] == mode
    assert asked[0]["prompt"] is False


def test_a_run_is_named_after_its_folder_and_grouped_by_the_folder_around_it(start, folder, recorder):
    start("offline").finish()
    assert (recorder.options["name"], recorder.options["group"]) == ("demo/run", "demo")
    assert recorder.options["project"] == "alignment-workbench"
    assert recorder.options["dir"] == folder.path


def test_a_member_of_an_ensemble_is_named_after_the_ensemble(tmp_path):
    member = RunFolder(tmp_path / "demo/reward/members/2")
    assert run_name(member) == ("demo", "demo/reward/2")


def test_the_environment_wins_over_defaults(start, folder, recorder, monkeypatch, tmp_path):
    said = {"PROJECT": "theirs", "NAME": "first", "RUN_GROUP": "g", "DIR": str(tmp_path / "w"), "MODE": "offline"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    start("auto").finish()
    told = [recorder.options[name] for name in ("project", "name", "group", "dir", "mode")]
    assert told == list(said.values())
    assert "entity" not in recorder.options, "passed on, it would hide WANDB_ENTITY"


def test_a_value_in_the_configuration_wins_over_the_environment(start, folder, recorder, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    start("offline", project="ours").finish()
    assert (recorder.options["project"], recorder.options["mode"]) == ("ours", "offline")


def test_disabled_in_the_environment_is_disabled(start, folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("wandb.init was called"))
    monkeypatch.setattr(wandb, "login", lambda **_: pytest.fail("wandb.login was called"))
    start("auto").finish()
    assert "wandb_mode" not in folder.record()


def test_an_unknown_mode_in_the_environment_is_an_error(start, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(WorkbenchError, match=r"(?s)WANDB_MODE.*'sometimes'.*online, offline or disabled"):
        start("auto")


def test_unreachable_server_falls_back_to_offline(start, folder, recorder, monkeypatch, capsys):
    modes = []

    def init(**options):
        modes.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route to host\nand more")
        return recorder.init(**options)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: modes.append("teardown"))
    tracker = start("online")
    tracker.log({"a/b": 1.0}, step=0)
    tracker.finish()
    assert modes == ["online", "teardown", "offline"], "without the teardown W&B says that the id is in use"
    assert len(recorder.rows) == 1
    assert folder.record()["wandb_mode"] == "offline"
    assert "wandb_error" not in folder.record()
    shown = capsys.readouterr().err
    assert "no route to host" in shown
    assert "wandb sync" in shown


@pytest.mark.parametrize("method", ["init", "log", "finish"])
def test_failing_wandb_is_said_once_noted_and_survived(start, folder, recorder, monkeypatch, capsys, method):
    def fail(*_, **__):
        raise RuntimeError("service died")

    monkeypatch.setattr(wandb if method == "init" else recorder, method, fail)
    tracker = start("offline")
    for step in range(3):
        tracker.log({"a/b": float(step)}, step=step)
        tracker.samples([{"prompt_id": "p", "response": "r"}], step=step)
    tracker.finish()
    assert [row["a/b"] for row in folder.read_metrics()] == [0.0, 1.0, 2.0]
    assert len(folder.read_samples()) == 3
    assert folder.finished
    assert folder.record()["wandb_error"] == "RuntimeError: service died"
    assert capsys.readouterr().err.count("W&B failed") == 1


OFFLINE_RUN = """
import sys
from workbench.run.folder import RunFolder
from workbench.run.tracking import Tracker

tracker = Tracker(RunFolder.open(sys.argv[1]), project="tests", mode="offline", config={"train": {"lr": 0.1}})
tracker.log({"sft/loss": 1.25}, step=0)
tracker.log({"sft/loss": 0.75}, step=10)
tracker.finish()
"""


def offline_history(folder) -> list[dict[str, float]]:
    """The rows of the one offline run: after 7 bytes of header, records of checksum, length, type and protobuf.

    Source: the LevelDB log format, in which wandb writes; a file below 32 KiB is one block.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.path.glob("wandb/offline-run-*/run-*.wandb")
    content, position, rows = path.read_bytes(), 7, []
    assert len(content) < 1 << 15
    while position < len(content):
        _, length, _ = struct.unpack("<IHB", content[position : position + 7])
        position += 7 + length
        record = wandb_internal_pb2.Record.FromString(content[position - length : position])
        if record.WhichOneof("record_type") == "history":
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    return rows


def test_a_real_offline_run_is_written(folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    ended = subprocess.run(
        [sys.executable, "-c", OFFLINE_RUN, str(folder.path)],
        env=environment | {"WANDB_CACHE_DIR": str(folder.path / "cache"), "WANDB_CONFIG_DIR": str(folder.path / "c")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "warning" not in ended.stderr
    rows = offline_history(folder)
    written = folder.read_metrics()
    assert [row["_step"] for row in rows] == [row["step"] for row in written] == [0, 10]
    assert [row["sft/loss"] for row in rows] == [row["sft/loss"] for row in written] == [1.25, 0.75]
    assert folder.record()["wandb_mode"] == "offline"
