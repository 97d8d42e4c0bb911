"""Contrastive training: token ids, reference, losses and dtypes are the ones we mean."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ppo.config import LossSection
from ppo.contrastive.data import difficulty_of, labelled, with_reference
from ppo.contrastive.losses import METHODS, WITHOUT_REFERENCE
from ppo.contrastive.train import train
from ppo.contrastive.trainer import make_trainer
from tests.conftest import write_jsonl
from tests.ppo.contrastive.conftest import interrupted_and_resumed
from tests.reference.preferences import dpo_by_definition, slic_by_definition
from tests.reference.tolerances import SHAPES
from workbench.data.batching import encode_pairs
from workbench.data.records import Preference
from workbench.data.splits import load_pairs
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import load_base, load_tokenizer
from workbench.model.open import base_of, open_runs
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.score import compare_roles, response_nll
from workbench.model.session import Session
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.tracking import NoTracker


@pytest.fixture
def trainer_of(configure, sft_run, preference_file):
    """A trainer as the phase makes it, on the training pairs; with the pairs."""

    def make(method, *overrides):
        config = configure(method, *overrides)
        start = RunFolder(sft_run)
        spec = replace(base_of(start), kernels=config.model.kernels)
        tokenizer = load_tokenizer(spec.name)
        pairs = load_pairs(preference_file, None, heldout_share=0.0, seed=0).train
        rows = encode_pairs(tokenizer, pairs, max_length=128, source="pairs", prompt_apart=True).rows
        folder = RunFolder.create(config.run.dir, phase="ppo", config=config)
        session = Session(folder, Processes(), NoTracker())
        model = start_training_adapter(load_base(spec, tokenizer), lora_config(1, 1, 0.0), start.adapter)
        known = with_reference(
            session, Roles(model, tokenizer), labelled(rows, pairs, config.loss), "reference", batch_size=8
        )
        trainer = make_trainer(config, session, model, tokenizer, known)
        return trainer, pairs

    return make


def first_batch(trainer):
    return trainer._prepare_inputs(next(iter(trainer.get_eval_dataloader(trainer.train_dataset))))


def moved_away(trainer, scale=0.02):
    """Move the policy by seeded noise, the reference not at all."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if ".default." in name and "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def own_logprobs(trainer, pairs, sft_run, tmp_path):
    """log π and log ρ of chosen and rejected responses by our own forward pass: (chosen, rejected) lists."""
    roles = open_runs({"reference": sft_run})
    roles.copy("reference", "policy")
    weights = {n: p for n, p in trainer.model.named_parameters() if ".default." in n and "lora_" in n}
    roles.load_adapter_state("policy", {n.replace(".default.", "."): p.detach() for n, p in weights.items()})
    prompts = [encode_prompt(roles.tokenizer, pair.prompt) for pair in pairs]
    sides = []
    for text in ("chosen_text", "rejected_text"):
        responses = [encode_response(roles.tokenizer, pair.prompt, getattr(pair, text)) for pair in pairs]
        sides.append(compare_roles(roles, "policy", "reference", prompts, responses))
        if text == "chosen_text":
            nll, tokens = response_nll(roles, "policy", prompts, responses)
    return *sides, float((nll / tokens).mean())


def test_it_reads_the_ids_that_every_phase_means(trainer_of):
    trainer, pairs = trainer_of("dpo")
    batch = first_batch(trainer)
    half = len(batch["input_ids"]) // 2
    for row in range(half):
        for offset, text in ((0, pairs[row].chosen_text), (half, pairs[row].rejected_text)):
            ids, attended, labels = (batch[name][row + offset] for name in ("input_ids", "attention_mask", "labels"))
            tokenizer = trainer.processing_class
            response = encode_response(tokenizer, pairs[row].prompt, text)
            assert ids[attended.bool()].tolist() == encode_prompt(tokenizer, pairs[row].prompt) + response
            assert labels[labels != -100].tolist() == response
            assert response[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(("method", "expected"), [("dpo", math.log(2)), ("hinge", 1.0), ("ipo", (0.5 / 0.3) ** 2)])
def test_it_starts_at_the_closed_form_because_the_reference_is_the_start_adapter(trainer_of, method, expected):
    trainer, _ = trainer_of(method)
    start = {n: p for n, p in trainer.model.named_parameters() if ".default." in n and "lora_B" in n}
    assert any(weight.any() for weight in start.values()), "the start is not the bare base"
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, first_batch(trainer))
    assert float(loss) == pytest.approx(expected, abs=2e-5)


def test_a_policy_that_is_not_its_reference_at_the_start_is_refused(trainer_of):
    trainer, _ = trainer_of("dpo")
    moved_away(trainer)
    with pytest.raises(WorkbenchError, match="policy = reference"), torch.no_grad():
        trainer.compute_loss(trainer.model, first_batch(trainer))


@pytest.mark.parametrize(("label_smoothing", "sft_coef"), [(0.0, 0.0), (0.2, 0.0), (0.2, 0.5)])
def test_dpo_loss_equals_the_formula(trainer_of, sft_run, tmp_path, label_smoothing, sft_coef):
    trainer, pairs = trainer_of("dpo", f"loss.label_smoothing={label_smoothing}", f"loss.sft_coef={sft_coef}")
    moved_away(trainer)
    trainer.state.global_step = 1
    batch = first_batch(trainer)
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    number = len(batch["input_ids"]) // 2
    chosen, rejected, nll = own_logprobs(trainer, pairs[:number], sft_run, tmp_path)
    quads = [(c.policy, r.policy, c.reference, r.reference) for c, r in zip(chosen, rejected, strict=True)]
    assert loss == pytest.approx(dpo_by_definition(quads, 0.3, label_smoothing, sft_coef, nll), rel=1e-4)
    assert abs(loss - math.log(2)) > 1e-3


@pytest.mark.parametrize("sft_coef", [0.0, 0.5])
def test_slic_loss_equals_the_formula(trainer_of, sft_run, tmp_path, sft_coef):
    trainer, pairs = trainer_of("slic", f"loss.sft_coef={sft_coef}")
    moved_away(trainer)
    batch = first_batch(trainer)
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    number = len(batch["input_ids"]) // 2
    chosen, rejected, nll = own_logprobs(trainer, pairs[:number], sft_run, tmp_path)
    gaps = [(c.policy, r.policy) for c, r in zip(chosen, rejected, strict=True)]
    assert loss == pytest.approx(slic_by_definition(gaps, 0.3, sft_coef, nll), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_adapters_are_trained_in_float32(trainer_of, method):
    trainer, _ = trainer_of(method)
    trained = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".default." in name and "lora_" in name for name in trained)
    assert {p.dtype for p in trained.values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_phase_separates_pairs_and_saves_what_it_trained(configure, sft_run, method):
    folder = train(configure(method), resume=False)
    rows = folder.read_metrics()
    losses = [row["contrastive/loss"] for row in rows if "contrastive/loss" in row]
    if method not in WITHOUT_REFERENCE:
        assert rows[-1]["heldout/accuracy"] == 1.0
    margins = [row["contrastive/margin"] for row in rows if "contrastive/margin" in row]
    assert losses[-1] < losses[0]
    assert margins[-1] > margins[0] or method == "sft"
    record = folder.record()
    assert (record["phase"], record["method"], record["status"]) == ("ppo", method, "finished")
    assert record["pairs"] == {"train": 16, "heldout": 8, "ties": 0, "too_long": 0}
    before, after = (load_file(run / "adapter/adapter_model.safetensors") for run in (sft_run, folder.path))
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_limit_takes_the_first_pairs(configure):
    pairs = train(configure("dpo", "data.limit=5", "train.max_steps=1"), resume=False).record()["pairs"]
    assert (pairs["train"], pairs["heldout"]) == (5, 8)


def test_with_the_labels_swapped_dpo_learns_the_opposite(configure, preference_file, tmp_path):
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    for row in rows:
        if row["split"] == "train":
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    swapped = write_jsonl(tmp_path / "swapped.jsonl", rows)
    folder = train(configure("dpo", f"data.train={swapped}"), resume=False)
    assert folder.read_metrics()[-1]["heldout/accuracy"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_resumed_is_bit_identical(configure, method, kernels, monkeypatch):
    whole = train(configure(method, "checkpoint.every=3", kernels), resume=False)
    config = configure(method, "checkpoint.every=3", kernels, f"run.dir={whole.path}-cut")
    cut = interrupted_and_resumed(config, monkeypatch)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (cut, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    kept, expected = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.read_metrics()] for run in (cut, whole)
    )
    assert kept == expected


def test_its_logprobs_are_those_of_every_phase(trainer_of, sft_run, tmp_path):
    trainer, pairs = trainer_of("dpo")
    moved_away(trainer)
    batch = first_batch(trainer)
    with torch.no_grad():
        found = trainer.logprobs(trainer.model, batch)
    chosen, rejected, _ = own_logprobs(trainer, pairs[: len(found.chosen)], sft_run, tmp_path)
    for theirs, ours, role in (
        (found.chosen, chosen, "policy"),
        (found.rejected, rejected, "policy"),
        (found.reference_chosen, chosen, "reference"),
        (found.reference_rejected, rejected, "reference"),
    ):
        expected = torch.tensor([getattr(one, role) for one in ours], dtype=torch.float64)
        torch.testing.assert_close(theirs.double(), expected, **SHAPES)
    assert found.chosen_tokens.tolist() == [one.tokens for one in chosen]


def test_pairs_that_share_a_row_have_the_same_logprobs_and_gradient(trainer_of):
    trainer, _ = trainer_of("dpo", "model.kernels=modules")
    assert trainer.data_collator.shared
    moved_away(trainer)
    rows = list(trainer.train_dataset)[:8]
    assert len({len(row["prompt_ids"]) for row in rows}) > 1, "no row is padded"
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    found = {}
    for shared in (True, False):
        batch = trainer._prepare_inputs(replace(trainer.data_collator, shared=shared)(rows))
        trainer.model.zero_grad()
        pairs = trainer.logprobs(trainer.model, batch)
        (pairs.chosen.sum() - 0.3 * pairs.rejected.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in trained])
        found[shared] = (pairs.chosen, pairs.rejected, pairs.chosen_tokens, pairs.rejected_tokens, gradient)
        tokens = batch["input_ids"].numel()
        found[shared] += (tokens,)
    for ours, theirs in zip(found[True][:5], found[False][:5], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert found[True][-1] < found[False][-1]


def test_micro_batches_add_up_to_the_batch_with_weights(trainer_of):
    """The gradient of 8 weighted pairs equals that of 3 + 3 + 2 of them."""
    trainer, _ = trainer_of("dpo", "loss.margin=0.1", "loss.sft_coef=0.2")
    rows = [row | {"weight": 0.5 + index % 3} for index, row in enumerate(list(trainer.train_dataset)[:8])]
    trained = [p for p in trainer.model.parameters() if p.requires_grad]

    def gradient(*parts):
        trainer.model.zero_grad()
        for part in parts:
            trainer.compute_loss(trainer.model, trainer.data_collator(part), num_items_in_batch=8).backward()
        return torch.cat([p.grad.flatten() for p in trained])

    whole = gradient(rows)
    torch.testing.assert_close(gradient(rows[:3], rows[3:6], rows[6:]), whole, rtol=1e-4, atol=1e-6)
    assert whole.abs().max() > 1e-3
    assert not torch.allclose(gradient([row | {"weight": 1.0} for row in rows]), whole, rtol=1e-2)


def test_labels_become_targets_margins_and_weights():
    def pair(**values):
        message = {"role": "user", "content": "?"}
        sides = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
        return Preference(id="1", group="1", prompt=[message], **sides, **values)

    pairs = [pair(strength=2, weight=0.5), pair(strength=1, weight=1.5, probability=0.8)]
    section = LossSection(margin=0.1, label_smoothing=0.1)
    rows = labelled([{}, {}], pairs, section)
    assert [row["margin"] for row in rows] == pytest.approx([0.2, 0.1])
    assert [row["weight"] for row in rows] == pytest.approx([0.5, 1.5])
    assert [row["target"] for row in rows] == pytest.approx([0.9, 0.9])
    soft = labelled([{}, {}], pairs, section.model_copy(update={"soft_labels": True, "label_smoothing": 0.0}))
    assert [row["target"] for row in soft] == pytest.approx([1.0, 0.8])
    assert [row["weight"] for row in soft] == pytest.approx([2 / 3, 4 / 3])
    unbiased = labelled([{}, {}], pairs, section.model_copy(update={"unbiased": True}))
    assert [row["target"] for row in unbiased] == pytest.approx([0.9 / 0.8] * 2)


def test_the_reference_is_computed_once_and_kept(configure, monkeypatch):
    """The pass over the data is not made again by a resumed run."""
    whole = train(configure("dpo", "checkpoint.every=3"), resume=False)
    kept = load_file(whole.path / "reference.safetensors")
    assert {name: len(column) for name, column in kept.items()} == {"chosen": 16, "rejected": 16}
    (whole.path / "run.json").write_text(
        (whole.path / "run.json").read_text().replace('"status": "finished"', '"status": "stopped"')
    )
    monkeypatch.setattr("ppo.contrastive.data._reference_logprobs", None)
    assert train(configure("dpo", "checkpoint.every=3"), resume=True).finished


@pytest.mark.parametrize("method", ["dpo", "slic"])
def test_heldout_figures_count_each_pair_once(configure, sft_run, preference_file, tmp_path, method):
    """11 held-out pairs in batches of 8 and 3, of which the first 5 are labelled the wrong way round."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    for place, row in enumerate(rows):
        row["split"] = "heldout" if place < 11 else "train"
        if place < 5:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    file = write_jsonl(tmp_path / "mixed.jsonl", rows)
    overrides = ("loss.sft_coef=0.5", *(("loss.label_smoothing=0.1",) if method == "dpo" else ()))
    folder = train(configure(method, f"data.train={file}", *overrides), resume=False)
    found = folder.read_metrics()[-1]
    pairs = load_pairs(file, None, heldout_share=0.0, seed=0).heldout
    roles = open_runs({"policy": folder.path, "reference": sft_run})
    prompts = [encode_prompt(roles.tokenizer, pair.prompt) for pair in pairs]
    sides = []
    for text in ("chosen_text", "rejected_text"):
        responses = [encode_response(roles.tokenizer, pair.prompt, getattr(pair, text)) for pair in pairs]
        sides.append(compare_roles(roles, "policy", "reference", prompts, responses))
    quads = [(c.policy, r.policy, c.reference, r.reference) for c, r in zip(*sides, strict=True)]
    margins = [0.3 * ((c - r) - (cr - rr if method == "dpo" else 0)) for c, r, cr, rr in quads]
    assert found["heldout/pairs"] == 11
    assert found["heldout/accuracy"] == sum(margin > 0 for margin in margins) / 11
    assert found["heldout/margin"] == pytest.approx(sum(margins) / 11, rel=1e-4)
    assert found["heldout/accuracy_low"] < found["heldout/accuracy"] < found["heldout/accuracy_high"]
    nll = -sum(c.policy / c.tokens for c in sides[0]) / len(sides[0])
    if method == "dpo":
        expected = dpo_by_definition(quads, 0.3, 0.1, 0.5, nll)
    else:
        expected = slic_by_definition([(c, r) for c, r, _, _ in quads], 0.3, 0.5, nll)
    assert found["heldout/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "slic"])
def test_logged_means_count_each_pair_once(configure, method):
    """Steps of 8, 3 and 8 pairs; a row of the log that covers the last two is the mean over their 11 pairs."""
    options = ("data.limit=11", "train.max_steps=3")
    each = train(configure(method, *options, "tracking.log_every=1"), resume=False).read_metrics()
    both = train(configure(method, *options, "tracking.log_every=3", "run.overwrite=true"), resume=False).read_metrics()
    for name in ("contrastive/accuracy", "contrastive/margin", "contrastive/chosen_logprob"):
        _, small, large = (row[name] for row in each if name in row)
        assert small != large or name == "contrastive/accuracy"
        logged = [row[name] for row in both if name in row][-1]
        assert logged == pytest.approx((3 * small + 8 * large) / 11, rel=1e-5), name


@pytest.fixture
def graded(preference_file, tmp_path):
    """The pairs with difficulties 0, 1/15 … 1 on the training side."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    trained = [row for row in rows if row["split"] == "train"]
    for index, row in enumerate(trained):
        row["difficulty"] = index / (len(trained) - 1)
    return write_jsonl(tmp_path / "graded.jsonl", rows)


@pytest.mark.slow
def test_a_curriculum_begins_with_easy_pairs_and_resumes_where_it_was(configure, graded, monkeypatch):
    options = (f"data.train={graded}", "curriculum.schedule=step", "checkpoint.every=3")
    whole = train(configure("dpo", *options), resume=False)
    drawn = [row["contrastive/difficulty"] for row in whole.read_metrics() if "contrastive/difficulty" in row]
    assert all(mean < 0.5 for mean in drawn[:3])
    assert all(mean > 0.5 for mean in drawn[3:])
    config = configure("dpo", *options, f"run.dir={whole.path}-cut")
    cut = interrupted_and_resumed(config, monkeypatch)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (cut, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_curriculum_over_equal_pairs_is_refused(configure):
    with pytest.raises(WorkbenchError, match=r"curriculum\.schedule.*all 16 pairs have difficulty"):
        train(configure("dpo", "curriculum.schedule=linear"), resume=False)


def test_without_a_measured_difficulty_the_strength_tells_it():
    assert [difficulty_of(SimpleNamespace(difficulty=None, strength=s)) for s in (3, 1.5)] == [0.0, 0.5]
    assert difficulty_of(SimpleNamespace(difficulty=0.2, strength=3)) == 0.2


WATCHED = ("evaluation.every=3", "evaluation.prompts=4", "evaluation.max_new_tokens=8")


def test_answers_are_watched_before_during_and_after(configure, reward_run, kernels):
    """The start policy is its own reference: KL 0 and half the wins; training moves both."""
    folder = train(configure("dpo", *WATCHED, f"evaluation.reward={reward_run}", kernels), resume=False)
    rows = [row for row in folder.read_metrics() if "heldout/kl" in row]
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert rows[0]["heldout/kl"] == pytest.approx(0.0, abs=1e-4)
    assert rows[0]["heldout/win_rate"] == 0.5
    assert rows[-1]["heldout/kl"] > 0.01
    assert all(0 < row["heldout/distinct_2"] <= 1 and 0 < row["heldout/length"] <= 8 for row in rows)
    samples = folder.read_samples()
    assert len(samples) == 12
    assert {sample["prompt_id"] for sample in samples} <= {f"g{n}" for n in range(16, 24)}
    unwatched = train(configure("dpo", kernels, f"run.dir={folder.path}-unwatched"), resume=False)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (folder, unwatched))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs), "watching changes nothing"


def test_a_watched_run_resumes_bit_identically(configure, monkeypatch):
    whole = train(configure("dpo", "checkpoint.every=2", *WATCHED), resume=False)
    config = configure("dpo", "checkpoint.every=2", *WATCHED, f"run.dir={whole.path}-cut")
    cut = interrupted_and_resumed(config, monkeypatch)
    kept, expected = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.read_metrics()] for run in (cut, whole)
    )
    assert kept == expected
    assert cut.read_samples() == whole.read_samples()
    record = cut.path / "run.json"
    record.write_text(record.read_text().replace('"status": "finished"', '"status": "stopped"'))
    again = train(config, resume=True)
    assert [row["step"] for row in again.read_metrics() if "heldout/kl" in row] == [0, 3, 6], "nothing is logged twice"


def test_a_warning_is_given_once_and_kept(configure, monkeypatch, capsys):
    monkeypatch.setattr("ppo.contrastive.evaluate.warnings", lambda training, evaluations: [("kl", "too far")])
    folder = train(configure("dpo", *WATCHED), resume=False)
    assert folder.record()["warnings"] == [{"step": 0, "kind": "kl", "text": "too far"}]
    assert capsys.readouterr().out.count("too far") == 1


def test_people_s_labels_are_mixed_in_by_weight(configure, preference_file, tmp_path):
    """Twelve pairs of another file, labelled the other way round, win or lose by their weight alone."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    swapped = [
        row | {"id": f"m{n}", "chosen": row["rejected"], "rejected": row["chosen"]} for n, row in enumerate(rows)
    ]
    mix = write_jsonl(tmp_path / "labels.jsonl", swapped)
    found = {}
    for weight in (0.1, 10.0):
        words = (
            f"data.mix={mix}",
            f"data.mix_weight={weight}",
            f"run.dir={tmp_path}/mix-{weight}",
            "train.max_steps=8",
        )
        folder = train(configure("dpo", *words), resume=False)
        assert folder.record()["pairs"]["mixed"] == 16, "the held-out records of the second file stay out"
        found[weight] = folder.read_metrics()[-1]["heldout/accuracy"]
    assert found == {0.1: 1.0, 10.0: 0.0}


def test_a_run_of_one_step_moves_the_adapter(configure, sft_run):
    run = train(configure("dpo", "train.max_steps=1"), resume=False)
    before, after = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (sft_run, run.path))
    assert any(not torch.equal(before[name], after[name]) for name in before)
