"""Rows in which both responses of a pair follow one prompt."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel

from ppo.contrastive.shared import CHOSEN, PADDING, PROMPT, REJECTED, shared_rows, shares_prompts


def test_the_layout_of_a_row():
    rows = shared_rows([[1, 5, 6], [1]], [[7, 2], [8, 9, 2]], [[4, 2], [2]], pad_id=0)
    assert rows["input_ids"].tolist() == [[1, 5, 6, 7, 2, 6, 4, 2], [1, 8, 9, 2, 1, 2, 0, 0]]
    assert rows["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 4], [0, 1, 2, 3, 0, 1, 0, 0]]
    assert rows["shift_labels"].tolist() == [
        [-100, -100, 7, 2, -100, 4, 2, -100],
        [8, 9, 2, -100, 2, -100, -100, -100],
    ]
    first = [PROMPT] * 2 + [CHOSEN] * 3 + [REJECTED] * 3
    assert rows["sides"].tolist() == [first, [CHOSEN] * 4 + [REJECTED] * 2 + [PADDING] * 2]


def test_a_branch_sees_the_prompt_and_itself():
    mask = shared_rows([[1, 5, 6]], [[7, 2]], [[4, 2]], pad_id=0)["attention_mask"]
    assert mask.shape == (1, 1, 8, 8)
    seen = [torch.nonzero(row).flatten().tolist() for row in mask[0, 0]]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 5], [0, 1, 5, 6], [0, 1, 5, 6, 7]]


SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}


@pytest.mark.parametrize(
    ("decoder", "attention", "kernels", "expected"),
    [
        (LlamaModel(LlamaConfig(**SMALL)), "sdpa", "modules", True),
        (LlamaModel(LlamaConfig(**SMALL)), "eager", "modules", False),  # it would add the mask to the scores
        (LlamaModel(LlamaConfig(**SMALL)), "flash_attention_2", "modules", False),
        (LlamaModel(LlamaConfig(**SMALL)), "sdpa", "auto", False),
        (MistralModel(MistralConfig(**SMALL, num_key_value_heads=1)), "sdpa", "modules", False),  # sliding windows
    ],
)
def test_only_models_that_read_the_mask_get_such_rows(decoder, attention, kernels, expected):
    decoder.config._attn_implementation = attention
    decoder.kernels = kernels
    decoder.requires_grad_(False)
    assert shares_prompts(SimpleNamespace(model=decoder), recomputes=False) is expected
