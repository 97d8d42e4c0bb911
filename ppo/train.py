"""PPO: policy, reference, value and reward as adapters of one base.

for each iteration:   collect → rewards → advantages → update → log
"""

import contextlib
import time
from collections.abc import Iterator

import torch

from ppo.advantages import Targets, targets_of
from ppo.checks import FrozenWatch, check_policy_is_reference
from ppo.config import PpoConfig
from ppo.evaluate import evaluate, kl_per_response, rollout_metrics
from ppo.inputs import check_inputs, check_passports, forced_text
from ppo.kl import adapted_kl_coef
from ppo.rewards import RewardRule, rewards_of
from ppo.rollout import Rollout, collect, prompts_of_iteration, reward_models
from ppo.start import Run, load_data, open_run, reward_names
from ppo.state import save
from ppo.update import Objective, update
from ppo.watch import warnings
from workbench.data.rules import RowRules
from workbench.model.heads import save_head
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.session import open_session, prepare
from workbench.run.card import write_card
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.divergence import LOWER, diverged, require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.peak import peak_resident_bytes
from workbench.run.progress import progress

MUST_BE_FINITE = ("objective/score", "objective/kl", "policy/loss", "value/loss", "heldout/score", "heldout/kl")
NOTHING_TO_SAMPLE = ("probability tensor contains", "device-side assert")
"""How torch refuses to sample from probabilities that are not finite, on a CPU and on a GPU."""


def train(config: PpoConfig, *, resume: bool) -> RunFolder:
    """Run the phase: load the roles, check them, iterate, save."""
    check_all(check_inputs, config, resume=resume)
    setup = prepare(config)
    named = [RunFolder.open(path, phase="reward").require_finished() for path in config.model.reward]
    forced = check_passports(named, force=config.model.force)
    rewards = [member for reward in named for member in reward.members]
    names = {"train": config.data.train, "heldout": config.data.heldout, "demonstrations": config.data.demonstrations}
    files, rules = setup.files(names), RowRules(config.data.ignore, config.data.bad_rows)
    data = load_data(config, setup.tokenizer, files, rules)
    parents = {"start": config.model.start}
    parents |= dict(zip(reward_names(len(rewards)), (str(reward.path) for reward in rewards), strict=True))
    session = open_session(
        setup,
        config,
        "ppo",
        resume=resume,
        parents=parents,
        files=files,
        rules=rules,
        last_row=lambda iteration: iteration - 1,  # iteration N logs its row after checkpoint N
        method=config.method,
    )
    if not session.finished:
        if forced and session.processes.first:
            session.folder.update_record(forced=forced)
            session.say(f"forced: {forced_text(forced)}")
        with session.running():
            run = open_run(config, setup, session, rewards, data)
            with run.roles.one_thread_per_op():
                iterate(run)
                results = _evaluate(run, config.train.iterations)
                if session.processes.first:
                    _finish(run, results)
    setup.processes.close()
    return session.folder


def iterate(run: Run) -> None:
    """The loop."""
    config, state, roles = run.config, run.state, run.roles
    watch, first = FrozenWatch(roles, ("reference", *reward_models(roles))), state.iteration
    iterations = config.train.iterations
    bar = progress(total=iterations, initial=first, description="ppo", unit="iteration", quiet=not run.processes.first)
    for iteration in range(first, iterations):
        with _saved_if_interrupted(run):
            if iteration == 0 or _due(iteration, config.evaluation.every):
                _evaluate(run, iteration)
            clock = Clock(roles.device)
            with _divergence_explained(run, iteration):
                rollout = _collect(run, iteration)
        clock.mark("rollout", rollout.tokens)
        if iteration == 0:
            exactly = roles.dtype == torch.float32 and roles.device.type == "cpu"
            check_policy_is_reference(rollout, LOGPROB_LIMITS[roles.dtype], exactly=exactly)
        rewards, targets = _targets(run, rollout)
        with _divergence_explained(run, iteration):
            learned = _update(run, rollout, targets, iteration)
        clock.mark("update", rollout.tokens * config.train.ppo_epochs)
        if iteration == first:
            watch.check()

        metrics = rollout_metrics(rollout, rewards, targets, kl_coef=state.kl_coef) | learned
        if config.reward.kl_target > 0:
            state.kl_coef = adapted_kl_coef(
                state.kl_coef,
                kl_per_response(rollout),
                target=config.reward.kl_target,
                horizon=config.reward.kl_horizon,
                episodes=len(rollout.rows),
            )
        state.iteration, state.episodes = iteration + 1, state.episodes + len(rollout.rows)
        _warn(run, metrics, iteration)
        if _due(iteration, config.tracking.log_every) or state.iteration == iterations:
            run.tracker.log(metrics | clock.metrics() | {"objective/episodes": state.episodes}, iteration)
        _stop_if_diverged(run, f"in iteration {iteration}", metrics)
        bar.set_postfix_str(f"score {metrics['objective/score']:.2f} kl {metrics['objective/kl']:.2f}")
        bar.update()
        if run.processes.first and _due(state.iteration, config.checkpoint.every) and state.iteration < iterations:
            _save(run)
    bar.close()
    watch.check()


def _save(run: Run) -> None:
    section = run.config.checkpoint
    keep = {"keep_last": section.keep_last, "keep_best": section.keep_best}
    save(run.folder, run.roles, run.optimizers, run.state, **keep)


@contextlib.contextmanager
def _saved_if_interrupted(run: Run) -> Iterator[None]:
    """Save a checkpoint on Ctrl-C and SIGTERM: the body samples, and changes nothing that a checkpoint holds."""
    try:
        yield
    except KeyboardInterrupt:
        if run.processes.first and run.state.iteration > 0:
            _save(run)
        raise


def _collect(run: Run, iteration: int) -> Rollout:
    section = run.config.rollout
    run.engine.refresh()
    return collect(
        run.roles,
        run.engine,
        prompts_of_iteration(
            run.prompts, iteration, section.batch_size, run.config.run.seed, section.responses_per_prompt
        ),
        max_new_tokens=section.max_new_tokens,
        temperature=section.temperature,
        sample_batch_size=section.sampled_at_once,
        micro_batch_size=section.micro_batch_size,
        seed=_seed(run.config, iteration, 0),
        processes=run.processes,
    )


def _targets(run: Run, rollout: Rollout) -> tuple[torch.Tensor, Targets]:
    section, state = run.config.reward, run.state
    state.moments = state.moments.merged(rollout.scores)
    rule = RewardRule(
        kl_in=section.kl_in,
        kl_estimator=section.kl_estimator,
        missing_eos_score=section.missing_eos_score,
        score_clip=section.score_clip,
        length_penalty=section.length_penalty,
        free_length=section.free_length,
        spread_coef=section.spread_coef,
        sign=section.sign,
        whiten=section.whiten,
    )
    scale = state.moments if section.scale == "running" else None
    rewards = rewards_of(rollout, rule, kl_coef=state.kl_coef, scale=scale)
    targets = targets_of(
        rollout,
        rewards,
        method=run.config.train.advantage,
        gamma=section.gamma,
        gae_lambda=section.gae_lambda,
        responses_per_prompt=run.config.rollout.responses_per_prompt,
        importance_cap=run.config.rollout.importance_cap,
    )
    return rewards, targets


def _update(run: Run, rollout: Rollout, targets: Targets, iteration: int) -> dict[str, float]:
    """The epochs over one rollout, at this iteration's learning rates."""
    section, reward = run.config.train, run.config.reward
    policy_lr, value_lr = (
        lr * learning_rate_factor(iteration, section.iterations, section.warmup_iterations, first=first)
        for lr, first in ((section.lr, section.value_only_iterations), (section.value_lr, 0))
    )
    run.optimizers.set_learning_rates(policy_lr, value_lr)
    objective = Objective(
        ppo_epochs=section.ppo_epochs,
        minibatch_size=section.minibatch_size,
        micro_batch_size=section.micro_batch_size,
        temperature=run.config.rollout.temperature,
        clip_range=section.clip_range,
        value_clip_range=section.value_clip_range,
        value_coef=section.value_coef,
        entropy_coef=section.entropy_coef,
        kl_loss_coef=run.state.kl_coef if reward.kl_in == "loss" else 0.0,
        kl_estimator=reward.kl_estimator,
        ptx_coef=section.ptx_coef,
        target_kl=section.target_kl,
        max_grad_norm=section.max_grad_norm,
        average_decay=section.average_decay,
    )
    metrics = update(
        run.roles,
        run.optimizers,
        rollout,
        targets,
        objective,
        train_policy=iteration >= section.value_only_iterations,
        seed=_seed(run.config, iteration, 1),
        processes=run.processes,
        demonstrations=run.demonstrations,
    )
    rates = {"policy/learning_rate": policy_lr}
    if run.optimizers.value is not None:
        rates["value/learning_rate"] = value_lr
    return metrics | rates


def learning_rate_factor(iteration: int, iterations: int, warmup: int, *, first: int = 0) -> float:
    """Linear from 0 over the warm-up, which starts at iteration `first`, then linear to 0 after the last iteration."""
    rise = max(0, iteration - first + 1) / (warmup + 1)
    return min(rise, 1 - iteration / iterations)


class Clock:
    """Seconds and tokens of an iteration's stages, and the peak memory."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.last, self.found = device, time.monotonic(), dict[str, float]()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def mark(self, stage: str, tokens: int) -> None:
        """The stage that ends now, and the response tokens it went over."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        self.found |= {f"speed/{stage}_seconds": seconds, f"speed/{stage}_tokens_per_second": tokens / seconds}

    def metrics(self) -> dict[str, float]:
        """By metric name."""
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_resident_bytes()
        return self.found | {"speed/peak_gib": peak / 2**30}


def _warn(run: Run, metrics: dict[str, float], iteration: int) -> None:
    """Say each kind of warning once, in the terminal and in run.json."""
    run.state.recent = [*run.state.recent[-3:], metrics]
    if not run.state.first:
        run.state.first = metrics
    for kind, text in warnings(run.state.first, run.state.recent, iteration):
        if kind not in run.state.warned:
            run.state.warned.add(kind)
            if run.processes.first:
                run.folder.warn(kind, text, iteration=iteration)


def _stop_if_diverged(run: Run, moment: str, metrics: dict[str, float]) -> None:
    """Stop on figures that are not finite, and beyond the hard limit of the KL.

    Raises:
        WorkbenchError: the run diverged.
    """
    figures = {name: metrics[name] for name in MUST_BE_FINITE if name in metrics}
    require_finite(run.folder, moment, figures)
    limit = run.config.train.stop_kl
    for name, value in figures.items():
        if name.endswith("/kl") and 0 < limit < value:
            found = f"{name} is {value:.1f} nats per response, above train.stop_kl={limit:g}"
            remedy = f"{LOWER}, or a larger reward.kl_coef"
            raise diverged(run.folder, moment, found, remedy=remedy, best=_best_checkpoint(run))


def _best_checkpoint(run: Run) -> int | None:
    """The kept checkpoint with the best held-out reward."""
    known = [step for step in checkpoint_steps(run.folder.checkpoints) if step in run.state.heldout]
    return max(known, key=lambda step: run.state.heldout[step], default=None)


@contextlib.contextmanager
def _divergence_explained(run: Run, iteration: int) -> Iterator[None]:
    """Turn gradients and probabilities that are not finite into the error of a diverged run."""
    try:
        yield
    except FloatingPointError as error:
        raise diverged(run.folder, f"in iteration {iteration}", str(error), best=_best_checkpoint(run)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in NOTHING_TO_SAMPLE):
            raise
        found = "the policy's probabilities are not finite"
        raise diverged(run.folder, f"in iteration {iteration}", found, best=_best_checkpoint(run)) from error


def _evaluate(run: Run, step: int) -> dict[str, float]:
    config = run.config
    run.engine.refresh()
    with _divergence_explained(run, step):
        metrics, rows = evaluate(
            run.roles,
            run.engine,
            run.heldout.take(list(range(min(config.evaluation.prompts, len(run.heldout))))),
            role="average" if "average" in run.roles.names else "policy",
            max_new_tokens=config.rollout.max_new_tokens,
            temperature=config.rollout.temperature,
            sample_batch_size=config.rollout.sampled_at_once,
            micro_batch_size=config.rollout.micro_batch_size,
            seed=config.run.seed,
            processes=run.processes,
        )
    run.tracker.log(metrics, step)
    run.tracker.samples(rows, step)
    _stop_if_diverged(run, f"before iteration {step}", metrics)
    run.state.heldout[step] = metrics["heldout/score"] - run.state.kl_coef * metrics["heldout/kl"]
    return metrics


def _finish(run: Run, results: dict[str, float]) -> None:
    role = "average" if "average" in run.roles.names else "policy"
    run.roles.save_adapter(role, run.folder.adapter)
    if "value" in run.roles.heads:
        save_head(run.folder.head_path, run.roles.heads["value"])
    about = "PPO against a reward model, from a supervised adapter."
    if "forced" in run.folder.record():
        about += f" Forced, against the advice of its passport: {forced_text(run.folder.record()['forced'])}."
    write_card(run.folder, about=about, results=results)


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _seed(config: PpoConfig, iteration: int, purpose: int) -> int:
    """A seed of its own for each random act of a run."""
    return ((config.run.seed * 2 + purpose) * 1_000_003 + iteration) * 100_003 % (1 << 62)
