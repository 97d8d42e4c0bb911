"""The Bradley-Terry loss of a reward model, as TRL's RewardTrainer computes it. Pure."""

import torch
from torch import Tensor


def bradley_terry_loss(chosen_scores: Tensor, rejected_scores: Tensor) -> Tensor:
    """Negative log-likelihood that the chosen response wins.

        −mean log σ(r_chosen − r_rejected)

    Source: Stiennon et al. 2020, arXiv:2009.01325, section 3.4.

    Args:
        chosen_scores: (N,) float.
        rejected_scores: (N,) float.

    Returns:
        scalar.
    """
    assert chosen_scores.shape == rejected_scores.shape
    return -torch.nn.functional.logsigmoid(chosen_scores - rejected_scores).mean()
