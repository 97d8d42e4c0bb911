"""The benchmarks of reward models run end to end at a toy size."""

import json

import numpy as np
import pytest

from benchmarks import reward_acquire, reward_fits, reward_labels, reward_real, reward_scoring
from tests.annotate.test_simulate import help_desk_items
from workbench.data.readers import write_records


@pytest.fixture
def items(tmp_path, monkeypatch):
    """40 items of the help desk; fits of one step on the random base."""
    monkeypatch.chdir(reward_fits.CONFIG.resolve().parents[2])
    short = ("normalise.answers=16", "normalise.max_new_tokens=4", "train.max_steps=1", "data.max_length=256")
    monkeypatch.setattr(reward_fits, "SHORT_OVERRIDES", (*reward_fits.SHORT_OVERRIDES, *short))
    write_records(tmp_path / "items.jsonl", help_desk_items(40))
    return tmp_path / "items.jsonl"


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_reward_labels_runs_at_toy_size_and_goes_on(items, sft_run, tmp_path, monkeypatch):
    pool, kept_out = reward_fits.split_items(items, heldout=10)
    monkeypatch.setattr(reward_labels, "sampled_items", lambda *_, first, **__: kept_out if first else pool)
    words = ["--start", sft_run, "--pairs", 12, "--careless-pairs", 8, "--sets", 1, "--seeds", 0]
    words += ["--runs", tmp_path / "runs", "--out", tmp_path / "r.json"]
    reward_labels.main([str(word) for word in words])
    found = content(tmp_path / "r.json")
    ways = [f"{prefix}{way}" for prefix in ("", "mostly-once-") for way in ("dawid-skene", "dawid-skene-soft")]
    arms = {"ordinal", "bradley_terry", "shuffled", "majority", "mostly-once-majority", *ways}
    assert set(found["truth_accuracy"]) == arms
    assert list(found["reliability"]) == ways
    for each in (found["strengths"], *found["reliability"].values()):
        assert each["prompts_95"][0] <= each["mean"] <= each["prompts_95"][1]
    ceiling = found["ceiling"]["0"]
    assert ceiling["below_ceiling"]["mean"] == pytest.approx(
        ceiling["noise_ceiling"]["mean"] - ceiling["accuracy"]["mean"]
    )
    assert {"claim", "commit", "hardware", "versions"} <= found.keys()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    reward_labels.main([str(word) for word in words])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert content(tmp_path / "r.json")["truth_accuracy"] == found["truth_accuracy"]


def test_reward_acquire_runs_at_toy_size(items, reward_run, tmp_path, monkeypatch):
    """Every fit stands for itself by one finished run and the pairs that it would see."""

    def written(folder, start, records, heldout, **_):
        write_records(folder.with_suffix(".jsonl"), records)
        return reward_run

    monkeypatch.setattr(reward_acquire, "fitted", written)
    words = ["--start", "unused", "--items", items, "--first", 6, "--more", 6, "--heldout", 10, "--seeds", 0]
    words += ["--strategies", "uncertainty", "--runs", tmp_path / "runs", "--out", tmp_path / "r.json"]
    reward_acquire.main([str(word) for word in words])
    found = content(tmp_path / "r.json")
    assert set(found["truth_accuracy"]) == {"random-6", "random-12", "random-24", "uncertainty"}
    first = set(reward_acquire.ids(tmp_path / "runs/seed-0/random-6.jsonl"))
    both = set(reward_acquire.ids(tmp_path / "runs/seed-0/uncertainty.jsonl"))
    assert first < both
    assert len(both) == 12


def test_scoring_is_measured_on_the_same_work(reward_run, preference_file, capsys):
    measured = {}
    for side in ("ours", "trl"):
        words = [str(reward_run), str(preference_file), "--limit", "6", "--side", side, "--batch", "3"]
        reward_scoring.main(words)
        measured[side] = [json.loads(capsys.readouterr().out.splitlines()[-1])]
    compared = reward_scoring.compare({"ours": measured["ours"], "trl, batch 3": measured["trl"]})
    assert compared["fastest_trl"] == "trl, batch 3"
    assert compared["speed_ratio"] > 0
    other = [measured["trl"][0] | {"margin": measured["trl"][0]["margin"] + 1}]
    with pytest.raises(AssertionError):
        reward_scoring.compare({"ours": measured["ours"], "trl, batch 3": other})


def test_difference_by_hand():
    # Seeds 0 and 1, four pairs of two prompts. Seed 0: +1 0 0 0 → ¼; seed 1: +1 +1 0 0 → ½; mean ⅜.
    ours = {0: np.array([1.0, 1, 0, 1]), 1: np.array([1.0, 1, 0, 1])}
    theirs = {0: np.array([0.0, 1, 0, 1]), 1: np.array([0.0, 0, 0, 1])}
    found = reward_fits.difference(ours, theirs, ["a", "a", "b", "b"])
    assert found["by_seed"] == [0.25, 0.5]
    assert found["mean"] == pytest.approx(0.375)
    # Student, one degree of freedom: 12.706 · .17678 / √2 = 1.588
    assert found["seeds_95"] == pytest.approx([0.375 - 1.5883, 0.375 + 1.5883], abs=1e-3)


def test_labels_saved_by_hand():
    # A law .9 − 2 n^(−½) through 100, 400, 1600; .85 is reached at n = 1600: 1200 more than the 400 used.
    sizes = [100, 400, 1600]
    arms = {f"random-{n}": {0: np.array([0.9 - 2 / n**0.5])} for n in sizes}
    arms |= {"better": {0: np.array([0.85])}, "worse": {0: np.array([0.78])}, "beyond": {0: np.array([0.95])}}
    assert reward_acquire.labels_saved(arms, "better", sizes) == pytest.approx(1200, abs=20)
    assert reward_acquire.labels_saved(arms, "worse", sizes) == pytest.approx(-122, abs=5)
    assert reward_acquire.labels_saved(arms, "beyond", sizes) is None


@pytest.mark.slow
def test_real_files_are_measured_beside_longer_wins(
    tiny_base, preference_file, demonstration_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(reward_fits.CONFIG.resolve().parents[2])
    words = [tiny_base, demonstration_file, preference_file, "--seeds", 0, "--runs", tmp_path / "runs"]
    words += ["--out", tmp_path / "r.json", "--max-length", 256, "--set", "train.max_steps=1"]
    reward_real.main([str(word) for word in words])
    of_file = content(tmp_path / "r.json")["files"][preference_file.stem]
    found = of_file["0"]
    assert of_file["all seeds"]["accuracy"] == found["accuracy"]
    assert set(found) == {"accuracy", "longer_wins", "difference", "pairs"}
    assert found["difference"]["mean"] == pytest.approx(found["accuracy"]["mean"] - found["longer_wins"]["mean"])
    assert found["accuracy"]["pairs"] == 8
