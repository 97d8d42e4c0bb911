"""The score head that the trainer trains, and its first weight, fitted alone on the start adapter's states.

Trained from a random head, the adapter first distorts features that already tell good answers from bad ones. Fitting
the head alone and then both keeps them: Kumar et al. 2022, "Fine-tuning can distort pretrained features",
arXiv:2202.10054 (LP-FT).

Shapes: N = rows or pairs, D = hidden, S = levels of strength.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reward.loss import bradley_terry_log_likelihood, first_thresholds, thresholds_of
from workbench.model.masks import pad_rows
from workbench.model.score import batches_by_length, pass_tokens

RIDGE = 0.005
"""Weight of ‖w‖², added to the mean loss."""


class ScoreHead(nn.Linear):
    """The score head that the trainer trains: its weight, and the thresholds of the ordinal loss.

    Weight, product and score are float32 whatever the dtype of the pass, as in `workbench.model.heads.ScalarHead`: a
    step of 1e-5 would not change four of five bfloat16 weights.

    Args:
        weight: (1, D) first weight.
        shares: (S + 1,) share of training pairs at each level, ties first.
    """

    def __init__(self, weight: Tensor, shares: Tensor) -> None:
        super().__init__(weight.shape[1], 1, bias=False, dtype=torch.float32, device=weight.device)
        self.weight.data.copy_(weight)
        self.ties = bool(shares[0] > 0)
        # Inverse softplus of the steps between the first thresholds; see `thresholds_of`.
        steps = first_thresholds(shares).diff(prepend=torch.zeros(1))[0 if self.ties else 1 :]
        self.raw_thresholds = nn.Parameter(torch.log(torch.expm1(steps.clamp(min=1e-2))).to(weight.device))

    def forward(self, input: Tensor) -> Tensor:
        """(…, D) → (…, 1) float32, outside the trainer's autocast."""
        with torch.autocast(input.device.type, enabled=False):
            scores = nn.functional.linear(input.float(), self.weight)
            # The loss uses the thresholds directly, but DDP needs every trained parameter to reach the output.
            return scores + 0.0 * self.raw_thresholds.sum()

    @property
    def thresholds(self) -> Tensor:
        """(S,) θ of the ordinal loss, ascending."""
        return thresholds_of(self.raw_thresholds.float(), ties=self.ties)


def last_states(model: Any, rows: Sequence[Sequence[int]], pad_token_id: int, *, batch_size: int) -> Tensor:
    """(N, D) float32 hidden states of each row's last token, in the order of the rows, on the CPU; no gradient."""
    trunk, device = model.base_model.model.model, next(model.parameters()).device
    states = torch.zeros(len(rows), model.config.hidden_size)
    lengths = [len(row) for row in rows]
    model.eval()
    with torch.no_grad():
        for batch in batches_by_length(lengths, batch_size=batch_size, batch_tokens=pass_tokens(device)):
            ids, mask = (t.to(device) for t in pad_rows([list(rows[index]) for index in batch], pad_token_id))
            hidden = trunk(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state  # (B, T, D)
            states[batch] = hidden[torch.arange(len(batch), device=device), mask.sum(dim=1) - 1].float().cpu()
    return states


def fit_linear_head(differences: Tensor, weights: Tensor) -> Tensor:
    """(D,) w that maximises Σ weight · log σ(w·difference) / Σ weight − RIDGE ‖w‖².

    Args:
        differences: (N, D) float32, the chosen response's state minus the rejected one's.
        weights: (N,) float32 ≥ 0.
    """
    head = nn.Parameter(differences.new_zeros(differences.shape[1]))
    optimizer = torch.optim.LBFGS([head], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        fitted = (weights * bradley_terry_log_likelihood(differences @ head)).sum() / weights.sum()
        loss = RIDGE * head.square().sum() - fitted
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.detach()


def first_head(model: Any, groups: Sequence[dict[str, Any]], pad_token_id: int, *, batch_size: int) -> Tensor:
    """(D,) first weight of the score head, fitted to the pairs without ties of prompt groups (`RewardData.train`)."""
    rows = [row for group in groups for row in group["ids"]]
    states = last_states(model, rows, pad_token_id, batch_size=batch_size)
    chosen: list[int] = []
    rejected: list[int] = []
    weights: list[float] = []
    first = 0
    for group in groups:
        decided = [index for index, level in enumerate(group["level"]) if level > 0]
        chosen += [first + group["chosen"][index] for index in decided]
        rejected += [first + group["rejected"][index] for index in decided]
        weights += [group["weight"][index] for index in decided]
        first += len(group["ids"])
    return fit_linear_head(states[chosen] - states[rejected], torch.tensor(weights))
