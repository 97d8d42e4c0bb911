"""Masks and positions, by hand and by their properties."""

import pytest
import torch

from workbench.model.masks import causal_mask, ended, last_tokens, pad_rows, position_ids, response_mask

PAD, EOS = 9, 2


def test_positions_by_hand():
    # A row without padding, one padded on the left, one on the right, one that is nothing but padding.
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]])
    assert torch.equal(position_ids(mask), expected)
    assert torch.equal(position_ids(mask.bool()), expected)
    assert position_ids(mask.bool()).dtype == torch.int64


@pytest.mark.parametrize("side", ["left", "right"])
def test_real_tokens_count_from_zero_whatever_the_side(side):
    rows = [[5, 6, 7], [5], [5, 6]]
    _, mask = pad_rows(rows, PAD, side=side)
    for row, real, positions in zip(rows, mask, position_ids(mask), strict=True):
        assert positions[real].tolist() == list(range(len(row)))


def test_each_token_reads_itself_and_the_real_tokens_before_it():
    mask = torch.tensor([[False, True, True], [True, False, True]])
    expected = [
        [[True, False, False], [False, True, False], [False, True, True]],
        [[True, False, False], [True, True, False], [True, False, True]],
    ]
    assert causal_mask(mask)[:, 0].tolist() == expected


def test_padding_on_the_right_needs_no_mask():
    assert causal_mask(torch.tensor([[True, True, True], [True, False, False], [False, False, False]])) is None
    assert causal_mask(torch.tensor([[True, True, True], [False, True, True]])) is not None


def test_response_ends_with_its_first_eos():
    ids = torch.tensor([[5, EOS, 6, EOS], [5, 6, 7, 8], [EOS, 5, 5, 5], [5, 6, 7, EOS]])
    mask = response_mask(ids, EOS)
    assert mask.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False], [True] * 4]
    assert ended(ids, EOS, mask).tolist() == [True, False, True, True]


def test_an_eos_in_the_padding_ends_nothing():
    ids = torch.tensor([[5, 6, EOS]])
    assert not ended(ids, EOS, torch.tensor([[True, True, False]])).any()


def test_padding_by_hand():
    ids, mask = pad_rows([[5, 6], [7], []], PAD)
    assert ids.tolist() == [[5, 6], [7, PAD], [PAD, PAD]]
    assert mask.tolist() == [[True, True], [True, False], [False, False]]
    ids, mask = pad_rows([[5, 6], [7]], PAD, side="left")
    assert ids.tolist() == [[5, 6], [PAD, 7]]
    assert mask.tolist() == [[True, True], [False, True]]


def test_a_pad_token_within_a_row_is_real():
    _, mask = pad_rows([[PAD, 5, PAD], [5]], PAD)
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_no_rows():
    ids, mask = pad_rows([], PAD)
    assert ids.shape == mask.shape == (0, 0)


def test_the_last_token_of_each_row():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    assert last_tokens(mask).int().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert torch.equal(last_tokens(mask.bool()), last_tokens(mask))
