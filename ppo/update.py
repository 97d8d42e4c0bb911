"""The update of one PPO iteration: minibatches over a rollout, policy and value each with an optimizer of its own.

The policy's backward pass runs before the value role is used: one role at a time on the shared base.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.advantages import Targets
from ppo.checks import Gap, check_ratio, check_repeatable
from ppo.loss import kl_loss, policy_loss, value_loss
from ppo.rollout import Rollout, scatter_rows
from ppo.state import Optimizers
from workbench.model.logprobs import token_logprobs
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations to imitate beside the reward (`train.ptx_coef`)."""

    prompts: list[list[int]]
    responses: list[list[int]]
    number: int
    """Drawn for each optimizer step."""
    pad_id: int
    device: torch.device

    def take(self, generator: torch.Generator) -> Rows:
        """Random ones."""
        index = torch.randint(len(self.prompts), (self.number,), generator=generator).tolist()
        return Rows.of([self.prompts[i] for i in index], [self.responses[i] for i in index], self.pad_id, self.device)


@dataclass(frozen=True)
class Objective:
    """What an update minimises, and in which steps; see `ppo.config.PpoSection` for each."""

    ppo_epochs: int
    minibatch_size: int
    micro_batch_size: int
    temperature: float
    clip_range: float
    value_clip_range: float
    value_coef: float
    entropy_coef: float
    kl_loss_coef: float
    """Weight of the KL as a loss; 0 where it is in the reward."""
    kl_estimator: str
    ptx_coef: float
    target_kl: float
    max_grad_norm: float
    average_decay: float


def update(
    roles: Roles,
    optimizers: Optimizers,
    rollout: Rollout,
    targets: Targets,
    objective: Objective,
    *,
    train_policy: bool,
    seed: int,
    processes: Processes,
    demonstrations: Demonstrations | None = None,
) -> dict[str, float]:
    """Run the epochs over one rollout.

    Args:
        roles: with the role policy, and a value head where there is one.
        optimizers: of both.
        rollout: B responses.
        targets: advantages and value targets.
        objective: the losses and the sizes.
        train_policy: False trains the value model alone.
        seed: of the minibatch order.
        processes: that share the micro-batches; their gradients are added up before each step.
        demonstrations: to imitate beside, where `ptx_coef` > 0.

    Returns:
        Means over the real tokens of all minibatches, by metric name.

    Raises:
        WorkbenchError: the policy changed between rollout and update, or its forward pass is not reproducible.
        FloatingPointError: a gradient is not finite; the step is not taken.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, float] = defaultdict(float)
    gap: dict[str, float] = {}
    step = MinibatchStep(roles, optimizers, rollout, targets, objective, processes)
    for _ in range(objective.ppo_epochs):
        for index in torch.randperm(len(rollout.rows), generator=generator).split(objective.minibatch_size):
            index = rollout.rows.by_length(index.to(roles.device))  # micro-batches of similar rows: less padding
            found: dict[str, float] = defaultdict(float)
            if train_policy:
                differences = step.policy(index, found)
                if not gap:
                    gap = step.check(index, differences)
                if objective.ptx_coef > 0 and demonstrations is not None:
                    step.imitate(demonstrations.take(generator), found)
                found["policy/grad_norm"] += step.take_policy_step()
            if targets.value_targets is not None and optimizers.value is not None:
                if not (step.shared_trunk and train_policy):  # else its gradients came with the policy's
                    step.value(index, found)
                found["value/grad_norm"] += step.take_value_step()
            for name, value in step.over_processes(found).items():
                sums[name] += value
            approx_kl = found["policy/approx_kl"] / max(found["policy/tokens"], 1)
            train_policy = train_policy and not 0 < objective.target_kl < approx_kl
    return _means(sums) | gap


@dataclass(frozen=True)
class MinibatchStep:
    """One optimizer step of policy and value on a minibatch, micro-batch by micro-batch, each role on its own."""

    roles: Roles
    optimizers: Optimizers
    rollout: Rollout
    targets: Targets
    objective: Objective
    processes: Processes

    def policy(self, index: Tensor, found: dict[str, float]) -> list[Tensor]:
        """Gradients of the policy on the responses of an index; sums of statistics into `found`.

        Returns:
            Δ log p (n,) of the real tokens of each of this process's micro-batches, against the rollout.
        """
        tokens, differences = int(self.rollout.mask[index].sum()), []
        for part, rows in self._parts(index):
            width = rows.response_mask.shape[1]
            old, theirs = self.rollout.old_logprobs[part, :width], self.rollout.reference_logprobs[part, :width]
            with self.roles.use("policy", train=True) as forward:
                hidden = forward(rows.ids, rows.mask, rows.predicting)
                new, entropy = _logprobs(self.roles, rows, hidden, self.objective.temperature)
                loss, stats = policy_loss(
                    new,
                    old,
                    self.targets.advantages[part, :width],
                    rows.response_mask,
                    clip_range=self.objective.clip_range,
                    tokens=tokens,
                )
                if self.objective.entropy_coef > 0:
                    loss = loss - self.objective.entropy_coef * entropy.sum() / tokens
                if self.objective.kl_loss_coef > 0:
                    estimator = self.objective.kl_estimator
                    kl = kl_loss(new, theirs, rows.response_mask, estimator=estimator, tokens=tokens)
                    loss = loss + self.objective.kl_loss_coef * kl
                total = loss
                if self.shared_trunk:
                    coef = self.objective.value_coef
                    trunk = hidden if coef > 0 else hidden.detach()
                    total = loss + (coef if coef > 0 else 1.0) * self._value_loss(trunk, part, rows, found, tokens)
                total.backward()
            differences.append((new.detach() - old)[rows.response_mask])
            found["policy/loss"] += float(loss.detach()) * tokens
            for name, value in stats.items():
                found[f"policy/{name}"] += float(value)
        found["policy/tokens"], found["policy/steps"] = tokens, 1
        if self.shared_trunk:
            found["value/tokens"], found["value/steps"] = tokens, 1
        return differences

    def check(self, index: Tensor, differences: list[Tensor]) -> dict[str, float]:
        """The self-checks of the policy's pass, before its first step; see `ppo.checks`.

        In float32, dropout is far above the ratio's limit already. In bfloat16 it may hide in the rounding, but not
        between two passes over one batch.
        """
        limits = LOGPROB_LIMITS[self.roles.dtype].at(self.objective.temperature)
        nothing = self.rollout.old_logprobs.new_zeros(0)
        if self.roles.dtype != torch.float32:
            check_repeatable(Gap.of(self._repeated(index, nothing), limits, self.processes), limits)
        return check_ratio(Gap.of(torch.cat([nothing, *differences]), limits, self.processes), limits)

    def _repeated(self, index: Tensor, nothing: Tensor) -> Tensor:
        """Δ log p (n,) between two passes in train mode over this process's first micro-batch."""
        for _, rows in self._parts(index):
            passes = []
            for _ in range(2):
                with self.roles.use("policy", train=True) as forward, torch.no_grad():
                    hidden = forward(rows.ids, rows.mask, rows.predicting)
                passes.append(_logprobs(self.roles, rows, hidden, self.objective.temperature)[0])
            return (passes[1] - passes[0])[rows.response_mask]
        return nothing

    def imitate(self, rows: Rows, found: dict[str, float]) -> None:
        """Gradients of the likelihood of demonstrations, added to the policy's (Ouyang et al. 2022, eq. 2: γ)."""
        tokens = int(rows.response_mask.sum())
        every = torch.arange(len(rows), device=rows.ids.device)
        for _, part in self.processes.shard(every.split(self.objective.micro_batch_size)):
            batch = rows.select(part)
            with self.roles.use("policy", train=True) as forward:
                hidden = forward(batch.ids, batch.mask, batch.predicting)
                logprobs, _ = _logprobs(self.roles, batch, hidden, 1.0)
                loss = -logprobs.sum() / tokens
                (self.objective.ptx_coef * loss).backward()
            found["ptx/loss"] += float(loss.detach()) * tokens
        found["ptx/tokens"] = tokens

    def value(self, index: Tensor, found: dict[str, float]) -> None:
        """Gradients of the value model on the responses of an index."""
        tokens = int(self.rollout.mask[index].sum())
        for part, rows in self._parts(index):
            if self.shared_trunk:
                with self.roles.use("policy") as forward:
                    hidden = forward(rows.ids, rows.mask, rows.predicting)
                self._value_loss(hidden, part, rows, found, tokens).backward()
            else:
                with self.roles.use("value", train=True) as forward:
                    hidden = forward(rows.ids, rows.mask, rows.predicting)
                    self._value_loss(hidden, part, rows, found, tokens).backward()
        found["value/tokens"], found["value/steps"] = tokens, 1

    @property
    def shared_trunk(self) -> bool:
        """The value is a head on the policy's hidden states."""
        return "value" in self.roles.heads and "value" not in self.roles.names

    def _value_loss(self, hidden: Tensor, part: Tensor, rows: Rows, found: dict[str, float], tokens: int) -> Tensor:
        assert self.targets.value_targets is not None
        width = rows.response_mask.shape[1]
        loss, stats = value_loss(
            scatter_rows(self.roles.heads["value"](hidden), rows.response_mask),
            self.rollout.values[part, :width],
            self.targets.value_targets[part, :width],
            rows.response_mask,
            value_clip_range=self.objective.value_clip_range,
            tokens=tokens,
        )
        found["value/loss"] += float(loss.detach()) * tokens
        for name, value in stats.items():
            found[f"value/{name}"] += float(value)
        return loss

    def take_policy_step(self) -> float:
        """Step on the gradients of all processes; the moving average follows. Returns the norm before clipping."""
        norm = self._take("policy", self.optimizers.policy)
        if "average" in self.roles.names:
            self.roles.move_towards("average", "policy", decay=self.objective.average_decay)
        return norm

    def take_value_step(self) -> float:
        """Likewise for the value model."""
        assert self.optimizers.value is not None
        return self._take("value", self.optimizers.value)

    def over_processes(self, found: dict[str, float]) -> dict[str, float]:
        """Sums over this process's rows → sums over all rows; counts and norms are the same in all processes."""
        same = {name for name in found if name.endswith(("/tokens", "/steps", "/grad_norm"))}
        added = self.processes.all_reduce_numbers({name: value for name, value in found.items() if name not in same})
        found.update(added)
        return found

    def _parts(self, index: Tensor) -> Iterator[tuple[Tensor, Rows]]:
        for _, part in self.processes.shard(index.split(self.objective.micro_batch_size)):
            yield part, self.rollout.rows.select(part)

    def _take(self, role: str, optimizer: torch.optim.Optimizer) -> float:
        parameters = self.roles.parameters(role)
        self.processes.all_reduce_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.objective.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the norm of the {role}'s gradient is {norm}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm


def _logprobs(roles: Roles, rows: Rows, hidden: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (b, R) of the response tokens, 0 on padding; `hidden` (n, D) is before them."""
    real = rows.response_mask
    logprobs, entropy = token_logprobs(hidden, roles.lm_head, rows.response_ids[real], temperature=temperature)
    return scatter_rows(logprobs, real), scatter_rows(entropy, real)


def _means(sums: dict[str, float]) -> dict[str, float]:
    """Sums over tokens as means over tokens, gradient norms as means over steps."""
    means = {}
    for name, value in sums.items():
        role, _, metric = name.partition("/")
        if metric in ("tokens", "steps") or not sums[f"{role}/tokens"]:
            continue
        means[name] = value / sums[f"{role}/{'steps' if metric == 'grad_norm' else 'tokens'}"]
    return means
