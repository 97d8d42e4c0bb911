"""Soft prompts, prefixes and variants of LoRA: they train, save, reload, sample and evaluate; nothing else moves."""

import pytest
import torch

import sft.train as phase
from reward.config import RewardConfig
from reward.inputs import check_inputs as check_reward
from sft.config import SftConfig
from sft.evaluate import validate
from sft.inputs import check_inputs
from tests.conftest import load_phase, reward_values, sft_values
from tests.sft.test_train import assert_same, read_data, weights
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.policy import Sampling
from workbench.evaluate.run_models import evaluate_policy_run
from workbench.model.generate import generate
from workbench.model.open import open_runs
from workbench.model.stream import Batch, Stream
from workbench.run.errors import Problems, WorkbenchError

SOFT = ("prompt", "prefix")
PROMPTS = [(Message(role="user", content=text),) for text in ("Hi", "Where is my parcel, and who has my invoice?")]
VARIANTS = {
    "prompt": ("adapter=prompt", "soft_prompt.tokens=4", "train.lr=0.1"),
    "prefix": ("adapter=prefix", "soft_prompt.tokens=4", "train.lr=0.1"),
    "rslora": ("lora.variant=rslora",),
    "dora": ("lora.variant=dora",),
    "lora+": ("lora.b_lr_ratio=4",),
    "neftune": ("train.neftune_alpha=5",),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_base, demonstration_file):
    """A finished run of each adapter on the random base."""
    folder, runs = tmp_path_factory.mktemp("adapters"), {}

    def train(name):
        if name not in runs:
            values = sft_values(folder / name, tiny_base, demonstration_file)
            config = load_phase(SftConfig, folder / f"{name}.yaml", values, *VARIANTS[name], "train.max_steps=20")
            runs[name] = phase.train(config, resume=False)
        return runs[name]

    return train


@pytest.mark.parametrize("name", VARIANTS)
def test_each_adapter_learns_saves_and_reloads(trained, name, demonstration_file):
    folder = trained(name)
    rows = [row for row in folder.read_metrics() if "validation/loss" in row]
    assert rows[-1]["validation/loss"] < rows[0]["validation/loss"] - 0.05
    roles = open_runs({"policy": folder.path})
    data = read_data(roles.tokenizer, demonstration_file)
    loss, _ = validate(roles, "policy", data.validation, batch_size=8)
    assert loss == pytest.approx(rows[-1]["validation/loss"], rel=1e-5)
    assert_same(roles.adapter_state("policy"), weights(folder))


@pytest.mark.parametrize("name", SOFT)
def test_the_trainers_loss_is_that_of_validation(trained, name, demonstration_file, tiny_base, tmp_path):
    """TRL's forward pass through peft and ours agree: the first logged loss of a run on the validation rows."""
    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    everything = ("train.batch_size=64", "train.micro_batch_size=64", "train.max_steps=1", "sample.prompts=0")
    config = load_phase(SftConfig, tmp_path / "c.yaml", values, *VARIANTS[name], *everything)
    seen = {}
    real = phase._measure

    def watch(config, session, roles, data, answered, *, step):
        if step == 0:
            seen["loss"] = validate(roles, "default", data.train, batch_size=3)[0]
        return real(config, session, roles, data, answered, step=step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase, "_measure", watch)
        folder = phase.train(config, resume=False)
    logged = next(row["sft/loss"] for row in folder.read_metrics() if "sft/loss" in row)
    assert logged == pytest.approx(seen["loss"], rel=1e-4)


@pytest.mark.parametrize("name", SOFT)
def test_sampled_answers_follow_the_scored_distribution(trained, name):
    """At a low temperature each sampled token is the likeliest under `use`, in a padded batch, alone, and streamed."""
    roles = open_runs({"policy": trained(name).path})
    tokenizer, pad = roles.tokenizer, roles.tokenizer.pad_token_id
    prompts = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS]
    options = {"max_new_tokens": 6, "temperature": 1e-4, "seed": 0}
    together = generate(roles, "policy", prompts, **options).lists()
    for prompt, response in zip(prompts, together, strict=True):
        assert generate(roles, "policy", [prompt], **options).lists() == [response]
        batch, stream = Batch(roles, "policy"), Stream(roles, "policy", prompt, **options)
        batch.step([stream])
        while not stream.finished:
            batch.step()
        assert stream.ids == response
        ids = torch.tensor([prompt + response])
        with roles.use("policy") as forward:
            hidden = forward(ids, torch.ones_like(ids))
        likeliest = (hidden @ roles.lm_head.T).argmax(-1)[0, len(prompt) - 1 : -1]
        assert likeliest.tolist() == response
    assert pad not in together[0]


@pytest.mark.parametrize("name", SOFT)
def test_only_the_virtual_tokens_are_saved(trained, name):
    assert list(weights(trained(name))) == ["prompt_embeddings"]


@pytest.mark.parametrize("name", SOFT)
def test_adapters_of_two_kinds_cannot_share_a_base(trained, name, sft_run):
    with pytest.raises(WorkbenchError, match="cannot share a base"):
        open_runs({"policy": trained(name).path, "reference": sft_run})


@pytest.mark.parametrize("name", [*SOFT, "dora"])
def test_a_later_phase_needs_plain_lora(trained, name, preference_file, tmp_path):
    start = trained(name).path
    config = load_phase(RewardConfig, tmp_path / "r.yaml", reward_values(tmp_path / "r", start, preference_file))
    problems = Problems()
    check_reward(config, problems)
    with pytest.raises(WorkbenchError, match="adapter") as caught:
        problems.raise_if_any()
    assert "LoRA" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("adapter=prompt", "data.packing=true"), "data.packing"),
        (("adapter=prefix", "model.activation_checkpointing=true"), "model.activation_checkpointing"),
        (("adapter=prompt", "soft_prompt.tokens=200"), "soft_prompt.tokens"),
    ],
)
def test_what_virtual_tokens_cannot_do_is_an_error(tmp_path, tiny_base, demonstration_file, overrides, key):
    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    problems = Problems()
    check_inputs(load_phase(SftConfig, tmp_path / "c.yaml", values, *overrides), problems)
    with pytest.raises(WorkbenchError, match=key):
        problems.raise_if_any()


@pytest.mark.parametrize("name", SOFT)
def test_a_run_with_virtual_tokens_is_evaluated(trained, name, prompt_file, demonstration_file):
    inputs = EvaluationInputs(prompts=str(prompt_file), demonstrations=str(demonstration_file))
    sampling = Sampling(samples_per_prompt=1, max_new_tokens=8, batch_size=16)
    evaluated = evaluate_policy_run(trained(name).path, inputs, sampling=sampling).policy
    assert len(evaluated.answers) == 16
    assert 1 < evaluated.perplexity.mean < 400
