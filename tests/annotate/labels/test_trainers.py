"""TRL's own trainers read the exported file as it is."""

import json
from pathlib import Path

import pytest

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import export
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.conftest import make_item


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    """Pairs that two people judged, one of whom improved an answer; in which the longer answer is better."""
    texts = [f"Your {thing} is safe with us, thank you." for thing in ("order", "parcel", "ticket", "refund")]
    load_items(
        store,
        [make_item(f"i{n}", "No.", texts[n % 4] + str(n)) for n in range(12)],
        QueueSection(overlap=2, overlap_share=1),
    )
    queue = Queue(store, QueueSection(lease_seconds=60))
    for name in ("ann", "bea"):
        with store.write() as transaction:
            transaction.add_annotator(name, "annotator", 0.0)
            who = transaction.annotator(name)
        assert who is not None
        while isinstance(card := queue.next(who), Card):
            shown = 2 if card.left.text == "No." else -2
            edit = {"edited_text": f"{card.item}: all is well.", "edited_response": 0} if name == "bea" else {}
            key = f"{name}-{card.item_id}-key"
            queue.submit(who, Submission(card.item, "compared", key, strength=shown, **edit))  # type: ignore[arg-type]
    out = tmp_path / "preferences.jsonl"
    export(store, ExportSection(out=str(out), resolve="dawid-skene", heldout_share=0.0))
    return out


def test_the_file_holds_what_the_trainers_read_and_what_soft_labels_need(exported: Path) -> None:
    rows = [json.loads(line) for line in exported.read_text().splitlines()]
    assert len(rows) > 12
    assert {row["resolution"] for row in rows} == {"dawid-skene", "edited"}
    for row in rows:
        assert row["prompt"][-1]["role"] == "user"
        assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"
        assert 0.5 < row["probability"] <= 1
        assert 0 < row["weight"] <= 1


def test_reward_trainer_learns_from_the_file_unchanged(exported: Path, tiny_base: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from workbench.model.base import load_tokenizer

    data = load_dataset("json", data_files=str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = load_tokenizer(str(tiny_base), None)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    settings = RewardConfig(
        str(tmp_path / "reward"), max_steps=12, learning_rate=3e-3, per_device_train_batch_size=8, logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = RewardTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_dpo_trainer_learns_from_the_file_unchanged(exported: Path, tiny_base: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    from workbench.model.base import load_tokenizer

    data = load_dataset("json", data_files=str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    settings = DPOConfig(
        str(tmp_path / "dpo"), max_steps=6, learning_rate=1e-3, per_device_train_batch_size=8, logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_base),
        args=settings,
        train_dataset=data,
        processing_class=load_tokenizer(str(tiny_base), None),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # log 2: the policy is the reference
    assert losses[-1] < 0.9 * losses[0]
