"""Sampling: reproducible, without touching the global random state, from the distribution that is scored."""

import math

import pytest
import torch

import workbench.model.generate
from workbench.data.records import Message, Prompt
from workbench.data.tokenise import decode_response
from workbench.model.generate import generate, sample
from workbench.model.open import open_runs

PROMPTS = [[1, 40, 41, 42], [1, 50], [1, 60, 61, 62, 63, 64, 65]]


def answers(roles, prompts=PROMPTS, *, role="policy", length=12, temperature=1.0, seed=0):
    return generate(roles, role, prompts, max_new_tokens=length, temperature=temperature, seed=seed)


def texts(responses):
    return [ids[real].tolist() for ids, real in zip(responses.ids, responses.mask, strict=True)]


@pytest.fixture
def by_transformers(roles):
    """As on a GPU."""
    roles.causal_model.model.kernels = "modules"


@pytest.fixture(params=["cpu", "modules"])
def either_way(request):
    """Both ways to sample."""
    if request.param == "modules":
        request.getfixturevalue("by_transformers")


@pytest.fixture
def sharp(roles):
    """Roles with a policy whose next token depends a lot on the prompt: that of the random base hardly does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.normal_(0, 0.5, generator=generator)
    return roles


@pytest.mark.usefixtures("either_way")
def test_the_seed_decides_and_the_global_state_is_left_alone(roles):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = answers(roles)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    assert torch.equal(answers(roles).ids, first.ids)
    assert not torch.equal(answers(roles, seed=1).ids, first.ids)


def test_roles_answer_differently(roles):
    assert texts(answers(roles, role="reward")) != texts(answers(roles, role="reference"))


@pytest.mark.usefixtures("either_way")
def test_batch_neighbours_and_left_padding_change_nothing(sharp):
    # Near temperature 0 sampling is greedy: each answer is then a function of its prompt alone.
    together = texts(answers(sharp, temperature=1e-5))
    alone = [texts(answers(sharp, [prompt], temperature=1e-5))[0] for prompt in PROMPTS]
    assert together == alone
    assert len({tuple(row) for row in together}) == len(PROMPTS), "prompts too alike to see a mix-up"


@pytest.mark.usefixtures("by_transformers")
def test_the_end_is_kept_and_the_rest_is_padding(roles, monkeypatch):
    tokens = torch.tensor([[7, 2, 9, 9], [7, 8, 9, 9], [2, 2, 5, 5]])
    monkeypatch.setattr(roles.model, "generate", lambda **given: torch.cat([given["input_ids"], tokens], dim=1))
    responses = answers(roles)
    assert responses.ids.tolist() == [[7, 2, 0, 0], [7, 8, 9, 9], [2, 0, 0, 0]]
    assert responses.mask.sum(dim=1).tolist() == [2, 4, 1]
    assert responses.ended.tolist() == [True, False, True]


@pytest.mark.usefixtures("by_transformers")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_model_is_in_eval_mode_while_it_generates(roles, monkeypatch, checkpointing):
    """In train mode with activation checkpointing, `generate` returns wrong tokens."""
    expected = answers(roles).ids
    if checkpointing:
        roles.checkpoint_activations()
    roles.model.train()
    modes, real = [], roles.model.generate

    def watch(**given):
        modes.append({module.training for module in roles.model.modules()})
        return real(**given)

    monkeypatch.setattr(roles.model, "generate", watch)
    assert torch.equal(answers(roles).ids, expected)
    assert modes == [{False}]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_samples_follow_the_softmax_at_the_temperature(sharp, temperature):
    """First tokens of 3000 samples against the probabilities that a forward pass gives: total variation.

    A longer neighbour pads all of them.
    """
    prompt = PROMPTS[0]
    batch = [prompt] * 3000 + [PROMPTS[2]]
    first = answers(sharp, batch, length=1, temperature=temperature).ids[:3000, 0]
    with sharp.use("policy") as forward:
        hidden = forward(torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool))[0, -1]
    expected = torch.softmax(sharp.lm_head @ hidden / temperature, dim=0)
    found = torch.bincount(first, minlength=len(expected)) / len(first)
    # Expected distance of an honest sample: Σ √(p(1−p)/n)·√(2/π)/2; of one that drops the tail, several times that.
    honest = float((expected * (1 - expected) / len(first)).sqrt().sum()) * math.sqrt(2 / math.pi) / 2
    assert float((found - expected).abs().sum() / 2) < 1.5 * honest


def prompts(count):
    return [Prompt(id=f"p{i}", prompt=(Message(role="user", content="Hello " * (i + 1)),)) for i in range(count)]


def collect(roles, count=3, per_prompt=4, batch_size=2, temperatures=(0.7, 1.3), seed=0):
    return list(
        sample(
            roles,
            "policy",
            prompts(count),
            temperatures=temperatures,
            responses_per_prompt=per_prompt,
            max_new_tokens=6,
            batch_size=batch_size,
            seed=seed,
        )
    )


def test_every_prompt_gets_its_answers_in_order_at_rotating_temperatures(roles):
    found = collect(roles)
    assert [prompt.id for prompt, _ in found] == ["p0", "p1", "p2"]
    for number, (_, given) in enumerate(found):
        assert [answer.temperature for answer in given] == [(0.7, 1.3)[(number + j) % 2] for j in range(4)]
        assert len({answer.text for answer in given}) > 1


def test_text_and_ids_of_a_sample_agree(roles):
    for _, given in collect(roles):
        for answer in given:
            assert answer.text == decode_response(roles.tokenizer, answer.ids)
            assert answer.ended == (roles.tokenizer.eos_token_id in answer.ids)


def test_samples_are_reproducible(roles, sft_run):
    assert collect(roles) == collect(roles)
    assert collect(roles) != collect(roles, seed=1)
    opened = sample(
        open_runs({"policy": sft_run}),
        "policy",
        prompts(3),
        temperatures=(0.7, 1.3),
        responses_per_prompt=4,
        max_new_tokens=6,
        batch_size=2,
        seed=0,
    )
    assert list(opened) == collect(roles)  # the policy is a copy of that run's adapter


def test_no_more_answers_at_one_time_than_the_batch_size(roles, monkeypatch):
    sizes = []
    original = workbench.model.generate.generate

    def counted(roles, role, prompts, **options):
        sizes.append(len(prompts))
        return original(roles, role, prompts, **options)

    monkeypatch.setattr(workbench.model.generate, "generate", counted)
    assert len(collect(roles, count=3, per_prompt=5, batch_size=3, temperatures=(1.0,))) == 3
    assert sizes == [3, 3, 3, 3, 3]
