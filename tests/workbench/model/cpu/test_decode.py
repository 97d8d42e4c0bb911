"""Sampling on dense weights: what transformers says where nothing is left to chance, whatever the number of cores."""

from types import SimpleNamespace

import pytest
import torch

from tests.workbench.model.cpu.test_dense import decoder_of, small
from workbench.model.cpu.decode import decode
from workbench.model.cpu.dense import Dense
from workbench.model.generate import generate_with
from workbench.model.masks import response_mask

EOS, PAD = 2, 0
PROMPTS = [[5, 6, 7, 8, 9, 4], [7], [8, 9, 5, 11], [3, 4, 5, 6, 7], [12, 13], [14]]


def lists(ids):
    return [row[real].tolist() for row, real in zip(ids, response_mask(ids, EOS), strict=True)]


@pytest.fixture(scope="module")
def peft():
    """With a head that often says EOS."""
    model = small().float().eval()
    with torch.no_grad():
        model.base_model.model.lm_head.weight[EOS] *= 4
    return model


def answers(peft, prompts=PROMPTS, *, seed=0, temperature=1.0, length=25):
    return decode(
        Dense(decoder_of(peft)),
        peft.base_model.model.lm_head.weight,
        prompts,
        eos_ids=[EOS],
        pad_id=PAD,
        max_new_tokens=length,
        temperature=temperature,
        seed=seed,
    )


def by_transformers(peft, *, seed, temperature, length=25):
    """From the same seed."""
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
    options = {"max_new_tokens": length, "temperature": temperature, "seed": seed, "device": torch.device("cpu")}
    return generate_with(peft, tokenizer, PROMPTS, **options).lists()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_says_what_transformers_says_from_the_same_seed(peft, seed, temperature):
    found = lists(answers(peft, seed=seed, temperature=temperature))
    assert found == by_transformers(peft, seed=seed, temperature=temperature)
    assert len({len(row) for row in found}) > 1, "no row ended before another: nothing was dropped"


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_the_cores_change_nothing(peft, temperature):
    one = lists(answers(peft, temperature=temperature))
    torch.set_num_threads(2)  # one again before the next test
    assert lists(answers(peft, temperature=temperature)) == one
    assert lists(answers(peft, temperature=temperature, seed=1)) != one


def test_rows_of_one_prompt_draw_for_themselves(peft):
    found = lists(answers(peft, [[5, 6]] * 20))
    assert len(set(map(tuple, found))) > 10


def test_it_stops_when_all_have_ended(peft):
    cold = by_transformers(peft, seed=0, temperature=1e-5)
    ends = [(prompt, answer) for prompt, answer in zip(PROMPTS, cold, strict=True) if answer[-1] == EOS]
    assert ends
    found = answers(peft, [prompt for prompt, _ in ends], temperature=1e-5, length=60)
    assert found.shape == (len(ends), max(len(answer) for _, answer in ends))
