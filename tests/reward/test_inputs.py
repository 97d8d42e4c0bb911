"""A judge of the passport that would have no effect is refused, before a model library is loaded."""

import json
import shutil

import pytest

from reward.__main__ import main
from reward.inputs import read_facts
from tests.conftest import reward_values, write_jsonl
from workbench.run.config import read_values
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

NO_EFFECT = "has no effect: with passport.samples=0 there are no answers to judge"
GONE = "its start run runs/gone is not here"


@pytest.fixture
def words(tmp_path, sft_run, reward_run, preference_file):
    """A fit on other labels than those of `reward_run`, which is its judge."""
    rows = [json.loads(line) for line in preference_file.read_text(encoding="utf-8").splitlines()]
    labels = write_jsonl(tmp_path / "labels.jsonl", [row | {"id": f"other {row['id']}"} for row in rows])
    values = reward_values(tmp_path / "reward", sft_run, labels)
    (tmp_path / "reward.yaml").write_text(json.dumps(values))
    return [str(tmp_path / "reward.yaml"), f"passport.judge={reward_run}"]


def test_a_judge_without_samples_is_refused(words, capsys, tmp_path, reward_run):
    with pytest.raises(WorkbenchError, match=NO_EFFECT) as caught:
        main([*words, "passport.samples=0"])
    assert (caught.value.place, str(reward_run) in caught.value.problem) == ("passport.judge", True)
    assert not (tmp_path / "reward").exists()
    assert main([*words, "passport.samples=0", "--dry-run"]) in (None, 0)
    assert NO_EFFECT in capsys.readouterr().out
    for remedy in caught.value.remedy.split(", or "):
        main([*words, "passport.samples=0", remedy, "--dry-run"])
        assert "problem" not in capsys.readouterr().out


@pytest.fixture
def orphan(tmp_path, reward_run):
    """A reward run whose start run is gone, and a run on other labels that may judge."""
    for name in ("orphan", "judge"):
        shutil.copytree(reward_run, tmp_path / name)
    RunFolder(tmp_path / "orphan").update_record(parents={"start": "runs/gone"}, parents_at={})
    judge = RunFolder(tmp_path / "judge")
    judge.update_record(data={"train": judge.record()["data"]["train"] | {"sha256": "of other labels"}})
    return tmp_path / "orphan"


def test_a_finished_run_is_not_judged_without_samples_or_its_start_run(orphan, tmp_path, reward_run, capsys):
    judged = f"passport.judge={tmp_path / 'judge'}"
    with pytest.raises(WorkbenchError, match=NO_EFFECT):
        main(["passport", str(reward_run), judged, "passport.samples=0"])
    with pytest.raises(WorkbenchError, match=f"would judge answers of the start run of .*, but {GONE}") as caught:
        main(["passport", str(orphan), judged])
    assert caught.value.place == "passport.judge"
    assert main(["passport", str(orphan), judged, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"but {GONE}" in said
    (tmp_path / "limits.yaml").write_text(said)
    assert read_values(tmp_path / "limits.yaml")["samples"] == 32, "the problems are comments"


@pytest.mark.slow
def test_without_a_judge_the_passport_says_that_the_start_run_is_gone(orphan, capsys):
    assert main(["passport", str(orphan), "passport.answers=8"]) in (0, 1)
    assert f"; the start run was not sampled: {GONE}" in capsys.readouterr().out
    assert f"the start run was not sampled: {GONE}." in (orphan / "passport.html").read_text(encoding="utf-8")
    assert json.loads((orphan / "passport.json").read_text(encoding="utf-8"))["facts"]["not_sampled"] == GONE


def test_a_fact_may_hold_a_line_separator(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text('{"right": "a\u2028b", "wrong": "c\u0085d"}\n', encoding="utf-8")
    assert read_facts(path) == {"a\u2028b": "c\u0085d"}
