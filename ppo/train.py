"""PPO: policy, reference, value and reward as adapters of one base.

for each iteration:   collect → rewards → advantages → update → log
"""

import contextlib
from collections.abc import Iterator

import torch

from ppo.advantages import Targets, targets_of
from ppo.checks import FrozenWatch, check_policy_is_reference, divergence_explained, stop_if_diverged
from ppo.config import PpoConfig
from ppo.evaluate import Clock, evaluate, kl_per_response, rollout_metrics
from ppo.guard.guard import rollback_text
from ppo.guard.sources import judge_runs
from ppo.inputs import check_inputs, check_passports, forced_text
from ppo.kl import adapted_kl_coef
from ppo.rewards import rewards_of
from ppo.rollout import Rollout, collect, prompts_of_iteration
from ppo.start import Run, load_data, open_run, reward_names
from ppo.state import save
from ppo.update import Update, learning_rates
from ppo.watch import warnings
from workbench.data.rules import RowRules
from workbench.model.heads import save_head
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.session import open_session, prepare
from workbench.run.card import write_card
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import DOCTOR, SAME_STEP, memory_hint
from workbench.run.progress import progress


def train(config: PpoConfig, *, resume: bool) -> RunFolder:
    """Run the phase: load the roles, check them, iterate, save.

    Raises:
        WorkbenchError: bad input; the run diverged, or paused because people prefer the start policy.
    """
    check_all(check_inputs, config, resume=resume)
    setup = prepare(config)
    named = [RunFolder.open(path, phase="reward").require_finished() for path in config.model.reward]
    forced = check_passports(named, force=config.model.force)
    rewards = [member for reward in named for member in reward.members]
    names = {"train": config.data.train, "heldout": config.data.heldout, "demonstrations": config.data.demonstrations}
    files, rules = setup.files(names), RowRules(config.data.ignore, config.data.bad_rows)
    data = load_data(config, setup.tokenizer, files, rules)
    parents = {"start": config.model.start}
    parents |= {} if config.model.reference is None else {"reference": config.model.reference}
    parents |= dict(zip(reward_names(len(rewards)), (str(reward.path) for reward in rewards), strict=True))
    parents |= {role: str(judge.path) for role, judge in judge_runs(config.guard).items()}
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
    paused = None
    if not session.finished:
        if forced and session.processes.first:
            session.folder.update_record(forced=forced)
            session.say(f"forced: {forced_text(forced)}")
        with session.running():
            run = open_run(config, setup, session, rewards, data)
            with run.roles.one_thread_per_op():
                iterate(run)
                paused = run.people.paused if run.people is not None else None
                if paused is None:
                    _end(run)
                elif session.processes.first:
                    _save(run)
    setup.processes.close()
    if paused is not None:
        raise paused
    return session.folder


def iterate(run: Run) -> None:
    """The PPO loop, from the first iteration (or the resumed one) to the last."""
    config, state, first = run.config, run.state, run.state.iteration
    frozen = [name for name in run.roles.names if name not in ("policy", "value")]
    watch = FrozenWatch(run.roles, frozen)
    iterations = config.train.iterations
    bar = progress(total=iterations, initial=first, description="ppo", unit="iteration", quiet=not run.processes.first)
    for iteration in range(first, iterations):
        with _saved_if_interrupted(run):
            if iteration == 0 or _due(iteration, config.evaluation.every):
                _evaluate(run, iteration)
            clock = Clock(run.roles.device)
            rollout = _collect(run, iteration)  # responses with log-probabilities, values (B, R) and scores (B,)
        clock.mark("rollout", rollout.tokens)
        if run.guard is not None and run.guard.stops(rollout, iteration):
            break
        if run.people is not None and run.people.pauses(rollout, iteration):
            break
        if iteration == 0 and config.model.reference is None:
            _check_start(run, rollout)
        rewards = rewards_of(rollout, config.reward, kl_coef=state.kl_coef)  # (B, R)
        targets = targets_of(rollout, rewards, config)  # advantages and value targets, (B, R) each
        learned = _update(run, rollout, targets, iteration)
        clock.mark("update", rollout.tokens * config.train.ppo_epochs)
        if iteration == first:
            watch.check()

        metrics = rollout_metrics(rollout, rewards, targets, kl_coef=state.kl_coef) | learned
        _advance(run, rollout)
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


def _collect(run: Run, iteration: int) -> Rollout:
    """Sample and score responses to this iteration's prompts."""
    section = run.config.rollout
    prompts = prompts_of_iteration(run.data.prompts, iteration, section, seed=run.config.run.seed)
    with divergence_explained(run.folder, run.state, iteration):
        run.engine.refresh()
        return collect(
            run.roles, run.engine, prompts, section, seed=_seed(run.config, iteration, 0), processes=run.processes
        )


def _check_start(run: Run, rollout: Rollout) -> None:
    """Before the first update the policy is the reference."""
    dtype, device = run.roles.dtype, run.roles.device
    exactly = dtype == torch.float32 and device.type == "cpu"
    check_policy_is_reference(rollout, LOGPROB_LIMITS[dtype], exactly=exactly)


@memory_hint(
    "in a PPO update",
    f"a smaller train.micro_batch_size ({SAME_STEP}); model.activation_checkpointing=true. {DOCTOR}",
)
def _update(run: Run, rollout: Rollout, targets: Targets, iteration: int) -> dict[str, float]:
    """The epochs over one rollout, at this iteration's learning rates."""
    section = run.config.train
    policy_lr, value_lr = learning_rates(section, iteration)
    run.optimizers.set_learning_rates(policy_lr, value_lr)
    update = Update(
        run.roles,
        run.optimizers,
        rollout,
        targets,
        run.config,
        run.state.kl_coef,
        run.processes,
        run.data.demonstrations,
    )
    with divergence_explained(run.folder, run.state, iteration):
        metrics = update.run(
            train_policy=iteration >= section.value_only_iterations, seed=_seed(run.config, iteration, 1)
        )
    rates = {"policy/learning_rate": policy_lr}
    if run.optimizers.value is not None:
        rates["value/learning_rate"] = value_lr
    return metrics | rates


def _advance(run: Run, rollout: Rollout) -> None:
    """Adapt the KL coefficient and count the iteration."""
    state, section = run.state, run.config.reward
    if section.kl_target > 0:
        state.kl_coef = adapted_kl_coef(
            state.kl_coef,
            kl_per_response(rollout),
            target=section.kl_target,
            horizon=section.kl_horizon,
            episodes=len(rollout.rows),
        )
    state.iteration, state.episodes = state.iteration + 1, state.episodes + len(rollout.rows)


def _warn(run: Run, metrics: dict[str, float], iteration: int) -> None:
    """Give each kind of warning once, in the terminal and in run.json."""
    run.state.recent = [*run.state.recent[-3:], metrics]
    if not run.state.first:
        run.state.first = metrics
    for kind, text in warnings(run.state.first, run.state.recent, iteration):
        if kind not in run.state.warned:
            run.state.warned.add(kind)
            if run.processes.first:
                run.folder.warn(kind, text, iteration=iteration)


def _evaluate(run: Run, step: int) -> dict[str, float]:
    """Answer the held-out prompts, log metrics and samples, and note the held-out reward."""
    config, prompts = run.config, run.data.heldout
    prompts = prompts.take(list(range(min(config.evaluation.prompts, len(prompts)))))
    with divergence_explained(run.folder, run.state, step):
        run.engine.refresh()
        metrics, rows = evaluate(
            run.roles, run.engine, prompts, config.rollout, seed=config.run.seed, processes=run.processes
        )
    run.tracker.log(metrics, step)
    run.tracker.samples(rows, step)
    _stop_if_diverged(run, f"before iteration {step}", metrics)
    run.state.heldout[step] = metrics["heldout/score"] - run.state.kl_coef * metrics["heldout/kl"]
    return metrics


def _stop_if_diverged(run: Run, moment: str, metrics: dict[str, float]) -> None:
    vocabulary = run.roles.causal_model.config.get_text_config().vocab_size
    stop_if_diverged(run.folder, run.state, moment, metrics, stop_kl=run.config.train.stop_kl, vocabulary=vocabulary)


def _save(run: Run) -> None:
    save(run.folder, run.roles, run.optimizers, run.state, run.config.checkpoint)


@contextlib.contextmanager
def _saved_if_interrupted(run: Run) -> Iterator[None]:
    """Save a checkpoint on Ctrl-C and SIGTERM. The body only samples, so it changes nothing that a checkpoint holds."""
    try:
        yield
    except KeyboardInterrupt:
        if run.processes.first and run.state.iteration > 0:
            _save(run)
        raise


def _end(run: Run) -> None:
    """Evaluate the policy, and write it with the value head and the model card."""
    if run.people is not None:
        run.people.end()
    results = _evaluate(run, run.state.iteration)
    if not run.processes.first:
        return
    run.roles.save_adapter("policy", run.folder.adapter)
    if "value" in run.roles.heads:
        save_head(run.folder.head_path, run.roles.heads["value"])
    about = "PPO against a reward model, from a supervised adapter."
    if "forced" in run.folder.record():
        about += f" Forced, against the advice of its passport: {forced_text(run.folder.record()['forced'])}."
    if "people" in run.folder.record():
        about += f" People's spot checks paused it in iteration {run.folder.record()['people']['paused_at']}."
    write_card(run.folder, about=about + rollback_text(run.folder), results=results)


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _seed(config: PpoConfig, iteration: int, purpose: int) -> int:
    """A separate seed for each iteration and purpose (0: sampling, 1: the minibatch order)."""
    return ((config.run.seed * 2 + purpose) * 1_000_003 + iteration) * 100_003 % (1 << 62)
