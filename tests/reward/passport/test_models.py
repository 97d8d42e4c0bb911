"""Really fitted sound and faulty reward models: each fault fails the check made for it, and PPO refuses the model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ppo.config import PpoConfig
from ppo.train import train as run_ppo
from reward.__main__ import main
from reward.config import PassportSection
from reward.inputs import check_passport
from tests.conftest import load_phase, write_jsonl
from tests.ppo.conftest import ppo_values
from tests.reward.passport.conftest import Fit, leaked_pairs, longer_pairs, sound_pairs
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

WRONG = "probe/wrong_fact"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sound(fit: Fit) -> RunFolder:
    return fit("sound", sound_pairs(450))


def outcomes(folder: RunFolder) -> dict[str, str]:
    passport = json.loads((folder.path / "passport.json").read_text(encoding="utf-8"))
    return {check["name"]: check["outcome"] for check in passport["checks"]}


def refused(folder: RunFolder, tmp_path: Path, sft_run: Path, prompt_file: Path) -> str:
    values = ppo_values(tmp_path / "ppo", sft_run, folder.path, prompt_file)
    values["model"]["force"] = False
    with pytest.raises(WorkbenchError) as caught:
        run_ppo(load_phase(PpoConfig, tmp_path / "ppo.yaml", values), resume=False)
    assert not (tmp_path / "ppo").exists(), "nothing was started"
    return caught.value.problem


def test_a_sound_model_passes_and_ppo_takes_it(sound, tmp_path, sft_run, prompt_file):
    found = outcomes(sound)
    assert "fail" not in found.values()
    assert found["accuracy"] == found["length_correlation"] == found["one_word"] == found["reload"] == "pass"
    values = ppo_values(tmp_path / "ppo", sft_run, sound.path, prompt_file)
    values["model"]["force"] = False
    values["train"]["iterations"] = 1
    finished = run_ppo(load_phase(PpoConfig, tmp_path / "ppo.yaml", values), resume=False)
    assert "forced" not in finished.record()


def test_a_model_that_pays_for_length_fails_by_length(fit, tmp_path, sft_run, prompt_file):
    biased = fit("longer", longer_pairs(220))
    found = outcomes(biased)
    assert found["accuracy"] == "pass", "its labels are as biased as it is"
    assert found["length_correlation"] == "fail"
    assert found["probe/pad"] == "fail"
    assert "length_correlation" in refused(biased, tmp_path, sft_run, prompt_file)


def test_a_model_that_reads_a_leaked_word_fails_by_the_word(fit, tmp_path, sft_run, prompt_file):
    leaky = fit("leaked", leaked_pairs(200))
    found = outcomes(leaky)
    assert (found["accuracy"], found["one_word"]) == ("pass", "fail")
    words = json.loads((leaky.path / "passport.json").read_text(encoding="utf-8"))["findings"]["words"]
    assert {word["word"] for word in words} >= {"zq", "xj"}
    assert "one_word" in refused(leaky, tmp_path, sft_run, prompt_file)


def test_a_lost_head_fails_by_its_recorded_scores(sound, tmp_path, sft_run, prompt_file, capsys):
    lost = RunFolder(shutil.copytree(sound.path, tmp_path / "lost"))
    tensors = load_file(lost.head_path)
    tensors["weight"] = torch.randn(64, generator=torch.Generator().manual_seed(0)) / 8
    save_file(tensors, lost.head_path)
    assert "other weights (head.safetensors)" in refused(lost, tmp_path, sft_run, prompt_file), "the old passport"
    assert main(["passport", str(lost.path)]) == 1
    found = outcomes(lost)
    assert (found["reload"], found["head"]) == ("fail", "fail")
    assert found["padding"] == "pass"
    assert "fail: " in capsys.readouterr().out
    assert "check reload fails" in refused(lost, tmp_path, sft_run, prompt_file)


def test_known_facts_are_read_by_the_examination_and_not_by_the_fit(fit, tmp_path):
    facts = write_jsonl(tmp_path / "facts.jsonl", [{"right": "is safe with us.", "wrong": "is lost with us."}])
    rows = sound_pairs(100)
    told = fit("told", rows, f"passport.facts={facts}", "train.epochs=1.0")
    untold = fit("untold", rows, "train.epochs=1.0")
    weights = [load_file(run.adapter / "adapter_model.safetensors") for run in (told, untold)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    counts = [
        next(c["count"] for c in json.loads((run.path / "passport.json").read_text())["checks"] if c["name"] == WRONG)
        for run in (told, untold)
    ]
    assert counts[0] > 0 == counts[1]


def test_a_missing_file_of_facts_is_found_before_the_fit(fit):
    with pytest.raises(WorkbenchError, match="no such file"):
        fit("none", sound_pairs(40), "passport.facts=nowhere.jsonl")


def test_limits_from_the_command_line_are_on_the_record(sound, tmp_path):
    copy = RunFolder(shutil.copytree(sound.path, tmp_path / "strict"))
    assert main(["passport", str(copy.path), "passport.accuracy=0.999", "passport.samples=0"]) == 1
    passport = json.loads((copy.path / "passport.json").read_text(encoding="utf-8"))
    assert passport["failed"] == ["accuracy"]
    assert (passport["limits"]["accuracy"], passport["origins"]["accuracy"]) == (0.999, "command line")
    assert passport["origins"]["brier"] == "default"
    assert passport["findings"]["samples"] is None


def test_the_start_run_is_sampled_and_judged(sound, fit, tmp_path):
    first = json.loads((sound.path / "passport.json").read_text(encoding="utf-8"))["findings"]["samples"]
    assert (first["prompts"], first["answers"], first["judge_slope"]) == (6, 16, None)
    assert 0 < first["teaches"]["mean"] <= 1
    assert first["own_slope"]["low"] > 0
    judge = fit("judge", sound_pairs(60, seed=9), "train.epochs=1.0", "passport.at_end=false")
    copy = RunFolder(shutil.copytree(sound.path, tmp_path / "judged"))
    main(["passport", str(copy.path), f"passport.judge={judge.path}"])
    passport = json.loads((copy.path / "passport.json").read_text(encoding="utf-8"))
    second = passport["findings"]["samples"]
    assert second["teaches"] == first["teaches"], "the same samples"
    assert second["judge_slope"]["count"] == 6
    (judged,) = (check for check in passport["checks"] if check["name"] == "best_of")
    assert (judged["value"], judged["count"]) == (second["judge_slope"]["mean"], 6)
    assert "best of 16, judge" in (copy.path / "passport.html").read_text(encoding="utf-8")
    main(["passport", str(copy.path), f"passport.judge={judge.path}", "passport.accuracy=0.999", "passport.fewest=6"])
    passport = json.loads((copy.path / "passport.json").read_text(encoding="utf-8"))
    assert passport["failed"] == ["best_of"], "a judge of 48 pairs proves nothing on six prompts"
    assert passport["warnings"] == ["accuracy"]
    assert "(accuracy" in (copy.path / "passport.html").read_text(encoding="utf-8")
    with pytest.raises(WorkbenchError, match="was fitted on the same labels"):
        check_passport(str(copy.path), None, PassportSection(judge=str(sound.path)))
