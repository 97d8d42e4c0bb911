"""Limits that the warnings during PPO and the report share. Pure."""

KL_PER_TOKEN = 0.1
"""Nats."""
KL_LEAST = 10.0
"""Nats per response, however short."""


def kl_limit(length: float) -> float:
    """KL to the reference above which a policy has left the answers that its reward model knows, nats per response.

        max(10, 0.1 · length)

    A rule of thumb: published runs with answers of 100 to 300 tokens were best between 5 and 30 nats, so the limit
    grows with the answers. Source: Stiennon et al. 2020, arXiv:2009.01325, figure 5; Gao et al. 2022, arXiv:2210.10760.

    Args:
        length: mean tokens of a response.
    """
    return max(KL_LEAST, KL_PER_TOKEN * length)
