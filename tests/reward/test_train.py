"""Reward modelling end to end on the random base: learning and its negative control, normalisation, resuming."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import reward.train as phase
from reward.config import RewardConfig
from reward.evaluate import check_same_scores
from reward.trainer import ComparisonTrainer
from reward.verbs.score import score_file
from tests.conftest import load_phase, reward_values
from tests.reference.tolerances import SHAPES
from workbench.evaluate.run_models import evaluate_reward_run
from workbench.model.cpu.dense import Dense
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.model.rows import PASS_TOKENS
from workbench.model.score import score_rows
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@pytest.fixture
def configure(tmp_path, sft_run, preference_file):
    """Makes a configuration with a run folder of its own, with overrides."""
    number = itertools.count()

    def _configure(*overrides):
        n = next(number)
        values = reward_values(tmp_path / f"run-{n}", sft_run, preference_file)
        return load_phase(RewardConfig, tmp_path / f"{n}.yaml", values, *overrides)

    return _configure


def state(folder):
    return {**load_file(folder.adapter / "adapter_model.safetensors"), **load_file(folder.head_path)}


def final(folder):
    return folder.read_metrics()[-1]


def test_a_finished_run_has_all_its_files(reward_run, sft_run):
    folder = RunFolder.open(reward_run, phase="reward").require_finished()
    record = folder.record()
    assert record["parents"] == {"start": str(sft_run)}
    assert record["base"] == RunFolder(sft_run).record()["base"]
    assert record["pairs"] == {"train": 16, "heldout": 8, "ties": 0, "too_long": 0, "cut": 0}
    assert folder.head_path.is_file()
    assert "AutoModelForSequenceClassification" in (folder.path / "README.md").read_text()
    assert {"heldout/accuracy", "heldout/ece", "heldout/loss", "normalise/raw_std"} <= final(folder).keys()


@pytest.mark.slow
def test_separable_pairs_are_learned_and_shuffled_labels_are_not(configure):
    more = ("train.max_steps=12", "train.epochs=12.0", "train.lr=0.02")
    learned = final(phase.train(configure(*more), resume=False))
    assert learned["heldout/accuracy"] == 1.0
    assert learned["heldout/loss"] < 0.3
    control = final(phase.train(configure(*more, "data.shuffle_labels=true"), resume=False))
    assert control["heldout/loss"] > 2 * learned["heldout/loss"]
    assert abs(control["heldout/margin"]) < 0.5 * learned["heldout/margin"]


def test_normalised_scores_have_mean_0_and_deviation_1_over_answers_of_the_start_run(reward_run, sft_run, tmp_path):
    folder = RunFolder(reward_run)
    roles = open_runs({"start": sft_run, "reward": reward_run})
    tokenizer = roles.tokenizer
    config = load_phase(
        RewardConfig, tmp_path / "again.yaml", reward_values(reward_run, sft_run, preferences_of(folder))
    )
    data = phase.load_data(tokenizer, {"train": preferences_of(folder)}, config.data, config.loss, seed=0)
    rows = phase.answer_rows(config, roles, phase._normalising_prompts(config, roles.tokenizer, data))
    assert len(rows) >= 32
    scores = score_rows(roles, "reward", rows, batch_size=32)
    assert scores.mean().item() == pytest.approx(0, abs=1e-3)
    assert scores.std().item() == pytest.approx(1, abs=1e-3)
    metrics = final(folder)
    head = roles.heads["reward"]
    assert float(head.gain) == pytest.approx(1 / metrics["normalise/raw_std"])
    assert float(head.offset) == pytest.approx(-metrics["normalise/raw_mean"] / metrics["normalise/raw_std"])
    # The held-out loss uses raw scores, whose probabilities training fitted.
    chosen, rejected = (
        score_rows(roles, "reward", [row[side] for row in data.heldout], batch_size=8)
        for side in ("chosen_ids", "rejected_ids")
    )
    raw = (chosen - rejected).double() / head.gain.double()
    assert metrics["heldout/loss"] == pytest.approx(float(-torch.nn.functional.logsigmoid(raw).mean()), rel=1e-4)
    assert metrics["heldout/accuracy"] == float((raw > 0).double().mean())


def preferences_of(folder):
    return Path(folder.record()["data"]["train"]["path"])


def test_the_probe_is_of_held_out_rows_with_normalised_scores(reward_run, sft_run):
    roles = open_runs({"start": sft_run, "reward": reward_run}, check_probes=False)
    _, probe = load_head(reward_run / "head.safetensors")
    assert len(probe.ids) == 2 * 8
    rows = [ids[real].tolist() for ids, real in zip(probe.ids, probe.mask, strict=True)]
    assert all(row[-1] == roles.tokenizer.eos_token_id for row in rows)
    torch.testing.assert_close(score_rows(roles, "reward", rows, batch_size=3), probe.scores, **SHAPES)


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that the phase makes, with copies of their parameters before the first step."""
    seen = []

    class Watched(ComparisonTrainer):
        def train(self, *arguments, **options):
            self.before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
            seen.append(self)
            return super().train(*arguments, **options)

    monkeypatch.setattr(phase, "ComparisonTrainer", Watched)
    return seen


def test_only_the_adapter_and_the_score_head_move(configure, trainers, sft_run):
    phase.train(configure("loss.head_first=false"), resume=False)
    (trainer,) = trainers
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, trainer.before[n])}
    expected = {n for n in trainer.before if "lora_" in n or n.endswith("score.modules_to_save.default.weight")}
    assert moved == expected  # one level of strength and no ties: no thresholds are fitted
    assert len(expected) == 2 * 2 * 7 + 1
    # The head starts with standard deviation 1/√(64 + 1) = .124; the adapter starts as the sft run's, not as a new one.
    head = trainer.before["base_model.model.score.modules_to_save.default.weight"]
    assert 0.09 < head.std().item() < 0.16
    start = load_file(RunFolder(sft_run).adapter / "adapter_model.safetensors")
    for name, tensor in start.items():
        assert torch.equal(trainer.before[name.replace(".weight", ".default.weight")], tensor), name


@pytest.mark.slow
def test_the_head_is_fitted_on_the_start_adapters_states_first(configure, trainers):
    name = "base_model.model.score.modules_to_save.default.weight"
    for override in ("loss.head_first=false", "loss.head_first=true"):
        phase.train(configure("train.max_steps=1", override), resume=False)
    random, fitted = (trainer.before for trainer in trainers)
    assert {key for key in fitted if not torch.equal(random[key], fitted[key])} == {name}


def test_adapter_and_head_are_trained_in_float32(configure, trainers):
    phase.train(configure("train.max_steps=1"), resume=False)
    trained = {p.dtype for p in trainers[0].model.parameters() if p.requires_grad}
    assert trained == {torch.float32}
    assert {p.dtype for n, p in trainers[0].model.named_parameters() if "score" in n} == {torch.float32}


def test_logged_loss_is_bradley_terry_at_the_end_token(configure, trainers):
    """The first loss, from the causal model's states at EOS and the head's weight before the first step."""
    config = configure("train.max_steps=1", "train.batch_size=16", "train.micro_batch_size=16")
    folder = phase.train(config, resume=False)
    (trainer,) = trainers
    weight = trainer.before["base_model.model.score.modules_to_save.default.weight"]
    roles = open_runs({"start": config.model.start})
    gaps = []
    for row in trainer.train_dataset:
        with roles.use("start") as forward:
            ids = [torch.tensor([row["ids"][row[side][0]]]) for side in ("chosen", "rejected")]
            last = [forward(x, torch.ones_like(x).bool())[0, -1] for x in ids]
        gaps.append(float((last[0] - last[1]).double() @ weight[0].double()))
    expected = float(-torch.nn.functional.logsigmoid(torch.tensor(gaps)).mean())
    logged = next(row["reward/loss"] for row in folder.read_metrics() if "reward/loss" in row)
    assert logged == pytest.approx(expected, rel=1e-4)


class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(configure, monkeypatch, kernels):
    steps = ("train.max_steps=4", "checkpoint.every=2", kernels)
    whole = phase.train(configure(*steps), resume=False)
    config = configure(*steps)

    class Killed(ComparisonTrainer):
        def __init__(self, **options):
            super().__init__(**options)
            self.add_callback(Kill())

    with monkeypatch.context() as patch:
        patch.setattr(phase, "ComparisonTrainer", Killed)
        with pytest.raises(KeyboardInterrupt):
            phase.train(config, resume=False)
    assert checkpoint_steps(whole.path.parent / config.run.dir / "checkpoints") == [2]

    resumed = phase.train(config, resume=True)
    first, second = state(whole), state(resumed)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name
    since_start = {"seconds", "reward/tokens"}  # the trainer counts tokens from 0 after a resume
    for a, b in zip(whole.read_metrics(), resumed.read_metrics(), strict=True):
        assert {k: v for k, v in a.items() if k not in since_start} == {
            k: v for k, v in b.items() if k not in since_start
        }


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 0.01)])
def test_a_dropped_head_is_noticed_when_the_run_ends(dtype, rounding):
    """The limit follows the dtype of the pass: the scores themselves are always float32."""
    scores = torch.tensor([0.5, -1.0, 2.0])
    check_same_scores(scores, scores + rounding, dtype=dtype, place="run")
    for other in (torch.tensor([0.5, -1.0, 1.9]), torch.full((3,), float("nan"))):
        with pytest.raises(WorkbenchError, match="scores differently"):
            check_same_scores(scores, other, dtype=dtype, place="run")


def test_a_reward_run_is_no_start(configure, reward_run):
    with pytest.raises(WorkbenchError) as caught:
        phase.train(configure(f"model.start={reward_run}"), resume=False)
    assert caught.value.problem == "is a reward run"


def test_the_adapter_is_trained_with_the_configured_dropout(configure, trainers):
    """TRL switches every dropout off by default, the adapter's too."""
    phase.train(configure("lora.dropout=0.25"), resume=False)
    drops = [module.p for name, module in trainers[0].model.named_modules() if "lora_dropout.default" in name and name]
    assert drops
    assert set(drops) == {0.25}


@pytest.mark.slow
def test_no_pass_without_gradients_is_larger_than_the_device_s_share_of_tokens(configure, monkeypatch):
    """First head, probe, normalisation, held-out pairs, passport, evaluation and scores."""
    limit, sizes = 256, []  # above the longest row
    for device in PASS_TOKENS:
        monkeypatch.setitem(PASS_TOKENS, device, limit)
    original = Dense.__call__

    def recorded(self, ids, mask, at=None):
        if not torch.is_grad_enabled():
            sizes.append(ids.numel())
        return original(self, ids, mask, at)

    monkeypatch.setattr(Dense, "__call__", recorded)
    config = configure("passport.at_end=true", "passport.answers=2", "train.max_steps=1", "normalise.answers=16")
    run = phase.train(config, resume=False).path
    evaluate_reward_run(run)
    score_file(run, Path(config.data.train), run.parent / "scores.jsonl", quiet=True)
    assert len(sizes) > 50
    assert limit / 2 < max(sizes) <= limit
