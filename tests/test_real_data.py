"""The three phases on real material by overrides alone: a real Llama, real instructions, human preferences."""

import json
from pathlib import Path
from typing import get_args

import pytest

from ppo.__main__ import main as ppo
from ppo.config import Contrastive
from reward.__main__ import main as reward
from sft.__main__ import main as sft
from workbench.__main__ import main as workbench
from workbench.data.readers import read_preferences
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
DATA = (ROOT / "../shared/data").resolve()
CONFIGS = ROOT / "configs/tiny"
BASE = DATA / "models/stories260K"
QUIET = ["tracking.wandb=disabled", "run.threads=1"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BASE.is_dir(), reason="no real material beside the project")]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real") / "sft"
    words = [f"model.base={BASE}", f"data.train={DATA / 'instructions/alpaca_1k.jsonl'}", "data.validation=null"]
    small = ["data.max_length=256", "train.max_steps=4", "sample.max_new_tokens=16", f"run.dir={folder}"]
    assert sft([str(CONFIGS / "sft.yaml"), *words, *small, *QUIET]) == 0
    return folder


@pytest.mark.parametrize("pairs", ["llmbar", "oasst_en_100"])
def test_sft_reward_and_ppo_run_to_the_end_on_real_files(tuned, tmp_path, pairs):
    small = ["data.max_length=256", "train.max_steps=2", "normalise.answers=16", "normalise.max_new_tokens=16"]
    words = [
        f"model.start={tuned}",
        f"data.train={DATA / 'pairs' / f'{pairs}.jsonl'}",
        f"run.dir={tmp_path / 'reward'}",
    ]
    assert reward([str(CONFIGS / "reward.yaml"), *words, *small, *QUIET]) == 0
    assert json.loads((tmp_path / "reward/passport.json").read_text())["outcome"] == "fail", "after two steps"
    measured = RunFolder.open(tmp_path / "reward").read_metrics()[-1]
    assert 0 <= measured["heldout/accuracy"] <= 1

    prompts = DATA / "instructions/self_instruct_seed_175.jsonl"
    words = [
        f"model.start={tuned}",
        f"model.reward={tmp_path / 'reward'}",
        f"data.train={prompts}",
        "data.heldout=null",
    ]
    small = ["data.max_prompt_length=128", "rollout.batch_size=8", "rollout.max_new_tokens=16", "train.iterations=2"]
    small += [
        "train.minibatch_size=8",
        "train.micro_batch_size=4",
        "train.value_only_iterations=0",
        "evaluation.prompts=4",
    ]
    command = [str(CONFIGS / "ppo.yaml"), *words, *small, f"run.dir={tmp_path / 'ppo'}", *QUIET]
    with pytest.raises(WorkbenchError, match="PPO is refused"):
        ppo(command)
    assert ppo([*command, "--force"]) == 0
    assert "check accuracy fails" in RunFolder.open(tmp_path / "ppo").record()["forced"][str(tmp_path / "reward")]
    assert RunFolder.open(tmp_path / "ppo").finished
    assert (tmp_path / "ppo/adapter/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("method", get_args(Contrastive))
def test_every_contrastive_method_runs_to_its_end_on_real_pairs(tuned, tmp_path, method):
    words = [f"method={method}", f"model.start={tuned}", f"data.train={DATA / 'pairs/llmbar.jsonl'}", "data.limit=60"]
    small = ["data.max_length=256", "train.batch_size=8", "train.micro_batch_size=8", "loss.label_smoothing=0"]
    likely = "loss.sft_coef=0" if method == "kto" else "loss.sft_coef=1"
    watched = [likely, "evaluation.every=4", "evaluation.prompts=4", "evaluation.max_new_tokens=16"]
    run = RunFolder(tmp_path / method)
    assert ppo([str(CONFIGS / "dpo.yaml"), *words, *small, *watched, f"run.dir={run.path}", *QUIET]) == 0
    assert run.finished
    rows = run.read_metrics()
    assert (
        0 <= rows[-1]["heldout/accuracy_low"] <= rows[-1]["heldout/accuracy"] <= rows[-1]["heldout/accuracy_high"] <= 1
    )
    assert rows[-1]["heldout/pairs"] > 10
    assert next(row["heldout/kl"] for row in rows if "heldout/kl" in row) == pytest.approx(0, abs=1e-3)


def test_public_pairs_are_told_apart_by_category():
    categories = {record.category for record in read_preferences(DATA / "pairs/llmbar.jsonl")}
    assert len(categories) > 3, "its subsets, not its one source"
    assert {record.category for record in read_preferences(DATA / "pairs/pandalm_majority.jsonl")} == {"pandalm"}


def test_a_public_file_is_evaluated_by_category(tuned, tmp_path, capsys):
    """`workbench evaluate` on the shortest pairs of a public file: a line for each of its subsets."""
    lines = sorted((DATA / "pairs/llmbar.jsonl").read_text(encoding="utf-8").splitlines(), key=len)
    rows = [(line, json.loads(line)) for line in lines]
    lines = [line for line, row in rows if row["chosen"].strip() != row["rejected"].strip()][:80]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    small = ["data.max_length=512", "train.max_steps=1", "normalise.answers=16", "normalise.max_new_tokens=16"]
    words = [f"model.start={tuned}", f"data.train={file}", f"run.dir={tmp_path / 'reward'}", "passport.at_end=false"]
    assert reward([str(CONFIGS / "reward.yaml"), *words, *small, *QUIET]) == 0
    capsys.readouterr()
    assert workbench(["evaluate", str(tmp_path / "reward"), "--preferences", str(file), "--batch-size", "16"]) == 0
    said = capsys.readouterr().out
    categories = {record.category for record in read_preferences(file)}
    assert len(categories) > 1
    assert all(f"  {name}: accuracy " in said for name in categories)
    assert "longer_wins" in said
