"""Sampling on dense weights: what transformers says where nothing is left to chance, whatever the number of cores."""

import pytest
import torch

from tests.workbench.model.test_dense import decoder_of, small
from workbench.model.decode import decode, sampled
from workbench.model.dense import Dense
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


def answers(peft, prompts=PROMPTS, *, seed=0, temperature=1.0, length=9):
    return decode(
        Dense(decoder_of(peft)),
        peft.base_model.model.lm_head.weight,
        prompts,
        eos_id=EOS,
        pad_id=PAD,
        max_new_tokens=length,
        temperature=temperature,
        seed=seed,
    )


def greedy(peft, prompt, length=9):
    """By transformers, one row at a time."""
    ids = torch.tensor([prompt])
    found = peft.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return found[0, len(prompt) :].tolist()


def test_a_cold_model_says_what_transformers_says(peft):
    found = lists(answers(peft, temperature=1e-5))
    assert found == [greedy(peft, prompt) for prompt in PROMPTS]
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
    cold = [greedy(peft, prompt) for prompt in PROMPTS]
    short = [prompt for prompt, answer in zip(PROMPTS, cold, strict=True) if len(answer) < 9]
    assert short
    assert answers(peft, short, temperature=1e-5).shape == (len(short), max(len(greedy(peft, p)) for p in short))


def test_sampling_by_hand():
    # Cumulative probabilities 0.2, 0.2, 0.5, 1: the second token is never said.
    logits = torch.tensor([0.2, 0.0, 0.3, 0.5]).log().expand(6, 4)
    assert sampled(logits, torch.tensor([0.0, 0.19, 0.21, 0.49, 0.51, 0.999])).tolist() == [0, 0, 2, 2, 3, 3]
    first = torch.tensor([[-torch.inf, 0.0]])
    assert sampled(first, torch.tensor([0.0])).tolist() == [1]
