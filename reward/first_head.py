"""The score head before the adapter moves: fitted alone on the start adapter's states.

A random head first teaches the adapter to move features that already say what is wanted. Fitting the head alone, then
both, keeps them: Kumar et al. 2022, "Fine-tuning can distort pretrained features", arXiv:2202.10054 (LP-FT).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reward.loss import bradley_terry_log_likelihood
from workbench.model.masks import pad_rows
from workbench.model.score import batches_by_length, pass_tokens

RIDGE = 0.005
"""Weight of ‖w‖² beside the mean loss."""


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
