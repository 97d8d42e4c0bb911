"""The whole command on small finished runs: every step is a process, the page is written, and it runs once."""

import json

import pytest
import yaml

from benchmarks.compare import main as benchmark
from workbench.__main__ import main
from workbench.run.errors import WorkbenchError

pytestmark = pytest.mark.slow


def write(path, values):
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tmp_path, sft_run, reward_run, preference_file, prompt_file, demonstration_file):
    training = {"lr": 0.01, "max_steps": 2, "batch_size": 8, "micro_batch_size": 8}
    quiet = {"wandb": "disabled", "log_every": 1}
    dpo = {
        **{"method": "dpo", "run": {"dir": "x", "threads": 1}, "model": {"start": "x"}},
        **{"data": {"train": "x", "max_length": 128}, "train": training, "tracking": quiet},
    }
    ppo = {
        "run": {"dir": "x", "threads": 1},
        "model": {"start": "x", "reward": "x", "force": True},
        "data": {"train": str(prompt_file), "heldout_share": 0.25, "max_prompt_length": 96},
        "rollout": {"batch_size": 8, "micro_batch_size": 8, "max_new_tokens": 8},
        "train": {"iterations": 1, "minibatch_size": 8, "micro_batch_size": 8},
        "evaluation": {"every": 0, "prompts": 4},
        "tracking": {"wandb": "disabled"},
    }
    compare = {
        "out": str(tmp_path / "compare"),
        "seeds": [0],
        "sft": {"use": str(sft_run)},
        "labels": {"use": str(preference_file)},
        "reward": {"use": str(reward_run)},
        "methods": [
            {"name": "ppo", "config": write(tmp_path / "ppo.yaml", ppo)},
            {"name": "dpo", "config": write(tmp_path / "dpo.yaml", dpo)},
            {"name": "best-of-2", "best_of": 2},
            {"name": "few-shot", "shots": 1},
        ],
    }
    measure = {
        "prompts": str(prompt_file),
        "demonstrations": str(demonstration_file),
        "examples": str(demonstration_file),
        "max_new_tokens": 8,
    }
    return write(tmp_path / "compare.yaml", {"compare": compare, "measure": measure})


def test_the_command(config, tmp_path, capsys):
    assert main(["compare", config]) == 0
    printed = capsys.readouterr().out
    assert "5 methods, seed 0: sft, ppo" in printed
    assert "One seed shows nothing" in printed
    out = tmp_path / "compare"
    found = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert set(found["methods"]) == {"sft", "ppo", "dpo", "best-of-2", "few-shot"}
    assert found["judge"] == "score"  # these prompts are not of the grammar that has a gold reward
    assert found["prompts"] == 16
    methods = found["methods"]
    assert methods["sft"]["kl"] is None
    assert methods["dpo"]["kl"] > 0
    assert methods["best-of-2"]["kl"] == pytest.approx(0.1931, abs=1e-3)
    assert methods["best-of-2"]["gain"] > 0  # it is picked by the score that judges here
    assert methods["best-of-2"]["frontier"][0][0] == 0
    steps = json.loads((out / "steps.json").read_text(encoding="utf-8"))
    assert len(steps) == 7
    assert all(step["peak_rss_bytes"] > 2**26 for step in steps.values())
    before = (out / "steps.json").stat().st_mtime_ns
    assert benchmark(["--config", config, "--out", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert {"commit", "hardware", "versions", "claim"} <= result.keys()
    assert result["methods"] == methods
    assert (out / "steps.json").stat().st_mtime_ns == before


def test_a_wrong_value_of_a_row_stops_before_the_first_command(config, tmp_path):
    values = yaml.safe_load((tmp_path / "compare.yaml").read_text(encoding="utf-8"))
    values["compare"]["methods"][1]["set"] = ["loss.bta=0.2"]
    write(tmp_path / "compare.yaml", values)
    with pytest.raises(WorkbenchError, match=r"did you mean loss.beta"):
        main(["compare", config])
    assert not (tmp_path / "compare").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best-of", "4", "--out", "x.json"], "needs a reward run"),
        (["--shots", "2", "--out", "x.json"], "has no examples"),
        (["--examples", "x"], "are not shown"),
        (["--picked-by", "x"], "picks from one answer"),
        (["--shots", "2", "--examples", "x"], "is missing"),
    ],
)
def test_options_of_evaluate_that_do_not_fit(words, said, sft_run, prompt_file):
    with pytest.raises(WorkbenchError, match=said):
        main(["evaluate", str(sft_run), "--prompts", str(prompt_file), *words])
