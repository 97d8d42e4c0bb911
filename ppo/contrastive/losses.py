"""Contrastive losses: functions of the log-probabilities of chosen and rejected responses. Pure.

Every pairwise method is one line of two tables: the gap that it compares, and the penalty of that gap. B = pairs.

| method | gap h | penalty ℓ(h) |
|---|---|---|
| dpo | β (log π/ρ (c) − log π/ρ (r)) | −log σ(h) |
| hinge | as dpo | max(0, 1 − h) |
| ipo | log π/ρ (c) / |c| − log π/ρ (r) / |r| | (h − 1/(2β))² |
| slic | β (log π(c) − log π(r)) | max(0, 1 − h) |
| simpo | β (log π(c) / |c| − log π(r) / |r|) | −log σ(h) |
| orpo | log odds(c) − log odds(r), odds = p / (1 − p), p = π^(1/|y|) | −β log σ(h) |
| sft | as slic | 0: only the likelihood of the chosen response trains |

π is the policy, ρ the reference, |y| the tokens of a response y. Options of each (of sft, only the last two): a margin
and a length penalty inside the gap, a label of known doubt, a weight per pair, the likelihood of the chosen response.
KTO reads single responses: `kto_losses`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


@dataclass(frozen=True)
class PairLogprobs:
    """Both responses of B pairs, (B,) each: log-probabilities summed over a response's tokens, in nats."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    """Of the frozen reference, without gradient."""
    reference_rejected: Tensor
    chosen_tokens: Tensor
    """Tokens of the response, EOS included, as float."""
    rejected_tokens: Tensor

    @property
    def chosen_logratio(self) -> Tensor:
        """log π(c) − log ρ(c)."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_logratio(self) -> Tensor:
        """log π(r) − log ρ(r)."""
        return self.rejected - self.reference_rejected


def dpo_gap(pairs: PairLogprobs, beta: float) -> Tensor:
    """(B,) difference of the implicit rewards β log(π/ρ) of the two responses.

    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7. Also the gap of `hinge`: Zhao et al. 2023's hinge with a
    reference, as TRL's DPOTrainer(loss_type="hinge").
    """
    return beta * (pairs.chosen_logratio - pairs.rejected_logratio)


def ipo_gap(pairs: PairLogprobs, beta: float) -> Tensor:
    """(B,) difference of the log-ratios per token.

    Source: Azar et al. 2023, arXiv:2310.12036, eq. 17, whose τ is β. The paper sums over tokens; like TRL, we divide by
    the length, so that β means the same for short and long responses.
    """
    return pairs.chosen_logratio / pairs.chosen_tokens - pairs.rejected_logratio / pairs.rejected_tokens


def slic_gap(pairs: PairLogprobs, beta: float) -> Tensor:
    """(B,) scaled difference of the log-probabilities, without a reference.

    Source: Zhao et al. 2023, arXiv:2305.10425, eq. 4, divided by its δ: β = 1/δ.
    """
    return beta * (pairs.chosen - pairs.rejected)


def simpo_gap(pairs: PairLogprobs, beta: float) -> Tensor:
    """(B,) scaled difference of the log-probabilities per token, without a reference.

    Source: Meng et al. 2024, arXiv:2405.14734, eq. 6; its γ is the margin.
    """
    return beta * (pairs.chosen / pairs.chosen_tokens - pairs.rejected / pairs.rejected_tokens)


def orpo_gap(pairs: PairLogprobs, beta: float) -> Tensor:
    """(B,) log odds ratio of the probabilities per token; β, the paper's λ, weighs the penalty instead.

    Source: Hong et al. 2024, arXiv:2403.07691, eqs. 3, 4 and 7.
    """
    return log_odds(pairs.chosen / pairs.chosen_tokens) - log_odds(pairs.rejected / pairs.rejected_tokens)


def log_odds(logprobs: Tensor) -> Tensor:
    """log(p / (1 − p)) from log p ≤ 0.

    Two forms of log(1 − p), each exact on its side of p = ½ (Mächler 2012, "Accurately computing log(1 − exp(−|a|))").
    """
    logprobs = logprobs.clamp(max=-torch.finfo(logprobs.dtype).eps)  # p = 1 has no odds
    near_one = logprobs > -0.6931
    log_rest = torch.where(near_one, torch.log(-torch.expm1(logprobs)), torch.log1p(-logprobs.exp()))
    return logprobs - log_rest


def logistic(gaps: Tensor, beta: float) -> Tensor:
    """−log σ(h)."""
    return -logsigmoid(gaps)


def hinge(gaps: Tensor, beta: float) -> Tensor:
    """max(0, 1 − h)."""
    return relu(1 - gaps)


def squared(gaps: Tensor, beta: float) -> Tensor:
    """(h − 1/(2β))²."""
    return (gaps - 1 / (2 * beta)) ** 2


def weighted_logistic(gaps: Tensor, beta: float) -> Tensor:
    """−β log σ(h)."""
    return -beta * logsigmoid(gaps)


def nothing(gaps: Tensor, beta: float) -> Tensor:
    """0."""
    return torch.zeros_like(gaps)


METHODS: dict[str, tuple[Callable[[PairLogprobs, float], Tensor], Callable[[Tensor, float], Tensor]]] = {
    "dpo": (dpo_gap, logistic),
    "hinge": (dpo_gap, hinge),
    "ipo": (ipo_gap, squared),
    "slic": (slic_gap, hinge),
    "simpo": (simpo_gap, logistic),
    "orpo": (orpo_gap, weighted_logistic),
    "sft": (slic_gap, nothing),
}
"""Method → its gap and its penalty."""

WITHOUT_REFERENCE = ("slic", "simpo", "orpo", "sft")
"""Methods whose loss does not read the reference."""


def label_targets(probabilities: Tensor, flip_rate: float, *, unbiased: bool) -> Tensor:
    """(B,) weight q of "chosen is better" in the loss q ℓ(h) + (1 − q) ℓ(−h).

        smoothed (cDPO):  q = (1 − ε) p + ε (1 − p)
        unbiased (rDPO):  q = (p − ε) / (1 − 2ε)

    The smoothed loss is the expected loss if labels are flipped at rate ε. The unbiased one, averaged over flipped
    labels, equals the loss of the true labels; its q exceeds 1.

    Source: cDPO: Mitchell 2023, "A note on DPO with noisy preferences", eq. 3. rDPO: Chowdhury et al. 2024,
    arXiv:2403.00409, eq. 10.

    Args:
        probabilities: (B,) probability p that the chosen response is the better one; 1 for a certain label.
        flip_rate: ε in [0, ½).
        unbiased: rDPO's target instead of cDPO's.
    """
    if unbiased:
        return (probabilities - flip_rate) / (1 - 2 * flip_rate)
    return (1 - flip_rate) * probabilities + flip_rate * (1 - probabilities)


def pair_losses(
    method: str,
    pairs: PairLogprobs,
    *,
    beta: float,
    targets: Tensor | float = 1.0,
    margins: Tensor | float = 0.0,
    length_coef: float = 0.0,
) -> Tensor:
    """(B,) preference loss of each pair.

        q ℓ(h) + (1 − q) ℓ(−h),   h = gap − margin + α (|c| − |r|)

    Source: the margin: Amini et al. 2024, arXiv:2402.10571, eq. 8 (ODPO). The length penalty: Park et al. 2024,
    arXiv:2403.19159, eq. 9 (R-DPO): a chosen response earns nothing by its length alone.

    Args:
        method: a key of `METHODS`.
        pairs: log-probabilities.
        beta: β > 0; see the method's gap.
        targets: (B,) or one number, q, see `label_targets`.
        margins: (B,) or one number, by how much the gap has to exceed 0.
        length_coef: α ≥ 0, per token.
    """
    gap, penalty = METHODS[method]
    gaps = gap(pairs, beta) - margins + length_coef * (pairs.chosen_tokens - pairs.rejected_tokens)
    return targets * penalty(gaps, beta) + (1 - targets) * penalty(-gaps, beta)


def chosen_nll(pairs: PairLogprobs) -> Tensor:
    """(B,) −log π(c) / |c|, the likelihood term of SLiC-HF, ORPO and RPO.

    Source: RPO: Pang et al. 2024, arXiv:2404.19733, eq. 1.
    """
    return -pairs.chosen / pairs.chosen_tokens


def kto_losses(
    logratios: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """(B,) KTO's loss of single responses, each marked as desirable or not.

        λ_D (1 − σ(β (log π/ρ − z₀)))  if desirable,   λ_U (1 − σ(β (z₀ − log π/ρ)))  if not,   z₀ = max(0, kl)

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, eqs. 7 and 8.

    Args:
        logratios: (B,) log π(y) − log ρ(y), in nats.
        desirable: (B,) bool.
        kl: () mean log-ratio of responses to other prompts, an estimate of KL(π‖ρ); no gradient flows through it.
        beta: β > 0.
        desirable_weight, undesirable_weight: λ_D, λ_U; they balance unequal numbers of the two kinds.
    """
    ahead = beta * (logratios - kl.detach().clamp(min=0))
    return torch.where(desirable, desirable_weight * torch.sigmoid(-ahead), undesirable_weight * torch.sigmoid(ahead))
