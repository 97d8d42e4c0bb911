"""Fatal checks: of the roles, each against an error that would otherwise be silent, and of a run that diverges."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ppo.state import State
from workbench.model.adapters import adapters_equal
from workbench.model.precision import LogprobLimits
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.divergence import LOWER, UNIFORM_MARGIN, diverged, require_finite
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

if TYPE_CHECKING:
    from ppo.rollout import Rollout

EXACT_KL = 1e-7
"""Mean nats per token between equal log-probabilities: the rounding of a sum over the vocabulary."""
MUST_BE_FINITE = ("objective/score", "objective/kl", "policy/loss", "value/loss", "heldout/score", "heldout/kl")
CANNOT_SAMPLE = ("probability tensor contains", "device-side assert")
"""torch's errors, on a CPU and on a GPU, when it is asked to sample from probabilities that are not finite."""


@dataclass(frozen=True)
class Gap:
    """|Δ log p| between two forward passes over the same tokens, over all processes."""

    mean: float
    """Nats."""
    share: float
    """Share of tokens above the limit `large`."""
    largest: float
    """Nats."""

    @classmethod
    def of(cls, differences: Tensor, limits: LogprobLimits, processes: Processes) -> "Gap":
        """From this process's Δ log p (n,); n may be 0."""
        nats = differences.abs().double()
        largest = float(nats.max()) if len(nats) else 0.0
        own = (len(nats), float(nats.sum()), int((nats > limits.large).sum()), largest)
        counts, sums, far, most = zip(*processes.gather({processes.rank: own}).values(), strict=True)
        tokens = max(sum(counts), 1)
        return cls(sum(sums) / tokens, sum(far) / tokens, max(most))


def check_ratio(gap: Gap, limits: LogprobLimits) -> dict[str, float]:
    """The first minibatch of an iteration reproduces the rollout's log-probabilities: the ratio is 1 up to rounding.

    Returns:
        The gap, by metric name.

    Raises:
        WorkbenchError: the policy changed after the rollout, or its forward pass in training differs.
    """
    # A tolerance and not equality: other batch shapes run other kernels, which add in another order.
    if not (gap.mean <= limits.mean and gap.share <= limits.share):
        raise WorkbenchError(
            "self-check ratio = 1",
            f"log-probabilities of the first minibatch differ from the rollout's by {gap.mean:.3g} nats on average; "
            f"{gap.share:.2%} of the tokens by more than {limits.large:.3g}, one by {gap.largest:.3g}",
            expected=f"rounding: {limits.mean:.3g} nats on average, {limits.share:.2%} of the tokens",
            remedy="causes are dropout, another temperature, another adapter, or other kernels in training than in "
            "scoring: try model.dtype=float32; --resume continues from the last checkpoint",
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
            f"two passes of the policy over one batch differ by {gap.mean:.3g} nats per token on average",
            expected=f"at most {limits.repeated:.3g}: PPO trains without dropout",
            remedy="look for a dropout in the adapter's configuration or in the base's",
        )


def check_policy_is_reference(rollout: "Rollout", limits: LogprobLimits, *, exactly: bool) -> None:
    """Before the first update the policy is the reference, so every KL is 0.

    Args:
        rollout: the first one.
        limits: of the dtype of the passes.
        exactly: equal shapes give bit-identical results, as they do on a CPU in float32.

    Raises:
        WorkbenchError: they differ: they were not loaded from the same run, or batches are mixed up.
    """
    real = rollout.mask
    difference = (rollout.old_logprobs - rollout.reference_logprobs)[real].abs().double()
    gap, kl = float(difference.mean()), float(rollout.kl[real].abs().double().mean())
    # Two distributions whose log-probabilities differ by δ have a KL of about δ²/2.
    most, most_kl = (0.0, EXACT_KL) if exactly else (limits.repeated, limits.repeated**2)
    if not (gap <= most and kl <= most_kl):
        raise WorkbenchError(
            "self-check KL(policy, reference)",
            f"is {kl:.3g} nats per token before the first update (log-probabilities differ by {gap:.3g} on average)",
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
            remedy="check model.start, or model.reference",
        )


class FrozenWatch:
    """Detects an update that changed a frozen adapter."""

    def __init__(self, roles: Roles, names: Sequence[str]) -> None:
        self.roles, self.names = roles, names
        self.before = {
            name: {key: weight.detach().clone() for key, weight in roles.adapter_state(name).items()} for name in names
        }

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


def stop_if_diverged(
    folder: RunFolder, state: State, moment: str, metrics: Mapping[str, float], *, stop_kl: float, vocabulary: int
) -> None:
    """Stop the run if a metric is not finite, the KL exceeds `stop_kl` (0: no limit), or the policy guesses uniformly.

    Raises:
        WorkbenchError: the run diverged.
    """
    values = {name: metrics[name] for name in MUST_BE_FINITE if name in metrics}
    require_finite(folder, moment, values)
    for name, value in values.items():
        if name.endswith("/kl") and 0 < stop_kl < value:
            problem = f"{name} is {value:.1f} nats per response, above train.stop_kl={stop_kl:g}"
            remedy = f"{LOWER}, or a larger reward.kl_coef"
            raise diverged(folder, moment, problem, remedy=remedy, best=_best_checkpoint(folder, state))
    entropy, most = metrics.get("objective/entropy", 0.0), math.log(vocabulary)
    if entropy > most - UNIFORM_MARGIN:
        problem = f"the policy guesses uniformly: its entropy is {entropy:.3f} nats per token, of at most {most:.3f}"
        raise diverged(folder, moment, problem, best=_best_checkpoint(folder, state))


@contextlib.contextmanager
def divergence_explained(folder: RunFolder, state: State, iteration: int) -> Iterator[None]:
    """Turn errors about gradients or probabilities that are not finite into the error of a diverged run."""
    moment = f"in iteration {iteration}"
    try:
        yield
    except FloatingPointError as error:
        raise diverged(folder, moment, str(error), best=_best_checkpoint(folder, state)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in CANNOT_SAMPLE):
            raise
        problem = "the policy's probabilities are not finite"
        raise diverged(folder, moment, problem, best=_best_checkpoint(folder, state)) from error


def _best_checkpoint(folder: RunFolder, state: State) -> int | None:
    """The kept checkpoint with the best held-out reward."""
    known = [step for step in checkpoint_steps(folder.checkpoints) if step in state.heldout]
    return max(known, key=lambda step: state.heldout[step], default=None)
