"""The score head before the adapter moves: fitted alone on the start adapter's states.

A random head first teaches the adapter to move features that already say what is wanted. Fitting the head alone, then
both, keeps them: Kumar et al. 2022, "Fine-tuning can distort pretrained features", arXiv:2202.10054 (LP-FT).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reward.loss import bradley_terry_log_likelihood, first_thresholds, thresholds_of
from workbench.model.masks import pad_rows
from workbench.model.score import batches_by_length, pass_tokens

RIDGE = 0.005
"""Weight of ‖w‖² beside the mean loss."""


class ScoreHead(nn.Linear):
    """The score head that the trainer trains, with the thresholds of the ordinal loss beside its weight.

    Weight, product and score are float32 whatever the pass is in, as in `workbench.model.heads.ScalarHead`: a step of
    1e-5 would leave four of five bfloat16 weights where they are.

    Args:
        weight: (1, D) first weight.
        shares: (S + 1,) share of training pairs at each level, ties first.
    """

    def __init__(self, weight: Tensor, shares: Tensor) -> None:
        super().__init__(weight.shape[1], 1, bias=False, dtype=torch.float32, device=weight.device)
        self.weight.data.copy_(weight)
        self.ties = bool(shares[0] > 0)
        steps = first_thresholds(shares).diff(prepend=torch.zeros(1))[0 if self.ties else 1 :]
        self.raw_thresholds = nn.Parameter(torch.log(torch.expm1(steps.clamp(min=1e-2))).to(weight.device))

    def forward(self, input: Tensor) -> Tensor:
        """(…, D) → (…, 1) float32, outside the trainer's autocast."""
        with torch.autocast(input.device.type, enabled=False):
            scores = nn.functional.linear(input.float(), self.weight)
            # DDP takes parameters that the output does not depend on for unused; the loss uses the thresholds itself.
            return scores + 0.0 * self.raw_thresholds.sum()

    @property
    def thresholds(self) -> Tensor:
        """(S,) θ of the ordinal loss, ascending."""
        return thresholds_of(self.raw_thresholds.float(), ties=self.ties)


def last_states(model: Any, rows: Sequence[Sequence[int]], pad_token_id: int, *, batch_size: int) -> Tensor:
    """(N, D) float32 states of the last token of each row, in the order of the rows, on the CPU; no gradient."""
    trunk, device = model.base_model.model.model, next(model.parameters()).device
    found = torch.zeros(len(rows), model.config.hidden_size)
    lengths = [len(row) for row in rows]
    model.eval()
    with torch.no_grad():
        for batch in batches_by_length(lengths, batch_size=batch_size, batch_tokens=pass_tokens(device)):
            ids, mask = (t.to(device) for t in pad_rows([list(rows[place]) for place in batch], pad_token_id))
            hidden = trunk(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
            found[batch] = hidden[torch.arange(len(batch), device=device), mask.sum(dim=1) - 1].float().cpu()
    return found


def fit_linear_head(apart: Tensor, weights: Tensor) -> Tensor:
    """(D,) w that maximises Σ weight · log σ(w·apart) / Σ weight − RIDGE ‖w‖².

    Args:
        apart: (N, D) float32, the chosen response's state minus the rejected one's.
        weights: (N,) float32 ≥ 0.
    """
    head = nn.Parameter(apart.new_zeros(apart.shape[1]))
    optimizer = torch.optim.LBFGS([head], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        fitted = (weights * bradley_terry_log_likelihood(apart @ head)).sum() / weights.sum()
        loss = RIDGE * head.square().sum() - fitted
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.detach()


def first_head(model: Any, groups: Sequence[dict[str, Any]], pad_token_id: int, *, batch_size: int) -> Tensor:
    """(D,) first weight of the score head, from the decided pairs of the prompt groups (`reward.data.RewardData`)."""
    rows = [row for group in groups for row in group["ids"]]
    states = last_states(model, rows, pad_token_id, batch_size=batch_size)
    chosen: list[int] = []
    rejected: list[int] = []
    weights: list[float] = []
    first = 0
    for group in groups:
        decided = [place for place, level in enumerate(group["level"]) if level > 0]
        chosen += [first + group["chosen"][place] for place in decided]
        rejected += [first + group["rejected"][place] for place in decided]
        weights += [group["weight"][place] for place in decided]
        first += len(group["ids"])
    return fit_linear_head(states[chosen] - states[rejected], torch.tensor(weights))
