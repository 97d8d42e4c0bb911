"""The commands of a comparison: in order, with the right paths, and problems said at once."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import load_phase
from workbench.compare.config import CompareConfig
from workbench.compare.plan import Shared, check_compare_inputs, plan
from workbench.run.config import load_config
from workbench.run.errors import Problems, WorkbenchError

TINY = Path("configs/tiny/compare.yaml")


def parts(steps, seed=0):
    return [step.part for step in steps if step.number == seed]


def words(steps, part, seed=0):
    return next(step for step in steps if (step.number, step.part) == (seed, part)).words


def test_the_shipped_comparison():
    config, _ = load_config(CompareConfig, TINY)
    steps = plan(config)
    assert parts(steps)[:6] == ["sft", "labels-1", "labels-2", "labels-3", "reward", "measure sft"]
    assert parts(steps)[6:8] == ["train ppo", "measure ppo"]
    assert parts(steps, 0) == parts(steps, 1) == parts(steps, 2)
    assert len({step.name for step in steps}) == len(steps)
    assert len(config.compare.methods) + 1 >= 10
    assert check_compare_inputs(config, problems := Problems())
    assert not problems.errors


def test_every_method_starts_from_the_same_run_and_reads_the_same_labels():
    config, _ = load_config(CompareConfig, TINY)
    steps = plan(config)
    trained = [step for step in steps if step.part.startswith("train ") and step.number == 1]
    assert len(trained) >= 8
    for step in trained:
        assert "model.start=runs/compare/seed-1/sft" in step.words
        assert "run.seed=1" in step.words
        reads = {word.split("=")[0] for word in step.words}
        if "configs/tiny/ppo.yaml" in step.words:
            assert "model.reward=runs/compare/seed-1/reward" in step.words
            assert "data.train" not in reads
        else:
            assert "data.train=runs/compare/seed-1/annotate/preferences.jsonl" in step.words
            assert "model.reward" not in reads
        assert "rollout.batch_size" not in reads  # one sampling budget
    assert "data.train=runs/compare/seed-1/annotate/preferences.jsonl" in words(steps, "reward", 1)
    assert "pairs.seed=2" in words(steps, "labels-1", 1)


def test_measurements_differ_in_the_method_alone():
    steps = plan(load_config(CompareConfig, TINY)[0])
    assert "--out" not in words(steps, "measure sft")  # its own evaluation.json, where the others find its answers
    best = words(steps, "measure best-of-8")
    assert best[2] == "runs/compare/seed-0/sft"
    assert best[-4:] == ("--best-of", "8", "--picked-by", "runs/compare/seed-0/reward")
    assert words(steps, "measure few-shot")[-4:] == ("--shots", "2", "--examples", "tiny:demonstrations")
    common = [set(step.words[3:]) for step in steps if step.part.startswith("measure ") and step.number == 0]
    assert {"--samples", "2", "--max-new-tokens", "64", "--seed", "0"} <= set.intersection(*common)


def test_finished_runs_and_files_are_shared_by_all_seeds(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["compare"] |= {name: {"use": str(tmp_path / name)} for name in ("sft", "labels", "reward")}
    config = load_phase(CompareConfig, tmp_path / "compare.yaml", values)
    steps = plan(config)
    assert parts(steps)[0] == "measure sft"
    assert f"data.train={tmp_path / 'labels'}" in words(steps, "train dpo", 2)
    shared = [Shared.of(config, seed) for seed in (0, 1)]
    assert shared[0].sft == shared[1].sft == tmp_path / "sft"
    assert shared[0].evaluation("sft") != shared[1].evaluation("sft")
    assert "--out" in words(steps, "measure sft")
    check_compare_inputs(config, problems := Problems())
    assert [error.place for error in problems.errors] == [
        "compare.sft.use",
        str(tmp_path / "labels"),
        "compare.reward.use",
    ]
    assert all("no such" in str(error) for error in problems.errors)


def test_runs_and_files_are_checked_before_anything_runs(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.jsonl").write_text("\n", encoding="utf-8")
    empty = str(tmp_path / "empty")
    values["compare"] |= {"sft": {"use": empty}, "reward": {"use": empty, "set": ["train.lr=1.0"]}}
    values["compare"] |= {"labels": {"use": str(tmp_path / "labels.jsonl")}}
    values["measure"] |= {"prompts": "none.jsonl", "examples": "few.jsonl", "judge": "runs/none"}
    check_compare_inputs(load_phase(CompareConfig, tmp_path / "compare.yaml", values), problems := Problems())
    said = "\n".join(map(str, problems.errors))
    assert said.count(f"{empty}: no run here") == 1
    for words in (
        "compare.reward.set: sets train.lr=1.0, but",
        "labels.jsonl: it is empty",
        "none.jsonl: no such file",
        "few.jsonl: no such file",
        "runs/none: no run here",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "is empty"),
        ([{"name": "again"}], "is sft itself"),
        ([{"name": "x", "config": "configs/tiny/none.yaml"}], "no such configuration file"),
        ([{"name": "x", "best_of": 2, "set": ["train.lr=1"]}], "sets values without a config"),
        ([{"name": "x", "config": "configs/tiny/dpo.yaml", "set": ["beta"]}], "not an override"),
        (
            [{"name": "x", "config": "configs/tiny/dpo.yaml", "set": ["run.seed=5"]}],
            "train x: set: 'run.seed=5' would have no effect: the command is also given 'run.seed=0'",
        ),
        (
            [{"name": "x", "config": "configs/tiny/dpo.yaml", "set": ["run={seed: 5, overwrite: true}"]}],
            "the command is also given 'run.seed=0'",
        ),
    ],
)
def test_problems_of_rows_are_said_before_anything_runs(tmp_path, rows, said):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["compare"]["methods"] = rows
    check_compare_inputs(load_phase(CompareConfig, tmp_path / "compare.yaml", values), problems := Problems())
    assert any(said in str(error) for error in problems.errors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": [{"name": "sft", "shots": 1}]}, "two methods have the name 'sft'"),
        ({"methods": [{"name": "reward", "shots": 1}]}, "may not be called 'reward'"),
        ({"methods": [{"name": "..", "shots": 1}]}, r"may not be called '\.\.'"),
        ({"seeds": [1, 1]}, "a seed occurs twice"),
        ({"methods": [{"name": "a b"}]}, "compare.methods.name"),
    ],
)
def test_values_that_no_comparison_has(tmp_path, change, said):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["compare"] |= change
    with pytest.raises(WorkbenchError, match=said):
        load_phase(CompareConfig, tmp_path / "compare.yaml", values)
