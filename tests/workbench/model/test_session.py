"""How a run opens: folder, lineage, checkpoint to continue from, tracker."""

import pytest

from sft.config import SftConfig
from sft.train import train
from tests.conftest import load_phase, sft_values
from workbench.data.rules import RowRules
from workbench.model.session import open_session, prepare
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@pytest.fixture
def open_(tmp_path, tiny_base, demonstration_file):
    """Opens the same run again and again."""
    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    config = load_phase(SftConfig, tmp_path / "sft.yaml", values)

    def _open(resume=False, **options):
        setup = prepare(config)
        files = setup.files({"train": config.data.train, "validation": None})
        options = {"parents": {}, "files": files, "rules": RowRules(), "demonstrations": {"train": 20}} | options
        return open_session(setup, config, "sft", resume=resume, **options)

    return _open


def test_a_new_run_notes_what_it_is_made_from(open_, tiny_base, demonstration_file):
    session = open_()
    with session.running():
        session.tracker.log({"sft/loss": 1.0}, 1)
    record = session.folder.record()
    assert record["status"] == "finished"
    assert record["base"]["name"] == str(tiny_base)
    assert len(record["base"]["fingerprint"]) == 16
    assert record["data"]["train"]["path"] == str(demonstration_file)
    assert (record["seed"], record["processes"], record["demonstrations"]) == (0, 1, {"train": 20})
    assert session.checkpoint is None


def test_an_error_in_the_body_is_the_status_of_the_run(open_):
    session = open_()
    with pytest.raises(WorkbenchError, match="went wrong"), session.running():
        raise WorkbenchError("here", "went wrong")
    assert session.folder.record()["status"] == "stopped"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.dtype=bfloat16", "bfloat16"),
        ("model.activation_checkpointing=true", "activation checkpointing"),
        ("lora.dropout=0.1", "dropout"),
    ],
)
def test_cpu_kernels_that_do_not_apply_are_refused_with_the_reason(
    tmp_path, tiny_base, demonstration_file, override, reason
):
    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    config = load_phase(SftConfig, tmp_path / "sft.yaml", values, "model.kernels=cpu", override)
    with pytest.raises(WorkbenchError, match=rf"model.kernels: .*{reason}"):
        train(config, resume=False)


def test_a_finished_run_is_said_to_be_finished(open_, capsys):
    with open_().running():
        pass
    assert not capsys.readouterr().out
    assert open_(resume=True).finished
    assert "this sft run is finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "kept"), [({}, [0, 4, 8]), ({"last_row": lambda step: step - 1}, [0, 4])], ids=["trainers", "ppo"]
)
def test_resuming_drops_what_will_be_written_again(open_, options, kept):
    session = open_()
    session.tracker.finish("stopped")
    folder = session.folder
    rows = [0, 4, 8, 9, 11]

    def write():
        folder.metrics_path.write_text("".join(f'{{"step": {step}, "seconds": 1.0}}\n' for step in rows))

    write()
    for step in (4, 8):
        (folder.checkpoints / f"step-{step}").mkdir(parents=True)
    session = open_(resume=True, **options)
    assert session.checkpoint == folder.checkpoints / "step-8"
    assert session.resume_from == str(session.checkpoint)
    session.tracker.log({"sft/loss": 1.0}, 12)
    session.tracker.finish("stopped")
    assert [row["step"] for row in folder.read_metrics()] == [*kept, 12], "the tracker writes into the rewound file"

    write()
    for step in (4, 8):
        (folder.checkpoints / f"step-{step}").rmdir()
    session = open_(resume=True, **options)
    session.tracker.finish("stopped")
    assert (session.checkpoint, folder.read_metrics()) == (None, [])


def test_a_run_that_was_begun_is_not_begun_again(open_):
    open_().tracker.finish("stopped")
    with pytest.raises(WorkbenchError, match=r"(?s)already holds a sft run.*--resume"):
        open_()


def test_rows_that_were_left_out_are_listed(open_):
    rules = RowRules()
    rules.left_out.append({"place": "data.jsonl, line 3", "problem": "'response' is empty"})
    session = open_(rules=rules)
    session.tracker.finish()
    assert "line 3" in (session.folder.path / "bad_rows.jsonl").read_text()
    assert RunFolder.open(session.folder.path).finished
