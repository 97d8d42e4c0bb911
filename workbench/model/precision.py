"""How far rounding may move a result: the limits of every self-check, by the dtype of the forward pass. Pure.

Scores and log-probabilities are float32 in any case, so a limit follows the dtype of the pass that made them.
"""

import torch

SCORE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}
"""Largest difference of a score, in standard deviations of the scores, between machines or batch shapes. A dropped
head, another base or another adapter move scores by 0.5 and more."""

REPEATED_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2**-7}
"""Largest difference of a score, over the largest score, between two passes over one batch on one machine. They run the
same kernels in the same shapes: on a CPU they are equal. One rounding to bfloat16 is 2⁻⁸."""
