"""PPO refuses a reward run without a passport that passes; forced, it says so wherever the run is described."""

import json
from pathlib import Path

import pytest

from ppo.__main__ import main
from ppo.inputs import check_passports, objections
from ppo.train import train
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import file_fingerprint

ROOT = Path(__file__).parents[2]


def paper(folder, *, outcome="pass", failed=(), version=1, weights=b"weights"):
    """A reward run's files with a passport of them."""
    folder.mkdir(exist_ok=True)
    (folder / "head.safetensors").write_bytes(b"weights")
    files = {"head.safetensors": file_fingerprint(folder / "head.safetensors")["sha256"]}
    content = {"version": version, "outcome": outcome, "failed": list(failed), "files": files}
    (folder / "passport.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "head.safetensors").write_bytes(weights)
    return RunFolder(folder)


def test_a_passport_that_passes_is_enough(tmp_path):
    assert check_passports([paper(tmp_path / "a"), paper(tmp_path / "b")], force=False) == {}


@pytest.mark.parametrize(
    ("given", "objection"),
    [
        ({"outcome": "fail", "failed": ["brier", "probe/pad"]}, "check brier fails, check probe/pad fails"),
        ({"outcome": "fail"}, "its passport fails"),
        ({"version": 2}, "its passport has version 2, not 1"),
        ({"weights": b"others"}, "its passport belongs to other weights (head.safetensors)"),
    ],
)
def test_any_other_is_refused_with_its_reason(tmp_path, given, objection):
    good, bad = paper(tmp_path / "good"), paper(tmp_path / "bad", **given)
    with pytest.raises(WorkbenchError) as caught:
        check_passports([good, bad], force=False)
    assert caught.value.problem == f"PPO is refused against this reward model: {objection}"
    assert "--force" in (caught.value.remedy or "")
    (forced,) = check_passports([good, bad], force=True).items()
    assert (forced[0], ", ".join(forced[1])) == (str(bad.path), objection)


def test_a_missing_one_and_a_broken_one(tmp_path):
    (tmp_path / "none").mkdir()
    assert objections(RunFolder(tmp_path / "none")) == ["it has no passport"]
    (tmp_path / "none/passport.json").write_text("{", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="is not a passport"):
        objections(RunFolder(tmp_path / "none"))


def test_a_forced_run_says_so_in_its_record_and_its_card(ppo_config, reward_run):
    with pytest.raises(WorkbenchError, match="it has no passport"):
        train(ppo_config("model.force=false"), resume=False)
    folder = train(ppo_config("train.iterations=1", "evaluation.every=0", "checkpoint.every=0"), resume=False)
    assert folder.record()["forced"] == {str(reward_run): ["it has no passport"]}
    assert f"Forced, against the advice of its passport: `{reward_run}`" in (folder.path / "README.md").read_text()


def test_the_flag_is_the_key(capsys):
    assert main([str(ROOT / "configs/tiny/ppo.yaml"), "--force", "--dry-run"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  force:"))
    assert "true" in line
    assert "command line" in line
