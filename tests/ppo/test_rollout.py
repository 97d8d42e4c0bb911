"""A rollout: what the roles say of sampled responses, whatever batch they are read in."""

import pytest
import torch

from ppo.rollout import PromptSet, collect, scatter_rows
from ppo.sampler import InProcess, Transformers
from tests.ppo.conftest import LENGTHS, config_of, random_responses, read_responses
from tests.reference.tolerances import SHAPES
from workbench.model.masks import pad_rows
from workbench.model.processes import Processes

FIELDS = ("scores", "old_logprobs", "reference_logprobs", "values", "entropy")


def test_before_the_first_update_policy_and_reference_agree_exactly(rollout):
    assert torch.equal(rollout.old_logprobs, rollout.reference_logprobs)
    assert float(rollout.kl.abs().max()) == 0


def test_padding_is_zero(rollout):
    assert rollout.mask.sum(dim=1).tolist() == list(LENGTHS)
    for name in FIELDS[1:]:
        assert (getattr(rollout, name)[~rollout.mask] == 0).all(), name


@pytest.mark.parametrize("size", [1, 3, 8])
def test_batch_size_and_neighbours_change_nothing(roles, prompts, rollout, size):
    again = read_responses(roles, prompts, random_responses(roles), size=size)
    for name in FIELDS:
        torch.testing.assert_close(getattr(again, name), getattr(rollout, name), **SHAPES)


def test_logprobs_are_those_of_the_language_model(roles, prompts, rollout):
    # By another route: the causal model's own logits over one unpadded row.
    row = 5
    ids = torch.tensor([prompts.ids[row] + random_responses(roles)[row]])
    roles.model.set_adapter("policy", inference_mode=True)
    with torch.no_grad():
        logits = roles.model(input_ids=ids).logits[0].double()
    start = len(prompts.ids[row])
    expected = logits.log_softmax(-1)[range(start - 1, ids.shape[1] - 1), ids[0, start:]]
    torch.testing.assert_close(rollout.old_logprobs[row, : LENGTHS[row]].double(), expected, **SHAPES)


def test_scores_are_read_at_the_last_token_of_the_response(roles, prompts, rollout):
    for row, response in enumerate(random_responses(roles)):
        ids, mask = pad_rows([prompts.ids[row] + response], roles.tokenizer.pad_token_id)
        torch.testing.assert_close(rollout.scores[row : row + 1], roles.scores("reward_1", ids, mask), **SHAPES)
        if len(response) > 1:
            shorter, its_mask = pad_rows([prompts.ids[row] + response[:-1]], roles.tokenizer.pad_token_id)
            assert abs(float(rollout.scores[row] - roles.scores("reward_1", shorter, its_mask))) > 1e-4


def test_values_start_as_the_scores_of_what_was_written_so_far(roles, prompts, rollout):
    # The value before token 0 is what the reward model says of the prompt alone.
    ids, mask = pad_rows(prompts.take(list(range(8))).ids, roles.tokenizer.pad_token_id)
    torch.testing.assert_close(rollout.values[:, 0], roles.scores("reward_1", ids, mask), **SHAPES)


def test_collect_is_a_function_of_its_seed(roles, prompts):
    section = config_of(rollout={"max_new_tokens": 6, "micro_batch_size": 4}).rollout
    one, two, other = (
        collect(roles, InProcess(roles), prompts, section, seed=seed, processes=Processes()) for seed in (1, 1, 2)
    )
    assert torch.equal(one.rows.ids, two.rows.ids)
    assert torch.equal(one.old_logprobs, two.old_logprobs)
    assert not torch.equal(one.rows.response_ids, other.rows.response_ids)


def test_a_response_ends_with_its_first_end_token(roles, prompts):
    # A head that always says EOS: one token a response, each of them ended, texts empty.
    end = roles.tokenizer.eos_token_id
    many = PromptSet(prompts.records[:4], prompts.ids[:4])
    original = roles.model.generate

    def ends_at_once(**options):
        sequences = original(**options)
        width = options["input_ids"].shape[1]
        sequences[:, width] = end
        return sequences

    roles.model.generate = ends_at_once
    section = config_of(rollout={"max_new_tokens": 5, "micro_batch_size": 4}).rollout
    found = collect(roles, Transformers(roles), many, section, seed=0, processes=Processes())
    assert found.tokens == 4
    assert found.rows.response_ids.tolist() == [[end]] * 4
    assert found.ended.all()
    assert found.texts(roles) == [""] * 4


def test_scattered_tokens_come_into_their_rows_and_keep_gradients():
    mask = torch.tensor([[True, False], [True, True]])
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    table = scatter_rows(values, mask)
    assert table.tolist() == [[1, 0], [2, 3]]
    (table * torch.tensor([[1.0, 5.0], [2.0, 3.0]])).sum().backward()
    assert values.grad.tolist() == [1, 2, 3]
