import torch
from transformers import LlamaConfig

from reward.head import RIDGE, first_head, fit_linear_head


def test_the_linear_head_is_where_the_gradient_vanishes():
    # One dimension, N pairs a of weight 1: 2 RIDGE w = mean (1 − σ(w a)) a, solved by bisection.
    apart = torch.tensor([[1.0], [2.0], [-1.0]])
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        slope = ((1 - torch.sigmoid(middle * apart)) * apart).mean() - 2 * RIDGE * middle
        low, high = (middle, high) if slope > 0 else (low, middle)
    assert abs(float(fit_linear_head(apart, torch.ones(3))) - low) < 1e-3


def test_weight_zero_is_absent():
    apart = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.cat((torch.ones(30), torch.zeros(20)))
    torch.testing.assert_close(
        fit_linear_head(apart, weights), fit_linear_head(apart[:30], torch.ones(30)), rtol=1e-3, atol=1e-3
    )


class Trunk(torch.nn.Module):
    """States are the token ids themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))
        self.config = LlamaConfig(hidden_size=1, num_attention_heads=1)

    @property
    def base_model(self):
        return self

    @property
    def model(self):
        return self

    def forward(self, input_ids, attention_mask, use_cache):
        states = input_ids.unsqueeze(-1).float() * attention_mask.unsqueeze(-1)
        return type("Output", (), {"last_hidden_state": states})


def test_decided_pairs_of_several_groups_and_no_ties():
    groups = [
        {"ids": [[1, 5], [1, 2, 3]], "chosen": [0], "rejected": [1], "level": [1.0], "weight": [1.0]},
        {"ids": [[4], [9, 9], [2]], "chosen": [1, 0], "rejected": [0, 2], "level": [0.0, 2.0], "weight": [1.0, 0.5]},
    ]
    # Pairs without ties: 5 over 3 with weight 1, 4 over 2 with weight ½.
    found = first_head(Trunk(), groups, 0, batch_size=2)
    torch.testing.assert_close(found, fit_linear_head(torch.tensor([[2.0], [2.0]]), torch.tensor([1.0, 0.5])))
