"""`annotate forget`: what it deletes, which runs it names, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.__main__ import main
from annotate.config import QueueSection
from annotate.people.accounts import add_account
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import PASSWORD, label
from workbench.data.readers import read_preferences
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint


@pytest.fixture
def words(store: Store, account: Callable[..., Annotator], load: Callable[..., None], tmp_path: Path) -> list[str]:
    """Two people have judged, their preferences are exported, and a run has learned from them."""
    load(6)
    queue = Queue(store, QueueSection(lease_seconds=60, overlap=1, overlap_share=0))
    for name in ("ann", "bea"):
        who = account(name)
        for _ in range(3):
            label(queue, who)
    out = tmp_path / "preferences.jsonl"
    configuration = ["configs/tiny/annotate.yaml", f"store.url={store.place}", f"export.out={out}"]
    main(["export", *configuration])
    run = RunFolder(tmp_path / "runs" / "reward")
    run.path.mkdir(parents=True)
    run.config_path.write_text("run: {}\n")
    data = {"train": data_fingerprint(out)}
    run.write_record({"name": "reward", "phase": "reward", "status": "finished", "parents": {}, "data": data})
    return [*configuration, "--runs", str(tmp_path / "runs")]


def annotators(path: Path) -> set[str]:
    return {name for record in read_preferences(path) for name in record.annotators}


def test_a_person_is_deleted_and_the_runs_that_learned_from_them_are_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["forget", *words, "--annotator", "ann"])
    said = capsys.readouterr().out
    run, new = tmp_path / "runs" / "reward", tmp_path / "preferences-refit.jsonl"
    assert f"{run}: 3 records in {tmp_path / 'preferences.jsonl'}" in said
    assert f"python -m reward {run / 'config.yaml'} run.dir={run}-refit data.train={new}" in said
    assert not new.exists()
    main(["export", *words[:2], f"export.out={new}"])
    assert annotators(new) == {"bea"}
    main(["forget", *words, "--annotator", "ann"])  # again, such as with --run after all
    assert "was deleted before" in capsys.readouterr().out


def test_the_plan_is_run_on_a_new_export(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> object:
        commands.append(command)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("workbench.lineage.refit.subprocess.run", run)
    main(["forget", *words, "--record", "i0", "--run"])
    assert [command[1:3] for command in commands] == [["-m", "reward"]]
    for name in ("preferences-refit.jsonl", "preferences.jsonl"):
        assert {record.id for record in read_preferences(tmp_path / name)} == {f"i{n}" for n in range(1, 6)}
    assert "exported again" in capsys.readouterr().out
    lines = Path(words[1].removeprefix("store.url=") + ".forgotten").read_text().splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["i0"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "one thing to forget"),
        (["--annotator", "ann", "--record", "i0"], "one thing to forget"),
        (["--annotator", "anm"], "has no annotator 'anm'"),
        (["--record", "none"], "has no item"),
        (["--annotator", "lead"], "administrator"),
        (["--annotator", "ann", "--runs", "nowhere"], "no such folder"),
    ],
)
def test_mistakes_are_explained_and_delete_nothing(
    words: list[str], store: Store, options: list[str], problem: str
) -> None:
    add_account(store, "lead", "admin", PASSWORD)
    with pytest.raises(WorkbenchError, match=problem):
        main(["forget", *words, *options])
    with store.read() as transaction:
        assert {account.name for account in transaction.annotators()} == {"ann", "bea", "lead"}
        assert len(transaction.items()) == 6
