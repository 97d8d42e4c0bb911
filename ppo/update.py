"""The update of one PPO iteration: minibatches over a rollout, policy and value each with an optimizer of its own.

The policy's backward pass runs before the value role is used: one role at a time on the shared base.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.loss import policy_loss, value_loss
from ppo.rollout import Rollout, spread
from workbench.model.logprobs import token_logprobs
from workbench.model.roles import Roles
from workbench.model.rows import Rows


@dataclass
class Optimizers:
    """Adam for each trained role. The learning rates are set anew each iteration."""

    policy: torch.optim.Optimizer
    value: torch.optim.Optimizer

    @classmethod
    def of(cls, roles: Roles, *, beta2: float, eps: float) -> "Optimizers":
        """Parameter groups chosen by role name."""
        return cls(
            *(
                torch.optim.AdamW(roles.parameters(role), lr=0.0, betas=(0.9, beta2), eps=eps, weight_decay=0.0)
                for role in ("policy", "value")
            )
        )

    def set_learning_rates(self, policy: float, value: float) -> None:
        """For the coming iteration."""
        for optimizer, lr in ((self.policy, policy), (self.value, value)):
            for group in optimizer.param_groups:
                group["lr"] = lr


@dataclass(frozen=True)
class Targets:
    """What the losses compare against, (B, R) float each, 0 on padding."""

    advantages: Tensor
    value_targets: Tensor


class RatioNotOne(RuntimeError):
    """The first minibatch of an iteration does not reproduce the rollout's log-probabilities."""


RATIO_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest |Δ log p| of a token between rollout and first minibatch: other batch shapes, other rounding."""


def update(
    roles: Roles,
    optimizers: Optimizers,
    rollout: Rollout,
    targets: Targets,
    *,
    ppo_epochs: int,
    minibatch_size: int,
    micro_batch_size: int,
    temperature: float,
    clip_range: float,
    value_clip_range: float,
    entropy_coef: float,
    target_kl: float,
    max_grad_norm: float,
    train_policy: bool,
    seed: int,
) -> dict[str, float]:
    """Run the epochs over one rollout.

    Args:
        roles: with roles policy and value.
        optimizers: one each.
        rollout: B responses.
        targets: advantages (whitened) and value targets.
        train_policy: False trains the value model alone.
        seed: of the minibatch order.
        (others): see `ppo.config.PpoSection`.

    Returns:
        Means over the real tokens of all minibatches, by metric name.

    Raises:
        RatioNotOne: the policy changed between rollout and update, or its forward pass is not reproducible.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, float] = defaultdict(float)
    stop_policy = not train_policy
    first = True
    for _ in range(ppo_epochs):
        for index in torch.randperm(len(rollout.rows), generator=generator).split(minibatch_size):
            index = index.to(roles.device)
            tokens = int(rollout.mask[index].sum())
            if not stop_policy:
                kl_before = sums["policy/approx_kl"]
                _policy_step(
                    roles,
                    optimizers.policy,
                    rollout,
                    targets.advantages,
                    index,
                    sums,
                    micro_batch_size=micro_batch_size,
                    temperature=temperature,
                    clip_range=clip_range,
                    entropy_coef=entropy_coef,
                    max_grad_norm=max_grad_norm,
                    check_ratio=first,
                )
                first = False
                stop_policy = 0 < target_kl < (sums["policy/approx_kl"] - kl_before) / tokens
            _value_step(
                roles,
                optimizers.value,
                rollout,
                targets.value_targets,
                index,
                sums,
                micro_batch_size=micro_batch_size,
                value_clip_range=value_clip_range,
                max_grad_norm=max_grad_norm,
            )
    return _means(sums)


def _policy_step(
    roles: Roles,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    advantages: Tensor,
    index: Tensor,
    sums: dict[str, float],
    *,
    micro_batch_size: int,
    temperature: float,
    clip_range: float,
    entropy_coef: float,
    max_grad_norm: float,
    check_ratio: bool,
) -> None:
    tokens = int(rollout.mask[index].sum())
    for part in index.split(micro_batch_size):
        rows = rollout.rows.select(part)
        width = rows.response_mask.shape[1]
        old = rollout.old_logprobs[part, :width]
        with roles.use("policy", train=True) as forward:
            new, entropy = _logprobs(roles, rows, forward(rows.ids, rows.mask), temperature)
            loss, stats = policy_loss(
                new, old, advantages[part, :width], rows.response_mask, clip_range=clip_range, tokens=tokens
            )
            if entropy_coef > 0:
                loss = loss - entropy_coef * entropy.sum() / tokens
            loss.backward()
        if check_ratio:
            _check_ratio(new.detach(), old, roles.lm_head.dtype)
        sums["policy/loss"] += float(loss.detach()) * tokens
        for name, value in stats.items():
            sums[f"policy/{name}"] += float(value)
    sums["policy/tokens"] += tokens
    sums["policy/grad_norm"] += _step(roles.parameters("policy"), optimizer, max_grad_norm)
    sums["policy/steps"] += 1


def _value_step(
    roles: Roles,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    value_targets: Tensor,
    index: Tensor,
    sums: dict[str, float],
    *,
    micro_batch_size: int,
    value_clip_range: float,
    max_grad_norm: float,
) -> None:
    tokens = int(rollout.mask[index].sum())
    for part in index.split(micro_batch_size):
        rows = rollout.rows.select(part)
        width = rows.response_mask.shape[1]
        with roles.use("value", train=True) as forward:
            hidden = rows.predicting(forward(rows.ids, rows.mask))[rows.response_mask]
            new = spread(roles.heads["value"](hidden), rows.response_mask)
            loss, stats = value_loss(
                new,
                rollout.values[part, :width],
                value_targets[part, :width],
                rows.response_mask,
                value_clip_range=value_clip_range,
                tokens=tokens,
            )
            loss.backward()
        sums["value/loss"] += float(loss.detach()) * tokens
        for name, value in stats.items():
            sums[f"value/{name}"] += float(value)
    sums["value/tokens"] += tokens
    sums["value/grad_norm"] += _step(roles.parameters("value"), optimizer, max_grad_norm)
    sums["value/steps"] += 1


def _logprobs(roles: Roles, rows: Rows, states: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (b, R) and entropies (b, R) of the response tokens, 0 on padding."""
    real = rows.response_mask
    logprobs, entropy = token_logprobs(
        rows.predicting(states)[real], roles.lm_head, rows.response_ids[real], temperature=temperature
    )
    return spread(logprobs, real), spread(entropy, real)


def _step(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, max_grad_norm: float) -> float:
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _check_ratio(new: Tensor, old: Tensor, dtype: torch.dtype) -> None:
    worst = float((new - old).abs().max())
    if not worst <= RATIO_TOLERANCE.get(dtype, 0.1):
        raise RatioNotOne(
            f"the first minibatch's log-probabilities differ from the rollout's by up to {worst:.3g} nats: "
            "the policy's forward pass in training is not the one that scored the rollout "
            "(dropout, another temperature, another adapter or kernel)"
        )


def _means(sums: dict[str, float]) -> dict[str, float]:
    """Sums over tokens as means over tokens, gradient norms as means over steps."""
    means = {}
    for name, value in sums.items():
        role, _, metric = name.partition("/")
        if metric in ("tokens", "steps"):
            continue
        means[name] = value / sums[f"{role}/{'steps' if metric == 'grad_norm' else 'tokens'}"]
    return means
