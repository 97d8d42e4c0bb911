"""Log-probabilities, entropy and KL from hidden states and the LM head, a chunk of tokens at a time.

No (tokens × vocabulary) tensor lives longer than one chunk, in the forward or in the backward pass: each chunk's
logits are recomputed for its gradient. Logits are float32 even if states and LM head are bfloat16: a bfloat16 logit
near 20 is known to ± 0.06 only, so that sampling and training would disagree about a token's probability (MiniMax 2025,
arXiv:2506.13585, section 3.2). On a CPU the cores share the tokens. Shapes: N = selected tokens, D = hidden,
V = vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workbench.model.cpu.blocks import cores, on_each_core

CHUNK = 2048
"""Tokens whose logits exist at the same time."""


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
        chunk: tokens per chunk.

    Returns:
        logprobs: (N,) float32. entropy: (N,) float32.
    """
    assert hidden.ndim == 2
    assert targets.shape == hidden.shape[:1]
    assert not lm_head.requires_grad
    logprobs, entropy = _TokenLogprobs.apply(hidden, lm_head, targets, temperature, chunk)
    return logprobs, entropy


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
        chunk: tokens per chunk.

    Returns:
        (N,) float32, at least 0 up to rounding. No gradient.
    """
    assert hidden.shape == other_hidden.shape
    kl = hidden.new_empty(len(hidden), dtype=_wide(hidden))
    head = _factor(lm_head, hidden)

    def fill(rows: slice) -> None:
        p = _log_softmax(hidden[rows], head, temperature)
        q = _log_softmax(other_hidden[rows], head, temperature)
        kl[rows] = (p.exp() * (p - q)).sum(dim=-1)

    _for_each_chunk(fill, hidden, chunk)
    return kl


class _TokenLogprobs(torch.autograd.Function):
    """`token_logprobs` with its gradient written out, so that a chunk's logits are gone when the next chunk's are made.

    Checkpointing each chunk instead keeps what was recomputed for the entropy until the whole backward pass has ended,
    wherever a loss uses the log-probabilities alone.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, lm_head: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """Both outputs, chunk by chunk."""
        ctx.set_materialize_grads(False)
        logprobs, entropy = (hidden.new_empty(len(hidden), dtype=_wide(hidden)) for _ in range(2))
        head = _factor(lm_head, hidden)

        def fill(rows: slice) -> None:
            logprobs[rows], entropy[rows] = _chunk_logprobs(hidden[rows], head, targets[rows], temperature)

        _for_each_chunk(fill, hidden, chunk)
        ctx.save_for_backward(hidden, lm_head, targets, entropy)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logprobs, entropy

    @staticmethod
    def backward(
        ctx: Any, of_logprobs: Tensor | None, of_entropy: Tensor | None
    ) -> tuple[Tensor, None, None, None, None]:
        """The gradient of the hidden states."""
        hidden, lm_head, targets, entropy = ctx.saved_tensors
        gradient, head = torch.empty_like(hidden), _factor(lm_head, hidden)

        def fill(rows: slice) -> None:
            of_logits = _logit_gradient(
                _log_softmax(hidden[rows], head, ctx.temperature),
                targets[rows],
                entropy[rows],
                None if of_logprobs is None else of_logprobs[rows],
                None if of_entropy is None else of_entropy[rows],
            )
            gradient[rows] = of_logits.div_(ctx.temperature).to(head.dtype) @ head

        _for_each_chunk(fill, hidden, ctx.chunk)
        return gradient, None, None, None, None


def _logit_gradient(
    log_p: Tensor, targets: Tensor, entropy: Tensor, of_logprobs: Tensor | None, of_entropy: Tensor | None
) -> Tensor:
    r"""Gradient of Σ_n a_n logprob_n + b_n entropy_n in the logits z = W h / T; takes log_p's memory for it.

        ∂/∂z_v = a (1[v = target] − p_v) − b p_v (log p_v + entropy)

    Args:
        log_p: (n, V) log-probabilities; overwritten.
        targets: (n,) int64.
        entropy: (n,).
        of_logprobs: (n,) a, or None for 0.
        of_entropy: (n,) b, or None for 0.
    """
    if of_entropy is None:
        assert of_logprobs is not None, "autograd asks for no gradient"
        gradient = log_p.exp_().mul_(-of_logprobs.unsqueeze(1))
    else:
        p = log_p.exp()
        gradient = log_p.add_(entropy.unsqueeze(1)).mul_(-of_entropy.unsqueeze(1))
        if of_logprobs is not None:
            gradient.sub_(of_logprobs.unsqueeze(1))
        gradient.mul_(p)
    if of_logprobs is not None:
        gradient.scatter_add_(1, targets.unsqueeze(1), of_logprobs.unsqueeze(1).to(gradient.dtype))
    return gradient


def _for_each_chunk(fill: Callable[[slice], None], hidden: Tensor, chunk: int) -> None:
    """Call `fill` for the rows of each chunk; on a CPU the cores share the rows, and the chunk at one time."""
    on_cpu = hidden.device.type == "cpu"
    size = max(min(chunk, len(hidden)) // (cores() if on_cpu else 1), 1)
    chunks = [slice(start, start + size) for start in range(0, len(hidden), size)]
    quiet = torch.no_grad()(fill)  # each thread has a mode of its own
    if on_cpu:
        on_each_core(quiet, chunks)
    else:
        for rows in chunks:
            quiet(rows)


def _wide(hidden: Tensor) -> torch.dtype:
    """float32, or float64 where the states are."""
    return torch.promote_types(hidden.dtype, torch.float32)


def _factor(lm_head: Tensor, hidden: Tensor) -> Tensor:
    """The LM head as products with the states take it: as it is on a GPU; in float32 on a CPU, which has no product
    of bfloat16 numbers with a float32 result."""
    return lm_head.to(hidden.dtype if hidden.is_cuda else _wide(hidden))


def _logits(hidden: Tensor, head: Tensor) -> Tensor:
    """(n, V) float32, of states (n, D) in any dtype and the head from `_factor`."""
    if hidden.dtype == head.dtype != _wide(hidden):
        return torch.mm(hidden, head.T, out_dtype=_wide(hidden))
    return hidden.to(head.dtype) @ head.T


def _log_softmax(hidden: Tensor, head: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(_logits(hidden, head) / temperature, dim=-1)


def _chunk_logprobs(hidden: Tensor, head: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_p = _log_softmax(hidden, head, temperature)
    logprobs = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return logprobs, entropy
