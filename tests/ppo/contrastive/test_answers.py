"""KTO: rated answers are read, drawn and trained as the paper and TRL do."""

import json
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ppo.config import ContrastiveConfig
from ppo.contrastive import answers
from ppo.contrastive.answers import balance_advice, couples_of, draws_of
from ppo.contrastive.losses import kto_losses
from ppo.contrastive.train import train
from tests.conftest import write_jsonl
from tests.ppo.contrastive.conftest import interrupted_and_resumed
from workbench.data.splits import load_pairs
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.open import open_runs
from workbench.model.score import compare_roles
from workbench.run.errors import WorkbenchError


@pytest.fixture
def thumbs(preference_file, tmp_path):
    """Rated answers of different prompts: no prompt has both kinds, and the last third is held out by file."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    single = [
        {
            "prompt": [*row["prompt"][:-1], {"role": "user", "content": f"{row['prompt'][-1]['content']} ({place})"}],
            "response": row["chosen" if place % 2 else "rejected"][0]["content"],
            "label": bool(place % 2),
        }
        for place, row in enumerate(rows)
    ]
    train_file = write_jsonl(tmp_path / "thumbs.jsonl", single[:16])
    return f"data.train={train_file}", f"data.heldout={write_jsonl(tmp_path / 'more.jsonl', single[16:])}"


def config_of(**sections):
    values = {"run": {"dir": "runs/x"}, "model": {"start": "a"}, "data": {"train": "b"}, "method": "kto"}
    return ContrastiveConfig.model_validate(values | sections)


def adapter(folder):
    return load_file(folder.path / "adapter/adapter_model.safetensors")


def test_each_prompt_of_a_batch_gets_the_answer_of_the_draw_before():
    rows = [{"prompt_ids": [n], "answer_ids": [10 + n]} for n in range(7)]
    draws = draws_of(rows, config_of(train={"batch_size": 3, "micro_batch_size": 3, "epochs": 2.0}))
    own, other = ([draw[name][0] for draw in draws] for name in ("answer_ids", "mismatched_ids"))
    assert Counter(own) == {10 + n: 2 for n in range(7)}
    assert sorted(own[:7]) == sorted(own[7:]) != own[7:]
    batches = [own[start : start + 3] for start in range(0, 14, 3)]
    assert other == [value for batch in batches for value in (batch[-1], *batch[:-1])]
    alone = draws_of(rows, config_of(train={"batch_size": 3, "micro_batch_size": 3, "epochs": 1.0}))
    assert alone[-1]["mismatched_ids"] == alone[-2]["answer_ids"], "a batch of one takes the draw before it"


def test_the_loss_is_trls():
    """TRL 1.16's own computation, fed with these log-probabilities by a model that returns them."""
    from trl import KTOTrainer

    generator = torch.Generator().manual_seed(1)
    logprobs, reference, mismatched, mismatched_reference = torch.randn(4, 6, generator=generator) * 3 - 5
    labels = torch.tensor([True, False, True, True, False, False])

    def model(input_ids, **_):
        tokens = torch.zeros(6, 2)
        tokens[:, 0] = mismatched if int(input_ids[0, 0]) else logprobs
        zeros = torch.zeros(6, 2)
        return SimpleNamespace(log_probs=tokens, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    model.training = True
    trainer = SimpleNamespace(
        model=model, accelerator=SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x),
        calculate_KL=True, aux_loss_enabled=False, precompute_ref_logps=True, loss_type="kto", beta=0.3,
        desirable_weight=1.5, undesirable_weight=0.7, _metrics={"train": defaultdict(list)}, _total_train_tokens=0,
        _tp_size=1, _compute_kl_logps=lambda m, batch: KTOTrainer._compute_kl_logps(trainer, m, batch),
    )  # fmt: skip
    ones = torch.ones(6, 3, dtype=torch.long)
    batch = {"input_ids": ones * 0, "attention_mask": ones, "completion_mask": ones, "label": labels}
    batch |= {"KL_input_ids": ones, "KL_attention_mask": ones, "KL_completion_mask": ones}
    batch |= {"ref_logps": reference, "ref_KL_logps": mismatched_reference}
    expected = KTOTrainer._compute_loss(trainer, model, batch, False)
    found = kto_losses(
        logprobs - reference,
        labels,
        (mismatched - mismatched_reference).mean(),
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.7,
    )
    assert found.mean().item() == pytest.approx(float(expected), abs=1e-6)


def test_it_starts_at_half_the_weights_and_separates_the_answers(configure, sft_run):
    folder = train(configure("kto", "loss.desirable_weight=1.2"), resume=False)
    rows = folder.read_metrics()
    first = next(row for row in rows if "contrastive/loss" in row)
    assert 0.5 < first["contrastive/loss"] < 0.6, "σ(0) times weights of 1 and 1.2"
    assert first["contrastive/reference_point"] == pytest.approx(0.0, abs=1e-3)
    assert rows[-1]["heldout/accuracy"] == 1.0
    assert rows[-1]["heldout/pairs"] == 8
    record = folder.record()
    assert record["pairs"] == {"desirable": 16, "undesirable": 16, "heldout": 16, "too_long": 0}
    assert record["method"] == "kto"
    before = load_file(sft_run / "adapter/adapter_model.safetensors")
    assert any(not torch.equal(before[name], after) for name, after in adapter(folder).items())


def test_marked_answers_of_different_prompts_are_enough(configure, thumbs):
    found = train(configure("kto", *thumbs), resume=False).read_metrics()[-1]
    assert found["heldout/accuracy"] > 0.8
    assert found["heldout/pairs"] == 16, "every good answer with every bad one"


def test_with_the_marks_swapped_it_learns_the_opposite(configure, thumbs, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "thumbs.jsonl").read_text().splitlines()]
    swapped = write_jsonl(tmp_path / "swapped.jsonl", [row | {"label": not row["label"]} for row in rows])
    found = train(configure("kto", f"data.train={swapped}", thumbs[1]), resume=False).read_metrics()[-1]
    assert found["heldout/accuracy"] < 0.2


def test_micro_batches_share_one_reference_point(configure, monkeypatch):
    """Accumulating 2 + 2 + 2 + 2 answers equals a batch of 8, reference point included."""
    points, mismatched = [], answers.KtoTrainer.mismatched_logratio
    monkeypatch.setattr(
        answers.KtoTrainer,
        "mismatched_logratio",
        lambda *arguments: points.append(float(found := mismatched(*arguments))) or found,
    )
    whole = train(configure("kto"), resume=False)
    parts = train(configure("kto", "train.micro_batch_size=2", f"run.dir={whole.path}-parts"), resume=False)
    assert points[:6] == pytest.approx(points[6:], rel=1e-3, abs=1e-4)
    assert max(map(abs, points)) > 0.1
    for name, weights in adapter(whole).items():
        torch.testing.assert_close(weights, adapter(parts)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_resumed_is_bit_identical(configure, kernels, monkeypatch):
    whole = train(configure("kto", "checkpoint.every=3", kernels), resume=False)
    cut = interrupted_and_resumed(
        configure("kto", "checkpoint.every=3", kernels, f"run.dir={whole.path}-cut"), monkeypatch
    )
    assert all(torch.equal(weights, adapter(whole)[name]) for name, weights in adapter(cut).items())
    kept, expected = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.read_metrics()] for run in (cut, whole)
    )
    assert kept == expected


def test_a_policy_that_is_not_its_reference_at_the_start_is_refused(configure, monkeypatch):
    pairs_with_reference = answers.column

    def moved(rows, name):
        return pairs_with_reference(rows, name) - (3.0 if name == "reference_answer" else 0.0)

    monkeypatch.setattr(answers, "column", moved)
    with pytest.raises(WorkbenchError, match="policy = reference"):
        train(configure("kto"), resume=False)


def test_heldout_figures_are_those_of_every_phase(configure, sft_run, preference_file):
    folder = train(configure("kto", "train.max_steps=2"), resume=False)
    roles = open_runs({"policy": folder.path, "reference": sft_run})
    gaps = []
    for pair in load_pairs(preference_file, None, heldout_share=0.0, seed=0).heldout:
        prompts = [encode_prompt(roles.tokenizer, pair.prompt)] * 2
        texts = [encode_response(roles.tokenizer, pair.prompt, text) for text in (pair.chosen_text, pair.rejected_text)]
        good, bad = compare_roles(roles, "policy", "reference", prompts, texts)
        gaps.append(0.3 * ((good.policy - good.reference) - (bad.policy - bad.reference)))
    assert folder.read_metrics()[-1]["heldout/margin"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-3)


def test_couples_are_of_one_prompt_if_any_prompt_has_both_kinds():
    assert couples_of([True, False, True, False], ["a", "a", "b", "c"]) == ([0], [1])
    assert couples_of([True, False, True], ["a", "b", "c"]) == ([0, 2], [1, 1])


@pytest.mark.parametrize(
    ("desirable", "undesirable", "weights", "advice"),
    [
        (100, 100, {}, None),
        (130, 100, {}, None),
        (300, 100, {}, "loss.undesirable_weight=3"),
        (100, 400, {}, "loss.desirable_weight=4"),
        (300, 100, {"undesirable_weight": 3.0}, None),
    ],
)
def test_unbalanced_weights_are_named(desirable, undesirable, weights, advice):
    found = balance_advice(config_of(loss=weights), {"desirable": desirable, "undesirable": undesirable})
    assert found is None if advice is None else advice in str(found)


def test_a_curriculum_over_single_answers_is_refused(configure):
    with pytest.raises(WorkbenchError, match=r"curriculum\.schedule.*no difficulty"):
        train(configure("kto", "curriculum.schedule=linear"), resume=False)
