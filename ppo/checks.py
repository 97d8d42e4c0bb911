"""Fatal start-up checks of the roles: each guards against an error that would otherwise be silent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.rollout import Rollout
from workbench.model.precision import LogprobLimits
from workbench.model.processes import Processes
from workbench.model.roles import Roles, adapters_equal
from workbench.run.errors import WorkbenchError

EXACT_KL = 1e-7
"""Nats a token, on average, between equal log-probabilities: a sum over the vocabulary."""


@dataclass(frozen=True)
class Gap:
    """|Δ log p| between two passes over the same tokens, over all processes."""

    mean: float
    """Nats."""
    share: float
    """Of tokens above the limit `large`."""
    largest: float
    """Nats."""

    @classmethod
    def of(cls, differences: Tensor, limits: LogprobLimits, processes: Processes) -> "Gap":
        """From this process's Δ log p (n,), where n may be 0."""
        nats = differences.abs().double()
        largest = float(nats.max()) if len(nats) else 0.0
        mine = (len(nats), float(nats.sum()), int((nats > limits.large).sum()), largest)
        counts, sums, far, most = zip(*processes.gather({processes.rank: mine}).values(), strict=True)
        tokens = max(sum(counts), 1)
        return cls(sum(sums) / tokens, sum(far) / tokens, max(most))


def check_ratio(gap: Gap, limits: LogprobLimits) -> dict[str, float]:
    """The first minibatch of an iteration reproduces the rollout's log-probabilities: the ratio is 1 up to rounding.

    Returns:
        The gap, by metric name.

    Raises:
        WorkbenchError: the policy changed after the rollout, or its forward pass in training is another one.
    """
    if not (gap.mean <= limits.mean and gap.share <= limits.share):
        raise WorkbenchError(
            "self-check ratio = 1",
            f"log-probabilities of the first minibatch differ from the rollout's by {gap.mean:.3g} nats on average; "
            f"{gap.share:.2%} of the tokens by more than {limits.large:.3g}, one by {gap.largest:.3g}",
            expected=f"rounding: {limits.mean:.3g} nats on average, {limits.share:.2%} of the tokens",
            remedy="causes are dropout, another temperature, another adapter, or other kernels in training than in "
            "scoring: try model.dtype=float32; --resume goes on from the last checkpoint",
        )
    return {"policy/rollout_gap": gap.mean, "policy/rollout_gap_max": gap.largest}


def check_repeatable(gap: Gap, limits: LogprobLimits) -> None:
    """Two passes over one batch in train mode agree: nothing random, such as dropout, is left in the policy.

    Raises:
        WorkbenchError: they differ.
    """
    if not gap.mean <= limits.repeated:
        raise WorkbenchError(
            "self-check repeated pass",
            f"two passes of the policy over one batch differ by {gap.mean:.3g} nats a token on average",
            expected=f"at most {limits.repeated:.3g}: PPO trains without dropout",
            remedy="look for a dropout in the adapter's configuration or in the base's",
        )


def check_policy_is_reference(rollout: Rollout, limits: LogprobLimits, *, exactly: bool) -> None:
    """Before the first update the policy is the reference, so every KL is 0.

    Args:
        rollout: the first one.
        limits: of the dtype of the passes.
        exactly: the kernels give equal shapes equal results, as those of a CPU do in float32.

    Raises:
        WorkbenchError: it is not: the two were not loaded from the same run, or batches are mixed up.
    """
    real = rollout.mask
    difference = (rollout.old_logprobs - rollout.reference_logprobs)[real].abs().double()
    gap, kl = float(difference.mean()), float(rollout.kl[real].abs().double().mean())
    # Two distributions whose log-probabilities differ by δ have a KL of about δ²/2.
    most, most_kl = (0.0, EXACT_KL) if exactly else (limits.repeated, limits.repeated**2)
    if not (gap <= most and kl <= most_kl):
        raise WorkbenchError(
            "self-check KL(policy, reference)",
            f"is {kl:.3g} nats a token before the first update (log-probabilities differ by {gap:.3g} on average)",
            expected=f"at most {most_kl:.3g} (and {most:.3g}): both start as copies of model.start",
            remedy="check that the adapter folder of model.start is not being written",
        )


def check_reference_is_not_base(roles: Roles) -> None:
    """The reference is the tuned adapter, not the bare base.

    Raises:
        WorkbenchError: the reference's adapter changes nothing.
    """
    state = roles.adapter_state("reference")
    if all(not tensor.any() for name, tensor in state.items() if "lora_B" in name):
        raise WorkbenchError(
            "self-check reference ≠ base",
            "the reference adapter is empty (all its B matrices are 0), so the KL would be to the bare base",
            expected="the adapter of a finished sft run",
            remedy="check model.start",
        )


class FrozenWatch:
    """Notices a frozen adapter that an update has changed."""

    def __init__(self, roles: Roles, names: tuple[str, ...]) -> None:
        self.roles, self.names = roles, names
        self.before = {name: _copy(roles.adapter_state(name)) for name in names}

    def check(self) -> None:
        """Compare with the state at construction.

        Raises:
            WorkbenchError: a frozen adapter has changed.
        """
        for name in self.names:
            if not adapters_equal(self.before[name], self.roles.adapter_state(name)):
                raise WorkbenchError(
                    "self-check frozen adapters",
                    f"the update changed the frozen adapter {name!r}",
                    expected="only policy and value to move",
                    remedy="the runs on disk are unchanged: start again, with one process at work in each folder",
                )


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
