"""PPO: policy, reference, value and reward as adapters of one base.

for each iteration:   collect → rewards → advantages → update → log
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from ppo.advantages import gae
from ppo.checks import FrozenWatch, check_policy_is_reference, check_reference_is_not_base
from ppo.config import PpoConfig
from ppo.data import PromptSet, load_prompts, prompts_of_iteration
from ppo.evaluate import evaluate
from ppo.loss import explained_variance
from ppo.rewards import adapted_kl_coef, effective_scores, kl_k1, token_rewards, whiten
from ppo.rollout import Rollout, collect
from ppo.update import Optimizers, Targets, update
from workbench.data.embedded import resolve_data
from workbench.data.template import template_hash
from workbench.model.base import BaseSpec
from workbench.model.heads import save_head
from workbench.model.open import base_of, new_value_head, open_runs
from workbench.model.roles import Roles
from workbench.run.card import write_card
from workbench.run.checkpoints import full_disk_explained, latest_checkpoint, save_checkpoint
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.progress import progress
from workbench.run.tracking import Tracker


@dataclass
class State:
    """What changes from iteration to iteration, besides adapters and optimizers."""

    iteration: int
    """The next one to run."""
    kl_coef: float
    episodes: int = 0


def train(config: PpoConfig, *, resume: bool) -> RunFolder:
    """Run the phase: load the roles, check them, iterate, save."""
    _check_sizes(config)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    start = RunFolder.open(config.model.start, phase=("sft", "ppo"))
    reward = RunFolder.open(config.model.reward, phase="reward")
    spec = base_of(start.require_finished(), config.model.base)
    folder = RunFolder.create(config.run.dir, phase="ppo", config=config, overwrite=config.run.overwrite, resume=resume)
    if folder.finished:
        print(f"{folder.path}: this ppo run is finished already")
        return folder
    roles = open_roles(
        start, reward, base=config.model.base, activation_checkpointing=config.model.activation_checkpointing
    )
    prompts, heldout = _load_prompts(config, roles, folder, spec)
    optimizers = Optimizers.of(roles, beta2=config.train.adam_beta2, eps=config.train.adam_eps)
    state = State(iteration=0, kl_coef=config.reward.kl_coef)
    if resume:
        state = _resume(folder, roles, optimizers, state)
    tracker = Tracker(
        folder, project=config.tracking.project, mode=config.tracking.wandb, config=config.model_dump(mode="json")
    )
    print("roles: " + ", ".join(f"{role} {count:,}" for role, count in roles.parameter_counts().items()))
    with full_disk_explained(folder.path), tracker:
        iterate(config, roles, optimizers, state, prompts, heldout, tracker, folder)
        results = _evaluate(config, roles, heldout, tracker, config.train.iterations)
        roles.save_adapter("policy", folder.adapter)
        save_head(folder.head_path, roles.heads["value"])
        write_card(folder, about="PPO against a reward model, from a supervised adapter.", results=results)
    return folder


def open_roles(start: RunFolder, reward: RunFolder, *, base: str | None, activation_checkpointing: bool) -> Roles:
    """Reference and reward from their runs; policy a copy of the reference, value a copy of the reward model."""
    roles = open_runs({"reference": start.path, "reward": reward.path}, base=base)
    check_reference_is_not_base(roles)
    roles.copy("reference", "policy")
    roles.copy("reward", "value")
    roles.heads["value"] = new_value_head(roles.heads["reward"])
    if activation_checkpointing:
        roles.checkpoint_activations()
    return roles


def iterate(
    config: PpoConfig,
    roles: Roles,
    optimizers: Optimizers,
    state: State,
    prompts: PromptSet,
    heldout: PromptSet,
    tracker: Tracker,
    folder: RunFolder,
) -> None:
    """The loop."""
    watch, first = FrozenWatch(roles, ("reference", "reward")), state.iteration
    bar = progress(total=config.train.iterations, initial=state.iteration, description="ppo", unit="iteration")
    for iteration in range(state.iteration, config.train.iterations):
        if iteration == 0 or _due(iteration, config.evaluation.every):
            _evaluate(config, roles, heldout, tracker, iteration)
        clock = Clock()
        rollout = collect(
            roles,
            prompts_of_iteration(prompts, iteration, config.rollout.batch_size, config.run.seed),
            max_new_tokens=config.rollout.max_new_tokens,
            temperature=config.rollout.temperature,
            micro_batch_size=config.rollout.micro_batch_size,
            seed=_seed(config, iteration, 0),
        )
        clock.mark("rollout")
        if iteration == 0:
            check_policy_is_reference(rollout)
        targets, reward_metrics = _targets(config, rollout, state.kl_coef)
        metrics = update_policy_and_value(config, roles, optimizers, rollout, targets, iteration)
        clock.mark("update")
        if iteration == first:
            watch.check()

        kl = float(kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1).mean())
        if config.reward.kl_target > 0:
            state.kl_coef = adapted_kl_coef(
                state.kl_coef,
                kl,
                target=config.reward.kl_target,
                horizon=config.reward.kl_horizon,
                episodes=len(rollout.rows),
            )
        state.iteration, state.episodes = iteration + 1, state.episodes + len(rollout.rows)
        if _due(iteration, config.tracking.log_every) or state.iteration == config.train.iterations:
            tracker.log(
                {**reward_metrics, **metrics, **clock.metrics(rollout.tokens), "objective/episodes": state.episodes},
                iteration,
            )
        bar.set_postfix_str(f"score {reward_metrics['objective/score']:.2f} kl {kl:.2f}")
        bar.update()
        if _due(state.iteration, config.checkpoint.every) and state.iteration < config.train.iterations:
            _save(folder, roles, optimizers, state, keep_last=config.checkpoint.keep_last)
    bar.close()
    watch.check()


def update_policy_and_value(
    config: PpoConfig, roles: Roles, optimizers: Optimizers, rollout: Rollout, targets: Targets, iteration: int
) -> dict[str, float]:
    """The epochs over one rollout, at this iteration's learning rates."""
    section = config.train
    factor = learning_rate_factor(iteration, section.iterations, section.warmup_iterations)
    optimizers.set_learning_rates(section.lr * factor, section.value_lr * factor)
    metrics = update(
        roles,
        optimizers,
        rollout,
        targets,
        ppo_epochs=section.ppo_epochs,
        minibatch_size=section.minibatch_size,
        micro_batch_size=section.micro_batch_size,
        temperature=config.rollout.temperature,
        clip_range=section.clip_range,
        value_clip_range=section.value_clip_range,
        entropy_coef=section.entropy_coef,
        target_kl=section.target_kl,
        max_grad_norm=section.max_grad_norm,
        train_policy=iteration >= section.value_only_iterations,
        seed=_seed(config, iteration, 1),
    )
    return metrics | {"policy/learning_rate": section.lr * factor, "value/learning_rate": section.value_lr * factor}


def learning_rate_factor(iteration: int, iterations: int, warmup: int) -> float:
    """Linear from 0 to 1 over the warm-up, then linear to 0 after the last iteration."""
    rise = (iteration + 1) / (warmup + 1) if iteration < warmup else 1.0
    return min(rise, 1 - iteration / iterations)


def _targets(config: PpoConfig, rollout: Rollout, kl_coef: float) -> tuple[Targets, dict[str, float]]:
    """Rewards and advantages of a rollout, and the `objective/` metrics."""
    section = config.reward
    given = effective_scores(
        section.sign * rollout.scores,
        rollout.ended,
        missing_eos_score=section.missing_eos_score,
        score_clip=section.score_clip,
    )
    rewards = token_rewards(given, rollout.old_logprobs, rollout.reference_logprobs, rollout.mask, kl_coef=kl_coef)
    if section.whiten:
        rewards = whiten(rewards, rollout.mask, keep_mean=True)
    advantages, value_targets = gae(
        rewards, rollout.values, rollout.mask, gamma=section.gamma, gae_lambda=section.gae_lambda
    )
    lengths = rollout.mask.sum(dim=1).float()
    metrics = {
        "objective/score": float(rollout.scores.mean()),
        "objective/score_std": float(rollout.scores.std()),
        "objective/kl": float(kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1).mean()),
        "objective/kl_exact": float(rollout.kl.sum(dim=1).mean()),
        "objective/reward": float(rewards.sum(dim=1).mean()),
        "objective/entropy": float(rollout.entropy.sum() / rollout.tokens),
        "objective/kl_coef": kl_coef,
        "response/length": float(lengths.mean()),
        "response/eos_rate": float(rollout.ended.float().mean()),
        "value/explained_variance": explained_variance(rollout.values, value_targets, rollout.mask),
    }
    return Targets(whiten(advantages, rollout.mask, keep_mean=False), value_targets), metrics


class Clock:
    """Seconds of an iteration's stages."""

    def __init__(self) -> None:
        self.last, self.seconds = time.monotonic(), dict[str, float]()

    def mark(self, stage: str) -> None:
        """The stage that ends now."""
        now = time.monotonic()
        self.seconds[stage], self.last = now - self.last, now

    def metrics(self, tokens: int) -> dict[str, float]:
        """By metric name; `tokens` are the rollout's response tokens."""
        total = sum(self.seconds.values())
        stages = {f"speed/{stage}_seconds": value for stage, value in self.seconds.items()}
        return {**stages, "speed/tokens_per_second": tokens / total}


def _evaluate(config: PpoConfig, roles: Roles, heldout: PromptSet, tracker: Tracker, step: int) -> dict[str, float]:
    metrics, rows = evaluate(
        roles,
        heldout.take(list(range(min(config.evaluation.prompts, len(heldout))))),
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
        micro_batch_size=config.rollout.micro_batch_size,
        seed=config.run.seed,
    )
    tracker.log(metrics, step)
    tracker.samples(rows, step)
    return metrics


def _load_prompts(config: PpoConfig, roles: Roles, folder: RunFolder, spec: BaseSpec) -> tuple[PromptSet, PromptSet]:
    files = {"train": resolve_data(config.data.train)}
    if config.data.heldout is not None:
        files["heldout"] = resolve_data(config.data.heldout)
    prompts, heldout = load_prompts(
        roles.tokenizer,
        train=files["train"],
        heldout=files.get("heldout"),
        heldout_share=config.data.heldout_share,
        max_prompt_length=config.data.max_prompt_length,
        seed=config.run.seed,
    )
    folder.record_lineage(
        parents={"start": config.model.start, "reward": config.model.reward},
        data=files,
        base=spec.as_record(),
        chat_template=template_hash(roles.tokenizer),
        seed=config.run.seed,
        method=config.method,
    )
    return prompts, heldout


def _save(folder: RunFolder, roles: Roles, optimizers: Optimizers, state: State, *, keep_last: int) -> None:
    """Everything that the next iteration depends on; sampling and shuffles depend on seed and iteration alone."""
    content: dict[str, Any] = {
        "state": vars(state),
        "adapters": {role: roles.adapter_state(role) for role in ("policy", "value")},
        "value_head": roles.heads["value"].state_dict(),
        "optimizers": {"policy": optimizers.policy.state_dict(), "value": optimizers.value.state_dict()},
        "rng": {"torch": torch.get_rng_state(), "numpy": numpy.random.get_state(), "python": random.getstate()},
    }

    def write(hidden: Path) -> None:
        torch.save(content, hidden / "state.pt")

    save_checkpoint(folder.checkpoints, state.iteration, write, keep_last=keep_last)


def _resume(folder: RunFolder, roles: Roles, optimizers: Optimizers, fresh: State) -> State:
    """Put back the newest checkpoint, or start over where there is none."""
    checkpoint = latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        folder.rewind_rows(-1)
        return fresh
    content = torch.load(checkpoint / "state.pt", map_location=roles.device, weights_only=False)
    for role, weights in content["adapters"].items():
        roles.load_adapter_state(role, weights)
    roles.heads["value"].load_state_dict(content["value_head"])
    optimizers.policy.load_state_dict(content["optimizers"]["policy"])
    optimizers.value.load_state_dict(content["optimizers"]["value"])
    torch.set_rng_state(content["rng"]["torch"].cpu())
    numpy.random.set_state(content["rng"]["numpy"])
    random.setstate(content["rng"]["python"])
    state = State(**content["state"])
    folder.rewind_rows(state.iteration - 1)
    return state


def _check_sizes(config: PpoConfig) -> None:
    for key, small, large_key, large in (
        ("train.minibatch_size", config.train.minibatch_size, "rollout.batch_size", config.rollout.batch_size),
        ("train.micro_batch_size", config.train.micro_batch_size, "train.minibatch_size", config.train.minibatch_size),
    ):
        if large % small:
            raise WorkbenchError(key, f"{small} does not divide {large_key} {large}", remedy=f"{key}={large}")


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _seed(config: PpoConfig, iteration: int, purpose: int) -> int:
    """A seed of its own for each random act of a run."""
    return ((config.run.seed * 2 + purpose) * 1_000_003 + iteration) * 100_003 % (1 << 62)
