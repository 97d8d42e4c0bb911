"""How a contrastive policy does: on held-out pairs, each counted once, and in its answers to held-out prompts."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import Row, column, heldout_figures, logprobs_of
from ppo.contrastive.losses import METHODS, chosen_nll, pair_losses
from ppo.contrastive.watch import warnings
from ppo.guard.answers import AnswerGuard
from ppo.guard.decide import Decision
from workbench.data.batching import prompts_with_room
from workbench.data.records import Prompt
from workbench.evaluate.evaluation import Answer, PolicyEvaluation
from workbench.evaluate.policy import Opponent, Sampling, evaluate_policy, sampled_answers
from workbench.evaluate.role_models import RolePolicy, RoleScore, reward_roles
from workbench.model.heads import load_head
from workbench.model.open import check_probe
from workbench.model.roles import Roles
from workbench.model.session import Session
from workbench.run.folder import RunFolder


def evaluate_pairs(
    roles: Roles, rows: Sequence[Row], groups: Sequence[str], config: ContrastiveConfig
) -> dict[str, float]:
    """`heldout/…`: loss, accuracy with its interval, and margin over N held-out pairs.

    Args:
        roles: with the policy as `default`.
        rows: N pairs with their reference.
        groups: (N,) prompts, over which the interval of the accuracy is computed.
        config: of the phase: its method, loss and micro-batch.
    """
    section = config.loss
    pairs = logprobs_of(roles, rows, batch_size=2 * config.train.micro_batch_size)
    losses = pair_losses(
        config.method,
        pairs,
        beta=section.beta,
        targets=column(rows, "target").double(),
        margins=column(rows, "margin").double(),
        length_coef=section.length_coef,
    )
    losses = losses + section.sft_coef * chosen_nll(pairs)
    gaps = METHODS[config.method][0](pairs, section.beta)
    return heldout_figures(losses, gaps, groups)


class Watch(TrainerCallback):
    """Answers the same held-out prompts before, during and after training; logs what they are like, and warns.

    The adapters of the reference and of the reward model are on the base during an evaluation only, so a trainer's
    checkpoints hold the policy alone.

    Args:
        config: of the phase.
        session: the run; its first process samples.
        roles: with the policy as `default`.
        start: the start run, whose adapter is the reference.
        prompts: held-out prompts.
        guard: makes the guard, which judges the answers and may end training; None: there is none.
    """

    def __init__(
        self,
        config: ContrastiveConfig,
        session: Session,
        roles: Roles,
        start: RunFolder,
        prompts: Sequence[Prompt],
        guard: Callable[[Sampling], AnswerGuard] | None = None,
    ) -> None:
        section = config.evaluation
        fitting = prompts_with_room(
            roles.tokenizer, prompts, max_new_tokens=section.max_new_tokens, key="evaluation.max_new_tokens"
        )
        self.section, self.session, self.roles, self.start = section, session, roles, start
        self.prompts = fitting[: section.prompts]
        self.sampling = Sampling(max_new_tokens=section.max_new_tokens, seed=config.run.seed)
        self.guard = guard(self.sampling) if guard else None
        self.last = -1

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Before training; a resumed run has the rows up to its checkpoint already."""
        done = [row["step"] for row in self.session.folder.read_metrics() if "heldout/kl" in row]
        self.last = max(done, default=-1)
        if state.global_step == 0 and not done:
            self.evaluate(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Every so many steps."""
        if state.global_step % self.section.every == 0:
            control.should_training_stop = self.evaluate(state.global_step) or control.should_training_stop

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After training."""
        if self.last != state.global_step:
            self.evaluate(state.global_step)

    def evaluate(self, step: int) -> bool:
        """Answer, measure, log and warn; whether the guard ends training."""
        self.last = step
        decision = self.session.processes.on_first(lambda: self._evaluate(step))
        return self.guard is not None and decision is not None and self.guard.act(decision)

    def _evaluate(self, step: int) -> Decision | None:
        with self._judges() as score:
            policy = RolePolicy(self.roles, "default", "reference", self.sampling)
            opponent = Opponent(str(self.start.path), self._answers_of_start) if score else None
            found = evaluate_policy(policy, self.prompts, score=score, opponent=opponent)
            self.session.tracker.log(answer_metrics(found), step)
            self.session.tracker.samples([sample_row(answer) for answer in found.answers], step)
            self._warn(step)
            return self.guard.see(found.answers, step) if self.guard else None

    @contextlib.contextmanager
    def _judges(self) -> Iterator[RoleScore | None]:
        """In the body, the role `reference` and the reward model's roles are on the base."""
        rewards = reward_roles(Path(self.section.reward)) if self.section.reward else {}
        judges = self.guard.judges if self.guard else {}
        with guests(self.roles, {"reference": self.start.path, **rewards, **judges}):
            yield RoleScore(self.roles, list(rewards), self.sampling.batch_size) if rewards else None

    @cached_property
    def _answers_of_start(self) -> list[Answer]:
        return sampled_answers(RolePolicy(self.roles, "reference", None, self.sampling), self.prompts)

    def _warn(self, step: int) -> None:
        """Give each kind of warning once, in the terminal and in run.json."""
        folder = self.session.folder
        rows, given = folder.read_metrics(), {one["kind"] for one in folder.record().get("warnings", [])}
        training, evaluations = (
            [row for row in rows if name in row] for name in ("contrastive/chosen_logratio", "heldout/kl")
        )
        for kind, text in warnings(training, evaluations):
            if kind not in given:
                folder.warn(kind, text, step=step)


@contextlib.contextmanager
def guests(roles: Roles, runs: Mapping[str, Path]) -> Iterator[None]:
    """In the body, the runs are roles on the base; after it, the trainer's `default` is alone again.

    Raises:
        WorkbenchError: a run does not fit the base, or a reward model scores its probe batch differently than before.
    """
    try:
        for role, path in runs.items():
            folder = RunFolder.open(path)
            scores = folder.record()["phase"] == "reward"
            head, probe = load_head(folder.head_path) if scores else (None, None)
            roles.add(role, folder.adapter, head)
            if probe is not None:
                check_probe(roles, role, probe, folder.path)
        yield
    finally:
        for role in [name for name in roles.names if name != "default"]:
            roles.remove(role)


def answer_metrics(found: PolicyEvaluation) -> dict[str, float]:
    """`heldout/…` of sampled answers."""
    assert found.kl is not None
    metrics = {
        "heldout/kl": found.kl.mean,
        "heldout/length": found.length.mean,
        "heldout/eos_rate": found.eos_rate.mean,
        "heldout/unique": found.unique_share,
    }
    names = {"1": "heldout/distinct_1", "2": "heldout/distinct_2", "3": "heldout/distinct_3"}
    metrics |= {names[n]: share for n, share in found.distinct.items() if share is not None}
    if found.reward_model_score is not None:
        metrics["heldout/score"] = found.reward_model_score.mean
    if found.win_rate is not None:
        wins = found.win_rate
        metrics |= {
            "heldout/win_rate": wins.mean,
            "heldout/win_rate_low": wins.low,
            "heldout/win_rate_high": wins.high,
            "heldout/win_rate_length_controlled": wins.length_controlled,
        }
    return metrics


def sample_row(answer: Answer) -> dict[str, Any]:
    """A row for samples.jsonl."""
    names = ("prompt_id", "prompt", "response", "ended", "score", "kl")
    return {name: getattr(answer, name) for name in names} | {"ids": list(answer.ids)}
