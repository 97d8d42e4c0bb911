"""The roles of a PPO run on one base: policy, reference, value and one or several reward models."""

from collections.abc import Sequence

from ppo.checks import check_reference_is_not_base
from workbench.model.heads import ScalarHead
from workbench.model.open import new_value_head, open_runs
from workbench.model.roles import Roles
from workbench.run.folder import RunFolder


def reward_names(number: int) -> tuple[str, ...]:
    """The role of each reward model: reward_1 … reward_K."""
    return tuple(f"reward_{n}" for n in range(1, number + 1))


def open_roles(
    start: RunFolder,
    rewards: Sequence[RunFolder],
    *,
    base: str | None,
    value: str,
    average: bool,
    activation_checkpointing: bool,
) -> Roles:
    """Load a run's roles.

    Args:
        start: the run whose adapter is the reference; the policy starts as its copy.
        rewards: the reward runs, K ≥ 1.
        base: where the base is now, when not where `start` says.
        value: `adapter`: an adapter and head of its own, a copy of the first reward model. `head`: a scalar head on the
            policy's trunk, from 0. `none`: no value model.
        average: keep a moving average of the policy as the role `average`.
        activation_checkpointing: recompute activations in backward passes.

    Raises:
        WorkbenchError: from `open_runs`; the reference is the bare base.
    """
    names = reward_names(len(rewards))
    roles = open_runs({"reference": start.path, **{n: r.path for n, r in zip(names, rewards, strict=True)}}, base=base)
    check_reference_is_not_base(roles)
    roles.copy("reference", "policy")
    if average:
        roles.copy("reference", "average")
    if value == "adapter":
        roles.copy(names[0], "value")
        roles.heads["value"] = new_value_head(roles.heads[names[0]])
    elif value == "head":
        head = ScalarHead(roles.heads[names[0]].weight.numel())
        head.weight.data.zero_()
        roles.heads["value"] = head.to(roles.device)
    if activation_checkpointing:
        roles.checkpoint_activations()
    return roles
