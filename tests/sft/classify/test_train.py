"""Classification end to end on the random base: learning, controls, saving, resuming, the report."""

import json

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import sft.classify.train as phase
from sft.classify.evaluate import open_classifier
from sft.classify.split import load_split
from tests.conftest import write_jsonl
from tests.sft.classify.conftest import labelled_rows
from workbench.evaluate.evaluation import read_evaluation
from workbench.evaluate.report import build_report
from workbench.model.heads import load_label_head
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


def measured(path):
    evaluation = read_evaluation(path).classifier
    assert evaluation is not None
    return evaluation


def heldout_texts(config):
    split = load_split(path_of(config), None, config.data, seed=config.run.seed)
    return [record.text for record in split.heldout]


def path_of(config):
    from pathlib import Path

    return Path(config.data.train)


def test_a_finished_run_has_all_its_files(head_run, text_file):
    folder = RunFolder.open(head_run, phase="classify").require_finished()
    record = folder.record()
    assert (record["method"], record["labels"], record["multi_label"]) == ("head", ["bad", "good"], False)
    assert record["data"]["train"]["path"] == str(text_file)
    assert record["base"]["fingerprint"]
    assert record["texts"]["train"] + record["texts"]["heldout"] == 180
    assert "predict" in (head_run / "README.md").read_text(encoding="utf-8")
    names = {name for row in folder.read_metrics() for name in row}
    assert {"classify/loss", "heldout/macro_f1", "heldout/accuracy", "heldout/ece"} <= names


def test_the_head_learns_and_is_compared_with_every_baseline(head_run):
    found = measured(head_run)
    assert set(found.methods) == {
        *("majority", "tfidf_logistic", "zero_shot", "zero_shot_calibrated", "few_shot", "few_shot_calibrated", "head"),
    }
    assert found.methods["head"].macro_f1.mean > 0.9
    assert found.methods["majority"].macro_f1.mean < 0.5
    assert found.methods["tfidf_logistic"].macro_f1.mean > 0.9
    assert found.best_baseline == "tfidf_logistic"
    assert found.verdict().startswith(("no difference shown", "the baseline wins", "head beats"))


def test_the_head_is_saved_to_the_bit_and_never_quantised(configure, monkeypatch):
    seen = {}
    real = phase.save_label_head

    def watch(path, head):
        seen["head"] = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
        assert not isinstance(head, bitsandbytes.nn.Linear4bit)
        assert {tensor.dtype for tensor in seen["head"].values()} == {torch.float32}
        real(path, head)

    monkeypatch.setattr(phase, "save_label_head", watch)
    folder = phase.train(configure("train.max_steps=3", "model.quantise=nf4"), resume=False)
    loaded = load_label_head(folder.head_path)
    assert loaded.labels == ("bad", "good")
    for name, tensor in seen["head"].items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    kept = load_file(folder.adapter / "adapter_model.safetensors")
    assert any("lora_" in name for name in kept)


def test_a_reloaded_classifier_gives_the_measured_probabilities(head_run, text_file):
    from sft.classify.config import ClassifyConfig
    from workbench.run.config import load_config

    config, _ = load_config(ClassifyConfig, head_run / "config.yaml")
    texts = heldout_texts(config)
    table = open_classifier(RunFolder(head_run), batch_size=16).probabilities(texts)
    found = measured(head_run).methods["head"]
    assert table.mean(axis=0) == pytest.approx([found.labels[name].probability for name in ("bad", "good")], abs=1e-6)
    one_by_one = open_classifier(RunFolder(head_run), batch_size=1).probabilities(texts[:5])
    assert one_by_one == pytest.approx(table[:5], abs=1e-4), "padding or neighbours change a text's probabilities"


def test_a_dropped_head_is_noticed(configure, monkeypatch):
    real = phase.save_label_head

    def drop(path, head):
        with torch.no_grad():
            head.weight.zero_()
        real(path, head)

    monkeypatch.setattr(phase, "save_label_head", drop)
    with pytest.raises(WorkbenchError, match="gives other logits than the trained one"):
        phase.train(configure("train.max_steps=3"), resume=False)


def test_shuffled_labels_teach_nothing(configure):
    found = measured(phase.train(configure("data.shuffle_labels=true"), resume=False).path)
    assert found.methods["head"].accuracy.low < 0.55
    assert found.methods["head"].macro_f1.mean < 0.7


def test_label_words_of_several_tokens_are_scored(configure):
    words = '["good=quite happy","bad=not happy at all"]'
    steps = ("train.max_steps=2", "verbalizer.calibrate=true")
    found = measured(
        phase.train(configure("method=verbalizer", f"verbalizer.words={words}", *steps), resume=False).path
    )
    assert {"zero_shot", "few_shot_calibrated", "verbalizer"} <= set(found.methods)
    assert sum(scores.probability for scores in found.methods["verbalizer"].labels.values()) == pytest.approx(1)


@pytest.mark.slow
def test_label_words_are_learned_on_a_base_that_can_speak(configure, tmp_path):
    """The shipped base; words of several tokens that it has seen, one the beginning of the other."""
    rows = labelled_answers(240)
    words = '["rude=Hello","civil=Hello. Thanks"]'
    config = configure(
        *("method=verbalizer", "model.base=tiny", f"verbalizer.words={words}", "train.max_steps=60", "train.lr=0.005"),
        *("verbalizer.prompt='{text} Is that {labels}?'", "verbalizer.shots=0", "data.max_length=128"),
        texts=write_jsonl(tmp_path / "answers.jsonl", rows),
    )
    found = measured(phase.train(config, resume=False).path)
    assert found.methods["verbalizer"].accuracy.mean > 0.9
    assert found.methods["zero_shot"].accuracy.mean < 0.9


def labelled_answers(number):
    from workbench.data.embedded import resolve_data

    lines = resolve_data("tiny:texts").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:number]]


@pytest.mark.slow
def test_several_labels_per_text(configure, tmp_path):
    rows = labelled_rows()
    for row in rows:
        row["label"] = [row["label"]] * (row["label"] == "bad") + ["order"] * ("order" in row["text"])
    texts = write_jsonl(tmp_path / "multi.jsonl", rows)
    folder = phase.train(configure("train.class_weights=balanced", texts=texts), resume=False)
    found = measured(folder.path)
    assert found.multi_label
    assert set(found.methods) == {"majority", "tfidf_logistic", "head"}
    assert found.methods["head"].labels["bad"].f1.mean > 0.8
    assert found.methods["head"].confusion is None
    with pytest.raises(WorkbenchError, match="says one label per text"):
        phase.train(configure("method=verbalizer", texts=texts), resume=False)


class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("method", ["head", "verbalizer"])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(configure, monkeypatch, kernels, method):
    steps = ("train.max_steps=6", "checkpoint.every=2", f"method={method}", "verbalizer.shots=0", kernels)
    whole = phase.train(configure(*steps), resume=False)
    config, real = configure(*steps), phase.make_trainer

    def with_kill(*arguments):
        trainer = real(*arguments)
        trainer.add_callback(Kill())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(phase, "make_trainer", with_kill)
        with pytest.raises(KeyboardInterrupt):
            phase.train(config, resume=False)
    resumed = phase.train(config, resume=True)
    for name in ("adapter/adapter_model.safetensors", *(["head.safetensors"] if method == "head" else [])):
        first, second = load_file(resumed.path / name), load_file(whole.path / name)
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items()), name
    assert measured(resumed.path) == measured(whole.path)


def test_accumulated_micro_batches_equal_one_batch(configure):
    whole, parts = (
        phase.train(
            configure("train.max_steps=2", f"train.micro_batch_size={size}", "train.class_weights=balanced"),
            resume=False,
        )
        for size in (16, 4)
    )
    first, second = (load_file(run.head_path) for run in (whole, parts))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_dry_run_checks_the_inputs_without_training(tmp_path, tiny_base, text_file, capsys):
    from sft.__main__ import main
    from tests.sft.classify.conftest import classify_values

    (tmp_path / "c.yaml").write_text(json.dumps(classify_values(tmp_path / "run", tiny_base, text_file)))
    main([str(tmp_path / "c.yaml"), "--dry-run"])
    printed = capsys.readouterr().out
    assert "texts to train on (bad" in printed
    assert "near duplicates:" in printed
    assert not (tmp_path / "run").exists()
    with pytest.raises(WorkbenchError, match="'haed' is unknown"):
        main([str(tmp_path / "c.yaml"), "method=haed"])


def test_the_report_shows_the_table_the_plots_and_the_mistakes(head_run, tmp_path):
    page = build_report([head_run], tmp_path / "report.html").read_text(encoding="utf-8")
    for part in (
        "TF-IDF + logistic regression",
        "untuned base, few-shot",
        "Confusion matrix",
        "most confident mistakes",
    ):
        assert part in page
    assert page.count("<svg") >= 5
    assert "No policy has been evaluated" not in page
    assert "<script" not in page
