"""The learning curve of small fits: nested subsets, one held-out set, no fit repeated after a restart."""

import json
import os
import signal

import pytest

import reward.verbs.curve as curves
from reward.__main__ import main
from tests.conftest import load_phase, reward_values
from workbench.data.readers import read_preferences
from workbench.run.command_line import run_main
from workbench.run.errors import WorkbenchError


@pytest.fixture
def config(tmp_path, sft_run, preference_file):
    """The path of a small configuration."""
    from reward.config import RewardConfig

    values = reward_values(tmp_path / "unused", sft_run, preference_file)
    values["train"]["max_steps"] = 1
    values["normalise"]["answers"] = 16
    load_phase(RewardConfig, tmp_path / "reward.yaml", values)
    return tmp_path / "reward.yaml"


@pytest.mark.slow
def test_a_curve_that_is_interrupted_goes_on(config, tmp_path, monkeypatch, capsys):
    """Two fits are real, before and after the interruption; the others are replaced by a number."""
    out, real, fits = tmp_path / "curve", curves._fit, []

    def interrupted(*arguments):
        if len(fits) == 2:
            raise KeyboardInterrupt
        fits.append(real(*arguments))
        return fits[-1]

    def gone_on_with(*arguments):
        subset = arguments[2]
        if subset.with_suffix("").is_dir():
            return real(*arguments)
        return {"accuracy": 0.9 - 2 / int(subset.stem.removeprefix("pairs-")), "ece": 0.0, "loss": 0.0}

    words = ["curve", str(config), "--out", str(out), "--sizes", "4,8,16", "--seeds", "0,1,2", "--more", "120"]
    monkeypatch.setattr(curves, "_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    finished = sorted(path.parent.name for path in out.glob("seed-*/*/run.json"))
    assert finished == ["pairs-4", "pairs-8"]
    before = (out / "seed-0/pairs-4/head.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(curves, "_fit", gone_on_with)
    assert main(words) == 0
    assert (out / "seed-0/pairs-4/head.safetensors").stat().st_mtime_ns == before, "a finished fit is not repeated"
    assert "120 more pairs: " in capsys.readouterr().out.splitlines()[-1]

    content = json.loads((out / "curve.json").read_text(encoding="utf-8"))
    assert [(p["seed"], p["pairs"]) for p in content["points"]] == [(s, n) for s in (0, 1, 2) for n in (4, 8, 16)]
    assert content["points"][:2] == [{"seed": 0, "pairs": n, **fit} for n, fit in zip((4, 8), fits, strict=True)]
    assert content["heldout_pairs"] == 8
    assert content["forecast"]["low"] <= content["forecast"]["high"]
    page = (out / "curve.html").read_text(encoding="utf-8")
    assert content["sentence"] in page
    assert "<svg" in page

    kept = {record.group for record in read_preferences(out / "heldout.jsonl")}
    for seed in (0, 1, 2):
        ids = [[r.id for r in read_preferences(out / f"seed-{seed}/pairs-{n}.jsonl")] for n in (4, 8, 16)]
        assert ids[0] == ids[1][:4]
        assert ids[1] == ids[2][:8]
        assert not kept & {r.group for r in read_preferences(out / f"seed-{seed}/pairs-16.jsonl")}


FIT = {"accuracy": 0.7, "ece": 0.0, "loss": 0.0}
SIZES = ("--sizes", "4,8,16", "--seeds", "0,1,2")


def test_other_labels_of_as_many_pairs_are_refused(config, tmp_path, preference_file, monkeypatch):
    monkeypatch.setattr(curves, "_fit", lambda *_: {**FIT})
    labels = tmp_path / "labels.jsonl"
    labels.write_bytes(preference_file.read_bytes())
    words = ["curve", str(config), f"data.train={labels}", "--out", str(tmp_path / "curve"), *SIZES]
    assert main(words) == 0
    assert main(words) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "curve").rglob("*") if path.is_file()}
    labels.write_text(labels.read_text().replace("No idea", "Nothing"))
    with pytest.raises(WorkbenchError, match=r"holds other pairs than this curve needs(.|\n)*--out another folder"):
        main(words)
    assert {path: path.read_bytes() for path in before} == before


def test_an_interruption_says_how_to_go_on(config, tmp_path, monkeypatch, capsys):
    def terminated(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(curves, "_fit", terminated)
    with pytest.raises(SystemExit) as ended:
        run_main(main, ["curve", str(config), "--out", str(tmp_path / "curve"), *SIZES])
    assert ended.value.code == 128 + signal.SIGTERM
    assert "terminated: start the same command again: 0 of 9 fits are finished" in capsys.readouterr().err


def test_groups_stay_together_in_an_order_of_the_seed(preference_file):
    records = read_preferences(preference_file)
    twice = [record.model_copy(update={"id": f"{record.id}-{k}"}) for record in records for k in (0, 1)]
    ordered = curves.in_random_order(twice, 3)
    assert sorted(r.id for r in ordered) == sorted(r.id for r in twice)
    assert all(a.group == b.group for a, b in zip(ordered[::2], ordered[1::2], strict=True))
    assert ordered == curves.in_random_order(twice, 3)
    assert ordered != curves.in_random_order(twice, 4)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--seeds", "0,1"], "names 2"),
        (["--seeds", "a,b,c"], "not a list of integers"),
        (["--sizes", "4,8"], r"\[4, 8\]"),
        (["--sizes", "4,8,17"], "17 pairs"),
    ],
)
def test_bad_options_say_so(config, tmp_path, options, problem):
    with pytest.raises(WorkbenchError, match=problem):
        main(["curve", str(config), "--out", str(tmp_path / "curve"), *options])


def test_the_default_sizes_are_halvings():
    assert curves._sizes(None, 4000) == [250, 500, 1000, 2000, 4000]
