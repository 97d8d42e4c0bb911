"""Evaluation of real runs: a random Llama in NF4 with untrained LoRA adapters."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from tests.workbench.evaluate.fakes import (
    FakePolicy,
    gold,
    make_demonstrations,
    make_preference,
    make_prompts,
    write_run,
)
from workbench.data.readers import write_records
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.evaluation import Evaluation, load_evaluation, read_evaluation
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.inference import Inference, best_of_kl
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.policy import Sampling, evaluate_policy
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.role_models import RolePolicy, RoleScore
from workbench.evaluate.run_models import _known_answers, evaluate_policy_run, evaluate_reward_run
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.heads import ScalarHead, save_head
from workbench.model.open import open_runs
from workbench.model.score import score_rows
from workbench.model.training import save_trained_adapter
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import file_fingerprint, run_fingerprint
from workbench.tiny.tokenizer import train_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own call
SAMPLING = Sampling(samples_per_prompt=2, max_new_tokens=8, batch_size=8, seed=1)


def make_base(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(["Which way 1? good bad Assistant: User:"] * 3, vocabulary=320)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseSpec(str(folder), None, "nf4", "float32").identified()


def make_run(root, name, spec, *, phase, spread, parents=None, **record):
    """A finished run with a random adapter; a larger `spread` is further from the base."""
    run = write_run(root / name, phase=phase, parents=parents, base=spec.as_record(), **record)
    tokenizer = load_tokenizer(spec.name)
    model = start_training_adapter(load_base(spec, tokenizer), lora_config(4, 8, 0.0))
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    save_trained_adapter(model, tokenizer, run / "adapter")
    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    spec = make_base(root / "base")
    sft = make_run(root, "sft", spec, phase="sft", spread=0.02)
    pairs = root / "pairs.jsonl"
    write_records(pairs, [make_preference(i, "good " * (i % 4 + 2), "bad") for i in range(40)])
    reward = make_run(
        root,
        "reward",
        spec,
        phase="reward",
        spread=0.05,
        parents={"start": str(sft)},
        data={"train": {"path": str(pairs), "bytes": 0, "sha256": ""}},
    )
    (reward / "config.yaml").write_text(yaml.safe_dump({"data": {"heldout_share": 0.3}, "run": {"seed": 0}}))
    torch.manual_seed(0)
    head = ScalarHead(64)
    head.normalise(0.5, 2.0)
    save_head(reward / "head.safetensors", head)
    make_run(root, "ppo", spec, phase="ppo", spread=0.1, parents={"start": str(sft), "reward_1": str(reward)})
    write_records(root / "prompts.jsonl", make_prompts(6))
    write_records(root / "demonstrations.jsonl", make_demonstrations(4))
    return root


def test_policy_runs(world):
    inputs = EvaluationInputs(prompts=str(world / "prompts.jsonl"), demonstrations=str(world / "demonstrations.jsonl"))
    sft = evaluate_policy_run(world / "sft", inputs, gold=gold, sampling=SAMPLING)
    assert sft.policy.kl is None
    assert sft.policy.win_rate is None
    assert sft.policy.reward_model_score is None
    assert (sft.policy.length.count, sft.policy.length.prompts) == (12, 6)
    assert 1 < sft.policy.perplexity.mean < 1e6
    ppo = evaluate_policy_run(world / "ppo", inputs, gold=gold, sampling=SAMPLING)
    assert read_evaluation(world / "ppo") == ppo
    assert ppo.policy.kl.mean > 0.01
    assert (ppo.policy.opponent, ppo.policy.judge) == (str(world / "sft"), "gold")
    assert ppo.policy.reward_model_score is not None
    assert ppo.sources["reward_run"] == str(world / "reward")
    # The opponent's answers come from its evaluation if the conditions match, else they are sampled. Both are equal.
    (world / "sft" / "evaluation.json").unlink()
    again = evaluate_policy_run(world / "ppo", inputs, gold=gold, sampling=SAMPLING)
    assert again == ppo
    assert ppo.sources["weights"] == run_fingerprint(world / "ppo")


@pytest.mark.parametrize("change", [None, "prompt", "weights", "older file"])
def test_stored_answers_count_only_if_the_same_weights_answered_the_same_prompts(tmp_path, change):
    run, sampling = write_run(tmp_path / "sft", phase="sft"), Sampling(samples_per_prompt=2)
    weights = run / "adapter/adapter_model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"first")
    records, prompts = make_prompts(3), tmp_path / "prompts.jsonl"
    sources = {"prompts": str(prompts)} | sampling.as_sources() | {"weights": file_fingerprint(weights)["sha256"]}
    if change == "older file":
        del sources["weights"]
    policy = evaluate_policy(FakePolicy(samples_per_prompt=2), records)
    Evaluation(str(run), "sft", 0, sources, policy=policy).save(run / "evaluation.json")
    if change == "prompt":
        records = make_prompts(3, "Another question with the same id, {}?")
    if change == "weights":
        weights.write_bytes(b"again")
    assert _known_answers(run, prompts, records, sampling) == (policy.answers if change is None else None)
    assert read_evaluation(run).policy == policy, "an older file is still read"


def test_answers_improved_at_sampling_time(world, tmp_path):
    inputs = EvaluationInputs(prompts=str(world / "prompts.jsonl"), reward=str(world / "reward"))
    before = [path.read_bytes() for path in sorted(world.glob("*/evaluation.json"))]
    best = Inference(best_of=3, picked_by=str(world / "reward"), out=tmp_path / "best.json")
    evaluated = evaluate_policy_run(world / "sft", inputs, gold=gold, sampling=SAMPLING, inference=best).policy
    assert load_evaluation(tmp_path / "best.json", remedy="").policy == evaluated
    assert len(evaluated.answers) == 12
    assert evaluated.kl.mean == pytest.approx(best_of_kl(3))
    assert [point.step for point in evaluated.trajectory] == [1, 2, 4]  # of 6 answers per prompt
    plain = evaluate_policy_run(
        world / "sft", inputs, gold=gold, sampling=SAMPLING, inference=Inference(out=tmp_path / "plain.json")
    ).policy
    assert evaluated.reward_model_score.mean > plain.reward_model_score.mean
    assert evaluated.perplexity == plain.perplexity
    shots = Inference(shots=2, examples=str(world / "demonstrations.jsonl"), out=tmp_path / "shots.json")
    shown = evaluate_policy_run(world / "sft", inputs, gold=gold, sampling=SAMPLING, inference=shots).policy
    assert [answer.prompt for answer in shown.answers] == [answer.prompt for answer in plain.answers]
    assert [answer.ids for answer in shown.answers] != [answer.ids for answer in plain.answers]
    assert [path.read_bytes() for path in sorted(world.glob("*/evaluation.json"))] == before


def test_sampled_and_exact_kl_agree_and_vanish_for_the_reference_itself(world):
    roles = open_runs({"policy": world / "ppo", "reference": world / "sft"})
    prompts = make_prompts(8)
    sampling = replace(SAMPLING, samples_per_prompt=40, seed=0)
    drawn = RolePolicy(roles, "policy", "reference", sampling).sample(prompts)
    flat = [(p.prompt, answer.ids) for p, answers in zip(prompts, drawn, strict=True) for answer in answers]
    messages, answers = [message for message, _ in flat], [ids for _, ids in flat]
    sampled, exact = RolePolicy(roles, "policy", "reference", SAMPLING).divergence(messages, answers)
    error = sampled.std() / np.sqrt(len(sampled))
    assert abs(sampled.mean() - exact.mean()) < 4 * error
    assert (exact > 0).all()
    itself = RolePolicy(roles, "reference", "reference", SAMPLING).divergence(messages, answers)
    assert np.abs(np.concatenate(itself)).max() < 1e-5


def test_perplexity_matches_teacher_forcing(world):
    from workbench.data.tokenise import encode_prompt, encode_response

    roles = open_runs({"policy": world / "ppo"})
    demonstration = make_demonstrations(3)[2]
    nats, tokens = RolePolicy(roles, "policy", None, SAMPLING).negative_log_likelihood(
        [demonstration.prompt], [demonstration.response]
    )
    prompt = encode_prompt(roles.tokenizer, demonstration.prompt)
    response = encode_response(roles.tokenizer, demonstration.prompt, demonstration.response)
    roles.model.set_adapter("policy", inference_mode=True)
    with torch.no_grad():
        logits = roles.model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(response), reduction="sum")
    assert nats[0] == pytest.approx(float(expected), rel=1e-4)
    assert tokens[0] == len(response)


def test_reward_run_is_measured_on_its_own_heldout_pairs(world):
    result = evaluate_reward_run(world / "reward", gold=gold).reward_model
    assert 0 < result.accuracy.count < 40
    assert result.noise_ceiling.mean == 1.0
    assert 0 <= result.accuracy.mean <= 1
    pairs = own_heldout_pairs(RunFolder.open(world / "reward"))
    assert len(pairs) == result.accuracy.count
    raw = open_runs({"reward": world / "reward"})
    raw.heads["reward"].gain.fill_(1.0)  # calibration uses raw scores
    unscaled = evaluate_reward_model(RoleScore(raw, ("reward",), 64), pairs)
    assert (result.ece, result.brier) == pytest.approx((unscaled.ece, unscaled.brier), abs=1e-5)
    everything = evaluate_reward_run(
        world / "reward", EvaluationInputs(preferences=str(world / "pairs.jsonl")), gold=gold
    )
    assert everything.reward_model.accuracy.count == 40
    assert everything.sources == {"preferences": str(world / "pairs.jsonl")}
    roles = open_runs({"reward": world / "reward"})
    gaps = np.diff(RoleScore(roles, ("reward",), 4)([make_prompts(1)[0].prompt] * 2, ["bad", "good good"], [True] * 2))
    assert np.isfinite(gaps).all()


def test_a_cut_answer_is_scored_without_eos(world):
    roles = open_runs({"reward": world / "reward"})
    prompts = [make_prompts(1)[0].prompt] * 3
    scores = RoleScore(roles, ("reward",), 8)(prompts, ["good", "good", "good good"], [True, False, True])
    assert abs(scores[0] - scores[1]) > 1e-3
    alone = RoleScore(roles, ("reward",), 1)(prompts, ["good", "good", "good good"], [True, False, True])
    np.testing.assert_allclose(scores, alone, atol=1e-4)


def test_wrong_phase_and_unfinished(world, tmp_path):
    with pytest.raises(WorkbenchError, match="is a reward run"):
        evaluate_policy_run(world / "reward", EvaluationInputs(prompts=str(world / "prompts.jsonl")))
    with pytest.raises(WorkbenchError, match="is a sft run"):
        evaluate_reward_run(world / "sft")
    run = write_run(tmp_path / "x", phase="ppo", status="started")
    with pytest.raises(WorkbenchError, match="not finished"):
        evaluate_policy_run(run, EvaluationInputs(prompts=str(world / "prompts.jsonl")))
    record = json.loads((world / "reward" / "run.json").read_text())
    assert record["phase"] == "reward"


def test_sampled_ids_are_what_is_scored(world):
    """The text of a sampled answer often encodes to other ids; the sampled ids are scored."""
    result = evaluate_policy_run(
        world / "ppo", EvaluationInputs(prompts=str(world / "prompts.jsonl")), sampling=SAMPLING
    ).policy
    roles = open_runs({"reward": world / "reward"})
    tokenizer = roles.tokenizer
    prompts = [[Message.model_validate(message) for message in answer.prompt] for answer in result.answers]
    again = [encode_response(tokenizer, p, a.response) for p, a in zip(prompts, result.answers, strict=True)]
    assert any(list(a.ids) != (ids if a.ended else ids[:-1]) for a, ids in zip(result.answers, again, strict=True))
    rows = [[*encode_prompt(tokenizer, p), *a.ids] for p, a in zip(prompts, result.answers, strict=True)]
    expected = score_rows(roles, "reward", rows, batch_size=8)
    assert [a.score for a in result.answers] == pytest.approx(expected.tolist(), abs=1e-5)
    assert read_evaluation(world / "ppo").policy.answers[0].ids == result.answers[0].ids


def test_pairs_beyond_the_runs_own_limit_are_measured_separately(world, tmp_path):
    run = shutil.copytree(world / "reward", tmp_path / "reward")
    roles = open_runs({"reward": run})
    pairs = own_heldout_pairs(RunFolder.open(run))
    lengths = [
        len(encode_prompt(roles.tokenizer, pair.prompt))
        + max(len(encode_response(roles.tokenizer, pair.prompt, t)) for t in (pair.chosen_text, pair.rejected_text))
        for pair in pairs
    ]
    most = sorted(lengths)[len(lengths) // 2]
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["max_length"] = most
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    result = evaluate_reward_run(run).reward_model
    inside = [pair for pair, length in zip(pairs, lengths, strict=True) if length <= most]
    assert 0 < len(inside) < len(pairs)
    alone = evaluate_reward_model(RoleScore(roles, ("reward",), 64), inside)
    assert (result.accuracy.count, result.accuracy.mean) == (len(inside), alone.accuracy.mean)
    assert (result.max_length, result.longer_pairs) == (most, len(pairs) - len(inside))
    assert result.longer_accuracy.count == len(pairs) - len(inside)
