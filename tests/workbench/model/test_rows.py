"""Prompt and response in one row: the one shift by one, selection, and micro-batches."""

import pytest
import torch

from workbench.model.rows import Rows

PAD = 0
PROMPTS = [[1, 10, 11], [1, 20], [1, 30, 31, 32]]
RESPONSES = [[12, 2], [21, 22, 23, 2], [33]]


@pytest.fixture
def rows():
    return Rows.of(PROMPTS, RESPONSES, PAD, torch.device("cpu"))


def test_by_hand(rows):
    assert rows.ids.tolist() == [[1, 10, 11, 12, 2, 0], [1, 20, 21, 22, 23, 2], [1, 30, 31, 32, 33, 0]]
    assert rows.mask.sum(dim=1).tolist() == [5, 6, 5]
    assert rows.prompt_lengths.tolist() == [3, 2, 4]
    assert rows.response_ids.tolist() == [[12, 2, 0, 0], [21, 22, 23, 2], [33, 0, 0, 0]]
    assert rows.response_mask.sum(dim=1).tolist() == [2, 4, 1]
    assert len(rows) == 3


def test_a_token_is_predicted_from_the_state_before_it(rows):
    expected = [[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert rows.predicting.int().tolist() == expected
    # The id of the token before each response token, in the order of the response tokens.
    before = [token for p, r in zip(PROMPTS, RESPONSES, strict=True) for token in (p[-1], *r[:-1])]
    assert rows.ids[rows.predicting].tolist() == before
    assert len(before) == int(rows.response_mask.sum())


def test_selection_is_the_same_as_building_those_rows(rows):
    index = torch.tensor([2, 0])
    chosen = rows.select(index)
    built = Rows.of([PROMPTS[2], PROMPTS[0]], [RESPONSES[2], RESPONSES[0]], PAD, torch.device("cpu"))
    for name in ("ids", "mask", "prompt_lengths", "response_ids", "response_mask"):
        assert torch.equal(getattr(chosen, name), getattr(built, name)), name


def test_micro_batches_hold_each_row_once_sorted_by_length(rows):
    batches = list(rows.micro_batches(2))
    assert sorted(torch.cat([index for index, _ in batches]).tolist()) == [0, 1, 2]
    assert [len(batch) for _, batch in batches] == [2, 1]
    assert [int(batch.mask.sum(dim=1).max()) for _, batch in batches] == [5, 6]
    for index, batch in batches:
        assert torch.equal(batch.response_ids[:, 0], rows.response_ids[index, 0])


def test_an_index_is_sorted_by_length_and_stays_itself(rows):
    # Rows of 5, 6 and 5 tokens.
    assert rows.by_length(torch.tensor([1, 2, 0])).tolist() == [2, 0, 1]
    assert rows.by_length(torch.tensor([1, 0])).tolist() == [0, 1]
