"""The update of one PPO iteration: minibatches over a rollout, policy and value model each with its own optimizer.

Shapes: B = responses of the rollout, m = of a minibatch, b = of a micro-batch; T = prompt and response tokens,
R = response tokens, n = real response tokens of a micro-batch, D = hidden.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.advantages import Targets
from ppo.checks import Gap, check_ratio, check_repeatable
from ppo.config import PpoConfig, PpoSection
from ppo.kl import kl_k2
from ppo.loss import kl_loss, policy_loss, value_loss
from ppo.rollout import Demonstrations, Rollout, scatter_rows
from ppo.state import Optimizers
from workbench.model.logprobs import token_logprobs
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows


@dataclass(frozen=True)
class Update:
    """The optimizer steps of policy and value model on one rollout.

    The methods add sums over real tokens to `sums`, by metric name. Losses are divided by the real tokens of the whole
    minibatch, so micro-batches and processes accumulate the gradient of one large batch.
    """

    roles: Roles
    optimizers: Optimizers
    rollout: Rollout
    targets: Targets
    config: PpoConfig
    kl_coef: float
    """Weight of the KL as a loss; used if `reward.kl_in` is `loss`."""
    processes: Processes
    demonstrations: Demonstrations | None = None

    def run(self, *, train_policy: bool, seed: int) -> dict[str, float]:
        """Run the epochs.

        Args:
            train_policy: False trains the value model only.
            seed: of the minibatch order and the demonstrations.

        Returns:
            Means over the real tokens of all minibatches, by metric name.

        Raises:
            WorkbenchError: the policy changed between rollout and update, or its forward pass is not reproducible.
            FloatingPointError: a gradient is not finite; the step is not taken.
        """
        section, rows = self.config.train, self.rollout.rows
        generator = torch.Generator().manual_seed(seed)
        totals: dict[str, float] = defaultdict(float)
        gap: dict[str, float] = {}  # of the ratio's self-check, made once per iteration
        bounded = train_policy and section.target_kl > 0
        start = [weight.detach().clone() for weight in self.roles.parameters("policy")] if bounded else []
        for _ in range(section.ppo_epochs):
            for index in torch.randperm(len(rows), generator=generator).split(section.minibatch_size):
                index = rows.by_length(index.to(self.roles.device))  # (m,); micro-batches of similar rows pad less
                sums: dict[str, float] = defaultdict(float)
                if train_policy:
                    differences = self._policy_gradients(index, sums)
                    gap = gap or self._check(index, differences)
                    if section.ptx_coef > 0 and self.demonstrations is not None:
                        self._ptx_gradients(self.demonstrations.take(generator), sums)
                    sums["policy/grad_norm"] += self._step("policy", self.optimizers.policy)
                if self.targets.value_targets is not None and self.optimizers.value is not None:
                    if not (self.shared_trunk and train_policy):  # otherwise the policy's pass made its gradients
                        self._value_gradients(index, sums)
                    sums["value/grad_norm"] += self._step("value", self.optimizers.value)
                self._add_over_processes(sums)
                for name, value in sums.items():
                    totals[name] += value
                kl = sums["policy/approx_kl"] / max(sums["policy/tokens"], 1)
                train_policy = train_policy and not 0 < section.target_kl < kl
        moved = {"policy/move_kl": self._shorten_move(index, start)} if bounded else {}
        return _means(totals) | gap | moved

    @property
    def shared_trunk(self) -> bool:
        """The value model is a head on the policy's hidden states."""
        return "value" in self.roles.heads and "value" not in self.roles.names

    def _policy_gradients(self, index: Tensor, sums: dict[str, float]) -> list[Tensor]:
        """Accumulate the policy's gradients over the responses `index` (m,).

        Returns:
            Δ log p (n,) between now and the rollout, of each of this process's micro-batches.
        """
        tokens, differences = int(self.rollout.mask[index].sum()), []
        for part, rows in self._micro_batches(index):  # part (b,)
            with self.roles.use("policy", train=True) as forward:
                hidden = forward(rows.ids, rows.mask, rows.predicting)  # (b, T) → (n, D)
                new, entropy = _logprobs(self.roles, rows, hidden, self.config.rollout.temperature)  # (b, R) each
                loss, stats = self._policy_loss(new, entropy, part, rows.response_mask, tokens)
                total = loss
                if self.shared_trunk:
                    coef = self.config.train.value_coef
                    trunk = hidden if coef > 0 else hidden.detach()  # 0: the value loss trains its head only
                    total = loss + (coef if coef > 0 else 1.0) * self._value_loss(trunk, part, rows, sums, tokens)
                total.backward()  # before the role changes: peft would lose the gradients without an error
            old = self.rollout.old_logprobs[part, : rows.response_mask.shape[1]]
            differences.append((new.detach() - old)[rows.response_mask])
            sums["policy/loss"] += float(loss.detach()) * tokens
            for name, value in stats.items():
                sums[f"policy/{name}"] += float(value)
        sums["policy/tokens"], sums["policy/steps"] = tokens, 1
        if self.shared_trunk:
            sums["value/tokens"], sums["value/steps"] = tokens, 1
        return differences

    def _policy_loss(
        self, new: Tensor, entropy: Tensor, part: Tensor, mask: Tensor, tokens: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clipped surrogate, minus the entropy bonus, plus the KL if it is a loss; from (b, R) tensors to a scalar."""
        train, reward, width = self.config.train, self.config.reward, mask.shape[1]
        loss, stats = policy_loss(
            new,
            self.rollout.old_logprobs[part, :width],
            self.targets.advantages[part, :width],
            mask,
            clip_range=train.clip_range,
            tokens=tokens,
        )
        if train.entropy_coef > 0:
            loss = loss - train.entropy_coef * entropy.sum() / tokens
        if reward.kl_in == "loss" and self.kl_coef > 0:
            reference = self.rollout.reference_logprobs[part, :width]
            kl = kl_loss(new, reference, mask, estimator=reward.kl_estimator, tokens=tokens)
            loss = loss + self.kl_coef * kl
        return loss, stats

    def _value_gradients(self, index: Tensor, sums: dict[str, float]) -> None:
        """Accumulate the value model's gradients over the responses `index` (m,)."""
        tokens = int(self.rollout.mask[index].sum())
        for part, rows in self._micro_batches(index):
            if self.shared_trunk:
                with self.roles.use("policy") as forward:  # no gradient: the trunk belongs to the policy's loss
                    hidden = forward(rows.ids, rows.mask, rows.predicting)  # (b, T) → (n, D)
                self._value_loss(hidden, part, rows, sums, tokens).backward()
            else:
                with self.roles.use("value", train=True) as forward:
                    hidden = forward(rows.ids, rows.mask, rows.predicting)
                    self._value_loss(hidden, part, rows, sums, tokens).backward()
        sums["value/tokens"], sums["value/steps"] = tokens, 1

    def _value_loss(self, hidden: Tensor, part: Tensor, rows: Rows, sums: dict[str, float], tokens: int) -> Tensor:
        assert self.targets.value_targets is not None
        width = rows.response_mask.shape[1]
        loss, stats = value_loss(
            scatter_rows(self.roles.heads["value"](hidden), rows.response_mask),  # (n, D) → (n,) → (b, R)
            self.rollout.values[part, :width],
            self.targets.value_targets[part, :width],
            rows.response_mask,
            value_clip_range=self.config.train.value_clip_range,
            tokens=tokens,
        )
        sums["value/loss"] += float(loss.detach()) * tokens
        for name, value in stats.items():
            sums[f"value/{name}"] += float(value)
        return loss

    def _ptx_gradients(self, rows: Rows, sums: dict[str, float]) -> None:
        """Add the gradients of the SFT loss on demonstrations to the policy's (Ouyang et al. 2022, eq. 2: γ)."""
        tokens = int(rows.response_mask.sum())
        every = torch.arange(len(rows), device=rows.ids.device)
        for _, part in self.processes.shard(every.split(self.config.train.micro_batch_size)):
            batch = rows.select(part)
            with self.roles.use("policy", train=True) as forward:
                hidden = forward(batch.ids, batch.mask, batch.predicting)
                logprobs, _ = _logprobs(self.roles, batch, hidden, 1.0)
                loss = -logprobs.sum() / tokens
                (self.config.train.ptx_coef * loss).backward()
            sums["ptx/loss"] += float(loss.detach()) * tokens
        sums["ptx/tokens"] = tokens

    def _check(self, index: Tensor, differences: list[Tensor]) -> dict[str, float]:
        """The self-checks of the policy's forward pass, before its first step; see `ppo.checks`.

        In float32 dropout moves the ratio far above its limit. In bfloat16 the rounding may hide it, but two passes
        over one batch still differ.
        """
        limits = LOGPROB_LIMITS[self.roles.dtype].at(self.config.rollout.temperature)
        if self.roles.dtype != torch.float32:
            check_repeatable(Gap.of(self._repeated(index), limits, self.processes), limits)
        empty = self.rollout.old_logprobs.new_zeros(0)  # a process may have no micro-batch
        return check_ratio(Gap.of(torch.cat([empty, *differences]), limits, self.processes), limits)

    def _repeated(self, index: Tensor) -> Tensor:
        """Δ log p (n,) between two passes in train mode over this process's first micro-batch."""
        for _, rows in self._micro_batches(index):
            passes = []
            for _ in range(2):
                with self.roles.use("policy", train=True) as forward, torch.no_grad():
                    hidden = forward(rows.ids, rows.mask, rows.predicting)
                passes.append(_logprobs(self.roles, rows, hidden, self.config.rollout.temperature)[0])
            return (passes[1] - passes[0])[rows.response_mask]
        return self.rollout.old_logprobs.new_zeros(0)

    def _shorten_move(self, index: Tensor, start: list[Tensor]) -> float:
        """Shorten the policy's move since the rollout until its KL is at most `train.target_kl`.

        The minibatches stop at the target too, but only see the KL of the steps before theirs; the last step may go far
        beyond it. The KL grows with the square of a small move, so one shortening is usually enough.
        Source: the trust region of TRPO, Schulman et al. 2015, arXiv:1502.05477, appendix C. Differs: the whole
        iteration's move is shortened, by the ratio of the KLs.

        Args:
            index: (m,) responses on which the KL is measured.
            start: the policy's weights at the rollout.

        Returns:
            KL of the move before it is shortened (k2), nats per token.
        """
        target = self.config.train.target_kl
        kl = first = self._kl_since_rollout(index)
        for _ in range(3):  # rounding in bfloat16 adds a KL that no shortening removes
            if not kl > target:
                break
            with torch.no_grad():
                for weight, before in zip(self.roles.parameters("policy"), start, strict=True):
                    weight.lerp_(before, 1 - 0.9 * math.sqrt(target / kl))
            kl = self._kl_since_rollout(index)
        return first

    def _kl_since_rollout(self, index: Tensor) -> float:
        """KL between the policy and itself at the rollout (k2), nats per token of the responses `index` (m,)."""
        sums = {"kl": 0.0, "tokens": 0.0}
        for part, rows in self._micro_batches(index):
            with self.roles.use("policy") as forward, torch.no_grad():
                hidden = forward(rows.ids, rows.mask, rows.predicting)  # (b, T) → (n, D)
                new, _ = _logprobs(self.roles, rows, hidden, self.config.rollout.temperature)  # (b, R)
            old = self.rollout.old_logprobs[part, : new.shape[1]]
            sums["kl"] += float(kl_k2(new, old)[rows.response_mask].sum())
            sums["tokens"] += int(rows.response_mask.sum())
        sums = self.processes.all_reduce_numbers(sums)
        return sums["kl"] / sums["tokens"]

    def _micro_batches(self, index: Tensor) -> Iterator[tuple[Tensor, Rows]]:
        """This process's micro-batches: indices (b,) and rows."""
        for _, part in self.processes.shard(index.split(self.config.train.micro_batch_size)):
            yield part, self.rollout.rows.select(part)

    def _step(self, role: str, optimizer: torch.optim.Optimizer) -> float:
        """Sum the gradients over the processes, clip them and step. Returns the norm before clipping."""
        parameters = self.roles.parameters(role)
        self.processes.all_reduce_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.train.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the norm of the {role}'s gradient is {norm}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _add_over_processes(self, sums: dict[str, float]) -> None:
        """Sums over this process's rows become sums over all rows; counts and norms are equal in all processes."""
        own = {name: value for name, value in sums.items() if not name.endswith(("/tokens", "/steps", "/grad_norm"))}
        sums.update(self.processes.all_reduce_numbers(own))


def learning_rates(section: PpoSection, iteration: int) -> tuple[float, float]:
    """Learning rates of policy and value model in an iteration; each warm-up starts with the model's first update."""
    policy_lr, value_lr = (
        lr * learning_rate_factor(iteration, section.iterations, section.warmup_iterations, first=first)
        for lr, first in ((section.lr, section.value_only_iterations), (section.value_lr, 0))
    )
    return policy_lr, value_lr


def learning_rate_factor(iteration: int, iterations: int, warmup: int, *, first: int = 0) -> float:
    """Linear from 0 over the warm-up, which starts at iteration `first`, then linear to 0 after the last iteration."""
    rise = max(0, iteration - first + 1) / (warmup + 1)
    return min(rise, 1 - iteration / iterations)


def _logprobs(roles: Roles, rows: Rows, hidden: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (b, R) of the response tokens, 0 on padding, from states (n, D)."""
    real = rows.response_mask
    logprobs, entropy = token_logprobs(hidden, roles.lm_head, rows.response_ids[real], temperature=temperature)
    return scatter_rows(logprobs, real), scatter_rows(entropy, real)


def _means(sums: dict[str, float]) -> dict[str, float]:
    """Means over tokens from sums over tokens; gradient norms as means over steps."""
    means = {}
    for name, value in sums.items():
        role, _, metric = name.partition("/")
        if metric in ("tokens", "steps") or not sums[f"{role}/tokens"]:
            continue
        means[name] = value / sums[f"{role}/{'steps' if metric == 'grad_norm' else 'tokens'}"]
    return means
