"""The trainer over prompt groups: accumulation, sharing, thresholds, and TRL's own loss where TRL has it."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file
from trl.trainer.reward_trainer import DataCollatorForPreference

import reward.train as phase
from reward.config import RewardConfig
from reward.trainer import Comparisons, ComparisonTrainer, ScoreHead
from tests.conftest import load_phase, reward_values, user, write_jsonl
from tests.reference.tolerances import SHAPES
from workbench.run.folder import RunFolder


@pytest.fixture
def graded_file(tmp_path):
    """Eight prompts with 2 to 4 answers compared with each other: ties, strengths and weights."""
    rows = []
    for n in range(8):
        answers = ["Your thing is here", "It is there", "No idea", "Go away"][: 2 + n % 3]
        for number, (a, b) in enumerate(itertools.combinations(answers, 2)):
            rows.append(
                {
                    "id": f"{n}-{number}",
                    "group": f"g{n}",
                    "prompt": user("Where is {}?", f"thing {n}"),
                    "chosen": [{"role": "assistant", "content": a}],
                    "rejected": [{"role": "assistant", "content": b}],
                    "strength": (n + number) % 4,
                    "weight": 0.5 + number,
                    "split": "heldout" if n == 7 else "train",
                }
            )
    return write_jsonl(tmp_path / "graded.jsonl", rows)


@pytest.fixture
def fit(tmp_path, sft_run, graded_file, monkeypatch):
    """Trains on the graded file with overrides; returns the trainer and the run."""
    number = itertools.count()

    def _fit(*overrides):
        seen = []

        class Watched(ComparisonTrainer):
            def train(self, *arguments, **options):
                seen.append(self)
                self.before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
                return super().train(*arguments, **options)

        n = next(number)
        values = reward_values(tmp_path / f"run-{n}", sft_run, graded_file)
        monkeypatch.setattr(phase, "ComparisonTrainer", Watched)
        folder = phase.train(load_phase(RewardConfig, tmp_path / f"{n}.yaml", values, *overrides), resume=False)
        return seen[0], folder

    return _fit


def weights(folder):
    return load_file(RunFolder(folder.path).adapter / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["loss.kind=ordinal", "loss.kind=bradley_terry", "loss.center_coef=0.3"])
def test_accumulating_micro_batches_equals_one_batch(fit, loss):
    """Groups of one to six pairs with weights: a mean of the micro-batches' means would be a different loss."""
    sizes = ("train.batch_size=6", "train.max_steps=1", "train.warmup_share=0", "train.max_grad_norm=1e9", loss)
    _, folder = fit(*sizes, "train.micro_batch_size=6")
    parts, other = fit(*sizes, "train.micro_batch_size=1")
    assert parts.args.gradient_accumulation_steps == 6
    logged = [run.read_metrics()[0] for run in (folder, other)]
    assert logged[0]["reward/loss"] == pytest.approx(logged[1]["reward/loss"], rel=1e-5)
    assert logged[0]["reward/grad_norm"] == pytest.approx(logged[1]["reward/grad_norm"], rel=1e-4)


def test_thresholds_are_fitted_and_stay_ascending(fit):
    trainer, folder = fit("train.max_steps=6", "train.epochs=6.0")
    before = trainer.before["base_model.model.score.modules_to_save.default.raw_thresholds"]
    assert len(before) == 3
    assert (trainer.head.raw_thresholds != before).all()
    assert (trainer.head.thresholds.diff() > 0).all()
    assert folder.read_metrics()[0]["reward/first_threshold"] > 0


def test_the_saved_adapter_holds_no_thresholds(fit):
    """Plain peft format: whoever loads it as a sequence classifier knows no thresholds."""
    _, folder = fit("train.max_steps=1")
    assert [name for name in weights(folder) if "score" in name] == ["base_model.model.score.weight"]


def test_the_loss_is_the_one_of_trl_where_trl_has_it(fit, monkeypatch):
    """Bradley-Terry without weights on TRL's batch: the same number."""
    trainer, _ = fit("loss.kind=bradley_terry", "train.max_steps=1")
    trainer.model.eval()
    groups = list(trainer.train_dataset)
    pairs = [
        {"chosen_ids": group["ids"][chosen], "rejected_ids": group["ids"][rejected]}
        for group in groups
        for chosen, rejected in zip(group["chosen"], group["rejected"], strict=True)
    ]
    theirs = DataCollatorForPreference(trainer.processing_class.pad_token_id)(pairs)
    ours = Comparisons(trainer.processing_class.pad_token_id)(groups)
    ours["weight"] = torch.ones_like(ours["weight"])
    assert len(ours["input_ids"]) < len(theirs["input_ids"])
    with torch.no_grad():
        expected = super(ComparisonTrainer, trainer).compute_loss(trainer.model, theirs)
        found = trainer.compute_loss(trainer.model, ours)
    torch.testing.assert_close(found, expected, **SHAPES)


def test_a_soft_label_is_the_loss_of_trl_on_pairs_in_both_directions(fit):
    """q = ¾ equals TRL's mean over three pairs in one direction and one in the other."""
    trainer, _ = fit("loss.kind=bradley_terry", "train.max_steps=1")
    trainer.model.eval()
    groups = list(trainer.train_dataset)
    ours = Comparisons(trainer.processing_class.pad_token_id)(groups)
    ours |= {"weight": torch.ones_like(ours["weight"]), "probability": torch.full_like(ours["weight"], 0.75)}
    sides = [
        (group["ids"][chosen], group["ids"][rejected])
        for group in groups
        for chosen, rejected in zip(group["chosen"], group["rejected"], strict=True)
    ]
    pairs = [
        {"chosen_ids": chosen, "rejected_ids": rejected}
        for one, other in sides
        for chosen, rejected in ((one, other), (one, other), (one, other), (other, one))
    ]
    theirs = DataCollatorForPreference(trainer.processing_class.pad_token_id)(pairs)
    with torch.no_grad():
        expected = super(ComparisonTrainer, trainer).compute_loss(trainer.model, theirs)
        found = trainer.compute_loss(trainer.model, ours)
    torch.testing.assert_close(found, expected, **SHAPES)


def test_soft_labels_reach_the_loss(fit, graded_file):
    records = [json.loads(line) for line in graded_file.read_text().splitlines()]
    write_jsonl(graded_file, [record | {"probability": 0.9} for record in records])
    trainer, _ = fit("loss.soft_labels=true", "train.max_steps=1")
    batch = Comparisons(0)(list(trainer.train_dataset))
    assert batch["probability"].tolist() == pytest.approx([0.9] * len(batch["weight"]))
    assert batch["weight"].tolist() == [1.0] * len(batch["weight"])
    trainer.model.eval()
    hard = batch | {"probability": torch.ones_like(batch["probability"])}
    with torch.no_grad():
        assert trainer.compute_loss(trainer.model, hard) != trainer.compute_loss(trainer.model, batch)


def test_answers_shared_by_pairs_get_the_gradient_of_all_of_them(fit):
    trainer, _ = fit("loss.kind=bradley_terry", "train.max_steps=1")
    (group,) = [row for row in trainer.train_dataset if len(row["ids"]) == 4][:1]
    apart = [
        {
            "ids": [group["ids"][c], group["ids"][r]],
            "chosen": [0],
            "rejected": [1],
            "level": [1.0],
            "probability": [1.0],
            "weight": [w],
        }
        for c, r, w in zip(group["chosen"], group["rejected"], group["weight"], strict=True)
    ]
    collate = Comparisons(trainer.processing_class.pad_token_id)
    gradients = []
    for groups in ([group], apart):
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, collate(groups)).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], **SHAPES)


def test_weights_are_those_of_the_records(fit, graded_file):
    trainer, _ = fit("train.max_steps=1", "loss.kind=bradley_terry")
    records = [json.loads(line) for line in graded_file.read_text().splitlines()]
    trained = [record for record in records if record["split"] == "train" and record["strength"] > 0]
    batch = Comparisons(0)(list(trainer.train_dataset))
    assert batch["weight"].tolist() == [record["weight"] for record in trained]
    light, heavy = (
        trainer.compute_loss(trainer.model, batch | {"weight": w}) for w in (batch["weight"], batch["weight"] ** 2)
    )
    assert light != heavy
    assert trainer.compute_loss(trainer.model, batch | {"weight": 2 * batch["weight"]}) == light


def test_the_score_head_multiplies_and_learns_in_float32_under_autocast():
    """D = 4096, as in a 7B: in bfloat16, a step of 1e-5 does not change most weights."""
    first = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0)) / 64
    head = ScoreHead(first, torch.tensor([0.0, 1.0]))
    states = torch.randn(3, 5, 4096, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(states)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, states.float() @ first.T, rtol=0, atol=0)
    assert ScoreHead(first.bfloat16(), torch.tensor([0.0, 1.0])).weight.dtype == torch.float32

    optimizer = torch.optim.AdamW([head.weight], lr=1e-5, weight_decay=0.0)
    scores.sum().backward()
    optimizer.step()
    assert optimizer.state[head.weight]["exp_avg"].dtype == torch.float32
    assert float((head.weight != first).float().mean()) > 0.999


@pytest.mark.slow
def test_logged_accuracy_and_margin_count_each_pair_once(fit):
    """Prompts have 1, 3 or 6 pairs, so micro-batches of one prompt hold different numbers of them."""
    whole, parts = (
        fit(f"train.micro_batch_size={size}", "train.max_steps=1", "loss.head_first=false")[1].read_metrics()[0]
        for size in (8, 1)
    )
    for name in ("reward/accuracy", "reward/margin", "reward/raw_score"):
        assert parts[name] == pytest.approx(whole[name], abs=1e-5), name
