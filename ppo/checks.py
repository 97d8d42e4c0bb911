"""Fatal start-up checks of the roles: each guards against an error that would otherwise be silent."""

import torch

from ppo.rollout import Rollout
from workbench.model.roles import Roles, adapters_equal
from workbench.run.errors import WorkbenchError

KL_TOLERANCE = 1e-6
"""nats per token between two copies of one adapter, from the same kernels."""


def check_policy_is_reference(rollout: Rollout) -> None:
    """Before the first update the policy is the reference, so every KL is 0.

    Raises:
        WorkbenchError: it is not: the two were not loaded from the same run, or batches are mixed up.
    """
    worst = float(rollout.kl.abs().max())
    difference = float((rollout.old_logprobs - rollout.reference_logprobs).abs().max())
    if worst > KL_TOLERANCE or difference > 0:
        raise WorkbenchError(
            "self-check KL(policy, reference)",
            f"is up to {worst:.3g} nats a token before the first update (log-probabilities differ by {difference:.3g})",
            expected="0: both start as copies of model.start",
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
