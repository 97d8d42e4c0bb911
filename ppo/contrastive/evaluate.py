"""How a contrastive policy does on held-out pairs, each pair counted once."""

from collections.abc import Sequence

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import Row, column, logprobs_of
from ppo.contrastive.losses import METHODS, chosen_nll, pair_losses
from workbench.evaluate.metrics import correctness
from workbench.evaluate.statistics import share_interval
from workbench.model.roles import Roles


def evaluate_pairs(
    roles: Roles, rows: Sequence[Row], groups: Sequence[str], config: ContrastiveConfig
) -> dict[str, float]:
    """`heldout/…`: loss, accuracy with its interval, and margin over N held-out pairs.

    Args:
        roles: with the policy as `default`.
        rows: N pairs with their reference.
        groups: (N,) prompts, over which the interval of the accuracy is computed.
        config: of the phase: its method, loss and micro-batch.
    """
    section = config.loss
    pairs = logprobs_of(roles, rows, batch_size=2 * config.train.micro_batch_size)
    losses = pair_losses(
        config.method,
        pairs,
        beta=section.beta,
        targets=column(rows, "target").double(),
        margins=column(rows, "margin").double(),
        length_coef=section.length_coef,
    )
    losses = losses + section.sft_coef * chosen_nll(pairs)
    gaps = METHODS[config.method][0](pairs, section.beta)
    right = share_interval(correctness(gaps.numpy()), groups)
    return {
        "heldout/loss": float(losses.mean()),
        "heldout/accuracy": right.mean,
        "heldout/accuracy_low": right.low,
        "heldout/accuracy_high": right.high,
        "heldout/margin": float(gaps.mean()),
        "heldout/pairs": right.count,
    }
