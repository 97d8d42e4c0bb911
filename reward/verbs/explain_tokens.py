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
"""Fewest and most random orders in which the tokens are put in place."""
PRECISION = 0.05
"""Standard error of a share, in deviations of the score, at which no further order is tried."""
TOLERANCE = 0.01
"""Of the difference between score and baseline's score (at least 1), by which the sum of all parts may be off."""
_BATCH = 32


@dataclass(frozen=True)
class TokenShares:
    """A score taken apart by tokens."""

    tokens: list[str]
    """(R,) the response's tokens as text."""
    shares: list[float]
    """(R,) what each of them adds to the score, in the score's unit."""
    score: float
    """Of the response."""
    baseline_score: float
    """Of the same number of tokens that say nothing."""
    orders: int
    """Random orders that were tried."""
    uncertainty: float
    """Largest standard error of a share, from how it differs between the orders."""
    member_scores: tuple[float, ...] = ()
    """Of an ensemble, each member's score, of which `score` is the mean."""

    @property
    def gap(self) -> float:
        """By how much baseline and parts together miss the score: 0 is complete."""
        return self.baseline_score + sum(self.shares) - self.score

    @property
    def complete(self) -> bool:
        """Whether the parts add up to the score, up to the tolerance."""
        return abs(self.gap) <= TOLERANCE * max(1.0, abs(self.score - self.baseline_score))


def mean_shares(members: Sequence[TokenShares]) -> TokenShares:
    """The mean score of an ensemble taken apart: what a token adds to a mean is the mean of what it adds.

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
    """Take a response's score apart.

        share_t = mean over orders of [score with the tokens up to and with t − score with those before t]

    Tokens are put in place one by one, in random order, where the unknown token stood; prompt and EOS stand from the
    start. The parts of each order add up to score − baseline's score. (Integrated gradients on the embeddings do not
    converge: between two tokens the score jumps.)

    Source: Castro et al. 2009, "Polynomial calculation of the Shapley value based on sampling", algorithm 1.

    Args:
        roles: the base with the reward adapter and its head.
        role: the reward role.
        prompt: token ids.
        response: token ids, EOS last.
        seed: of the orders.
    """
    tokenizer = roles.tokenizer
    nothing = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    asked, answer = (torch.tensor([list(ids)], device=roles.device) for ids in (prompt, response))
    baseline = answer.clone()
    baseline[0, :-1] = nothing

    def score(answers: Tensor) -> Tensor:
        rows = torch.cat((asked.expand(len(answers), -1), answers), dim=1)
        return roles.scores(role, rows, torch.ones_like(rows, dtype=torch.bool))

    method = ShapleyValueSampling(score)
    found: list[Tensor] = []
    devices = [roles.device] if roles.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for tried in progress(range(ORDERS[1]), description="taking the score apart", unit="order"):
            if tried >= ORDERS[0] and _standard_error(found) <= PRECISION:
                break
            found.append(method.attribute(answer, baseline, n_samples=1, perturbations_per_eval=_BATCH)[0].cpu())
    return TokenShares(
        [str(tokenizer.decode([token])) for token in response],
        torch.stack(found).mean(dim=0).tolist(),
        float(score(answer)),
        float(score(baseline)),
        len(found),
        _standard_error(found),
    )


def _standard_error(found: Sequence[Tensor]) -> float:
    """The largest one of any token's mean share."""
    return float(torch.stack(list(found)).std(dim=0).max()) / sqrt(len(found))
