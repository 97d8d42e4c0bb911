"""How much each token of a response adds to its score: integrated gradients by captum.

The one file that knows captum. Shapes: T = tokens of prompt and response, R = response tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

from workbench.model.roles import Roles

STEPS = (64, 128, 256, 512)
"""Points on the path from baseline to response; the next number is tried where the sum is off by more than allowed."""
TOLERANCE = 0.01
"""Of the difference between score and baseline's score (at least 1), by which the sum of all parts may be off."""
_BATCH = 16


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
    steps: int
    """Points on the path."""
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
        max(member.steps for member in members),
        tuple(member.score for member in members),
    )


def token_shares(roles: Roles, role: str, prompt: Sequence[int], response: Sequence[int]) -> TokenShares:
    """Take a response's score apart.

        share_t = Σ_d (x_td − x'_td) ∫₀¹ ∂score(x' + a (x − x')) / ∂x_td da,   Σ_t share_t = score(x) − score(x')

    x are the embeddings of prompt and response; in the baseline x' each response token but the last (EOS) is the
    unknown token. The prompt is the same in both, and so has no share.

    Source: Sundararajan et al. 2017, arXiv:1703.01365, eq. 1 and proposition 1 (completeness).

    Args:
        roles: the base with the reward adapter and its head.
        role: the reward role.
        prompt: token ids.
        response: token ids, EOS last.
    """
    tokenizer = roles.tokenizer
    nothing = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    ids = torch.tensor([[*prompt, *response]], device=roles.device)
    baseline = ids.clone()
    baseline[0, len(prompt) : -1] = nothing
    mask = torch.ones_like(ids, dtype=torch.bool)
    with roles.use(role) as forward:

        def score(rows: Tensor, mask: Tensor) -> Tensor:
            scores: Tensor = roles.heads[role](forward(rows, mask)[:, -1])
            return scores

        ends = float(score(ids, mask)), float(score(baseline, mask))
        method = LayerIntegratedGradients(score, roles.causal_model.get_input_embeddings())
        for steps in STEPS:
            with torch.enable_grad():
                parts = method.attribute(
                    ids, baseline, additional_forward_args=(mask,), n_steps=steps, internal_batch_size=_BATCH
                )
            shares = parts.detach().float().sum(dim=-1)[0, len(prompt) :].tolist()
            texts = [str(tokenizer.decode([token])) for token in response]
            found = TokenShares(texts, shares, *ends, steps)
            if found.complete:
                break
    return found
