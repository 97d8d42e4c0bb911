"""What PPO carries from iteration to iteration, and checkpoints, which hold everything the next iteration depends on.

Sampling, shuffles and minibatch orders are functions of seed and iteration, so the iteration is the prompt cursor.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch

from ppo.config import PpoCheckpointSection
from workbench.model.roles import Roles
from workbench.run.checkpoints import save_checkpoint
from workbench.run.folder import RunFolder


@dataclass
class State:
    """What changes from iteration to iteration, besides adapters and optimizers."""

    iteration: int
    """The next one to run."""
    kl_coef: float
    episodes: int = 0
    heldout: dict[int, float] = field(default_factory=dict)
    """Held-out reward (score minus KL penalty) by iteration."""
    warned: set[str] = field(default_factory=set)
    """Kinds of warnings already given."""
    first: dict[str, float] = field(default_factory=dict)
    """Metrics of the first iteration."""
    recent: list[dict[str, float]] = field(default_factory=list)
    """Metrics of the last iterations; warnings compare them with the first one's."""


@dataclass
class Optimizers:
    """AdamW for each trained role. Learning rates are set anew each iteration."""

    policy: torch.optim.Optimizer
    value: torch.optim.Optimizer | None
    """None without a value model."""

    @classmethod
    def of(cls, roles: Roles, *, beta2: float, eps: float) -> "Optimizers":
        """Parameter groups are chosen by role name: a filter on requires_grad would see the active adapter alone."""

        def adam(role: str) -> torch.optim.Optimizer:
            options: dict[str, Any] = {"betas": (0.9, beta2), "eps": eps, "weight_decay": 0.0, "fused": True}
            return torch.optim.AdamW(roles.parameters(role), lr=0.0, **options)

        for parameter in roles.heads["value"].parameters() if "value" in roles.heads else ():
            parameter.requires_grad_(True)
        return cls(adam("policy"), adam("value") if "value" in roles.heads else None)

    def set_learning_rates(self, policy: float, value: float) -> None:
        """For the coming iteration."""
        for optimizer, lr in ((self.policy, policy), (self.value, value)):
            for group in optimizer.param_groups if optimizer is not None else ():
                group["lr"] = lr

    def states(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {name: each.state_dict() for name, each in vars(self).items() if each is not None}

    def load_states(self, states: dict[str, Any]) -> None:
        """Restore the result of `states`."""
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)


def save(folder: RunFolder, roles: Roles, optimizers: Optimizers, state: State, section: PpoCheckpointSection) -> None:
    """Write `checkpoints/step-N`: state.pt to resume from, and the policy as a plain adapter."""
    trained = [role for role in ("policy", "value") if role in roles.names]
    content: dict[str, Any] = {
        "state": vars(state),
        "adapters": {role: roles.adapter_state(role) for role in trained},
        "value_head": roles.heads["value"].state_dict() if "value" in roles.heads else None,
        "optimizers": optimizers.states(),
        "rng": {"torch": torch.get_rng_state(), "numpy": numpy.random.get_state(), "python": random.getstate()},
    }
    if torch.cuda.is_available():
        content["rng"]["cuda"] = torch.cuda.get_rng_state_all()

    def write(hidden: Path) -> None:
        torch.save(content, hidden / "state.pt")
        roles.save_adapter("policy", hidden / "adapter")

    best = sorted(state.heldout, key=lambda step: state.heldout[step], reverse=True)[: section.keep_best]
    save_checkpoint(folder.checkpoints, state.iteration, write, keep_last=section.keep_last, keep=best)


def resume(checkpoint: Path, roles: Roles, optimizers: Optimizers) -> State:
    """Restore adapters, heads, optimizers and random states; returns the rest."""
    # weights_only=False: the file holds random states of numpy and Python. This package wrote it.
    content = torch.load(checkpoint / "state.pt", map_location=roles.device, weights_only=False)
    for role, weights in content["adapters"].items():
        roles.load_adapter_state(role, weights)
    if content["value_head"] is not None:
        roles.heads["value"].load_state_dict(content["value_head"])
    optimizers.load_states(content["optimizers"])
    rng = content["rng"]
    torch.set_rng_state(rng["torch"].cpu())  # map_location moved it to the device, but the setter takes a CPU tensor
    numpy.random.set_state(rng["numpy"])
    random.setstate(rng["python"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in rng["cuda"]])
    return State(**content["state"])
