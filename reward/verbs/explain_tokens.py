"""How much each token of a response adds to its score: Shapley values by captum.

The one file that knows captum. Shapes: R = response tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

import torch
from captum.attr import ShapleyValueSampling
from torch import Tensor

from workbench.model.roles import Roles
from workbench.run.progress import progress

ORDERS = (16, 128)
"""Fewest and most random orders in which tokens are put in place."""
PRECISION = 0.05
"""Standard error of a share, in standard deviations of the score, at which sampling of orders stops."""
TOLERANCE = 0.01
"""Largest error of the sum of all shares, relative to the difference of score and baseline score (at least 1)."""
_BATCH = 32


@dataclass(frozen=True)
class TokenShares:
    """A score split into shares of its tokens."""

    tokens: list[str]
    """(R,) the response's tokens as text."""
    shares: list[float]
    """(R,) what each token adds to the score, in the unit of the score."""
    score: float
    """Score of the response."""
    baseline_score: float
    """Score of a response of as many unknown tokens."""
    orders: int
    """Random orders that were sampled."""
    uncertainty: float
    """Largest standard error of a share, estimated over the orders."""
    member_scores: tuple[float, ...] = ()
    """For an ensemble, each member's score; `score` is their mean."""

    @property
    def gap(self) -> float:
        """Baseline score + sum of shares − score; 0 is complete."""
        return self.baseline_score + sum(self.shares) - self.score

    @property
    def complete(self) -> bool:
        """Whether the shares add up to the score within the tolerance."""
        return abs(self.gap) <= TOLERANCE * max(1.0, abs(self.score - self.baseline_score))


def mean_shares(members: Sequence[TokenShares]) -> TokenShares:
    """The mean score of an ensemble split into shares; by linearity these are the means of the members' shares.

    Args:
        members: of each model, for the same prompt and response.
    """
    if len(members) == 1:
        return members[0]
    return TokenShares(
        members[0].tokens,
        [fmean(shares) for shares in zip(*(member.shares for member in members), strict=True)],
        fmean(member.score for member in members),
        fmean(member.baseline_score for member in members),
        min(member.orders for member in members),
        sqrt(sum(member.uncertainty**2 for member in members)) / len(members),
        tuple(member.score for member in members),
    )


def token_shares(
    roles: Roles, role: str, prompt: Sequence[int], response: Sequence[int], *, seed: int = 0
) -> TokenShares:
    """Split a response's score into shares of its tokens.

        share_t = mean over orders of [score with the tokens up to and with t − score with those before t]

    Tokens replace the unknown token one by one, in random order; prompt and EOS are in place from the start. The shares
    of each order add up to score − baseline score. (Integrated gradients over embeddings do not converge, because the
    score jumps between two tokens.)

    Source: Castro et al. 2009, "Polynomial calculation of the Shapley value based on sampling", algorithm 1.

    Args:
        roles: the base with the reward adapter and its head.
        role: the reward role.
        prompt: token ids.
        response: token ids, EOS last.
        seed: of the orders.
    """
    tokenizer = roles.tokenizer
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    asked, answer = (torch.tensor([list(ids)], device=roles.device) for ids in (prompt, response))  # (1, P), (1, R)
    baseline = answer.clone()
    baseline[0, :-1] = unknown

    def score(answers: Tensor) -> Tensor:
        rows = torch.cat((asked.expand(len(answers), -1), answers), dim=1)
        return roles.scores(role, rows, torch.ones_like(rows, dtype=torch.bool))

    method = ShapleyValueSampling(score)
    shares: list[Tensor] = []  # (R,) per order
    devices = [roles.device] if roles.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for order in progress(range(ORDERS[1]), description="splitting the score", unit="order"):
            if order >= ORDERS[0] and _standard_error(shares) <= PRECISION:
                break
            shares.append(method.attribute(answer, baseline, n_samples=1, perturbations_per_eval=_BATCH)[0].cpu())
    return TokenShares(
        [str(tokenizer.decode([token])) for token in response],
        torch.stack(shares).mean(dim=0).tolist(),
        float(score(answer)),
        float(score(baseline)),
        len(shares),
        _standard_error(shares),
    )


def _standard_error(shares: Sequence[Tensor]) -> float:
    """The largest standard error of any token's mean share."""
    return float(torch.stack(list(shares)).std(dim=0).max()) / sqrt(len(shares))
