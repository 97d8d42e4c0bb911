"""Log-probabilities, entropy and KL from hidden states and the LM head, a chunk of tokens at a time.

No (tokens × vocabulary) tensor lives longer than one chunk, in the forward or in the backward pass: each chunk's
logits are recomputed for its gradient. Shapes: N = selected tokens, D = hidden, V = vocabulary.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 2048
"""Tokens whose logits exist at one time."""


def token_logprobs(
    hidden: Tensor, lm_head: Tensor, targets: Tensor, *, temperature: float = 1.0, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    r"""Log-probability of each target token, and the entropy of the distribution it was taken from.

        logprob_n = log softmax(W h_n / T)[target_n]
        entropy_n = −Σ_v p_v log p_v,  p = softmax(W h_n / T)

    Args:
        hidden: (N, D) final hidden states (after the last norm) that predict the targets; may need gradients.
        lm_head: (V, D) the LM head; frozen.
        targets: (N,) int64.
        temperature: T > 0, the sampling temperature.
        chunk: tokens a chunk.

    Returns:
        logprobs: (N,) float32. entropy: (N,) float32.
    """
    assert hidden.ndim == 2
    assert targets.shape == hidden.shape[:1]
    parts = []
    for start in range(0, len(hidden), chunk):
        rows, wanted = hidden[start : start + chunk], targets[start : start + chunk]
        if torch.is_grad_enabled() and rows.requires_grad:
            parts.append(checkpoint(_chunk_logprobs, rows, lm_head, wanted, temperature, use_reentrant=False))
        else:
            parts.append(_chunk_logprobs(rows, lm_head, wanted, temperature))
    if not parts:
        empty = hidden.new_zeros(0, dtype=torch.float32)
        return empty, empty
    logprobs, entropy = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


def token_kl(
    hidden: Tensor, other_hidden: Tensor, lm_head: Tensor, *, temperature: float = 1.0, chunk: int = CHUNK
) -> Tensor:
    r"""Exact KL divergence between two next-token distributions of one LM head, summed over the vocabulary.

        kl_n = Σ_v p_v (log p_v − log q_v),  p = softmax(W h_n / T), q = softmax(W g_n / T)

    Args:
        hidden: (N, D) states h of the distribution p (the policy).
        other_hidden: (N, D) states g of the distribution q (the reference).
        lm_head: (V, D) shared LM head.
        temperature: T > 0.
        chunk: tokens a chunk.

    Returns:
        (N,) float32, at least 0 up to rounding. No gradient.
    """
    assert hidden.shape == other_hidden.shape
    with torch.no_grad():
        parts = []
        for start in range(0, len(hidden), chunk):
            p = _log_softmax(hidden[start : start + chunk], lm_head, temperature)
            q = _log_softmax(other_hidden[start : start + chunk], lm_head, temperature)
            parts.append((p.exp() * (p - q)).sum(dim=-1))
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def _log_softmax(hidden: Tensor, lm_head: Tensor, temperature: float) -> Tensor:
    logits = (hidden @ lm_head.to(hidden.dtype).T).float()
    return torch.log_softmax(logits / temperature, dim=-1)


def _chunk_logprobs(hidden: Tensor, lm_head: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_p = _log_softmax(hidden, lm_head, temperature)
    logprobs = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return logprobs, entropy
