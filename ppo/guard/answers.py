"""The guard in contrastive training: the answers to held-out prompts of each evaluation."""

from collections.abc import Sequence

import numpy as np

from ppo.config import GuardSection
from ppo.contrastive.data import Row
from ppo.contrastive.trainer import LossTrainer
from ppo.guard.decide import Decision
from ppo.guard.guard import Guard
from ppo.guard.measure import Answers, labelled_cloud, observe
from ppo.guard.signals import Cloud
from ppo.guard.sources import check_enough, judge_runs
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt
from workbench.evaluate.evaluation import Answer
from workbench.evaluate.policy import Sampling
from workbench.model.adapters import read_adapter
from workbench.model.roles import Roles
from workbench.model.score import compare_roles
from workbench.model.session import Session
from workbench.model.training import save_trained_adapter

PLACE = "judge_1"
"""The judge whose states are compared with those of the answers that training learns from."""


class AnswerGuard:
    """Judges sampled answers and acts on the trainer.

    Args:
        section: the guard's configuration.
        trainer: whose loss gets a larger β.
        session: the run.
        roles: with the policy as `default`; judges and `reference` are on the base during an evaluation.
        rows: the training rows.
        sampling: of the answers.
    """

    def __init__(
        self,
        section: GuardSection,
        trainer: LossTrainer,
        session: Session,
        roles: Roles,
        rows: Sequence[Row],
        sampling: Sampling,
    ) -> None:
        self.section, self.trainer, self.session = section, trainer, session
        self.roles, self.sampling = roles, sampling
        self.judges = {role: run.path for role, run in judge_runs(self.section).items()}
        sides = ("answer",) if "answer_ids" in rows[0] else ("chosen", "rejected")
        self.labelled = [[*row["prompt_ids"], *row[f"{side}_ids"]] for side in sides for row in rows]
        self.cloud: Cloud | None = None
        self.guard = Guard(session.folder, self.section)
        for _ in range(self.guard.times_raised):
            self._raise_beta()

    def see(self, answers: Sequence[Answer], step: int) -> Decision:
        """Observe answers, with the judges and the reference on the base; in the first process only.

        Raises:
            WorkbenchError: too few answers: fewer prompts are held out than `evaluation.prompts`.
        """
        check_enough("data.heldout", len(answers))
        size = self.sampling.batch_size
        if self.cloud is None:
            self.cloud = labelled_cloud(self.roles, PLACE, self.labelled, batch_size=size)
        messages = [[Message.model_validate(message) for message in answer.prompt] for answer in answers]
        prompts = [encode_prompt(self.roles.tokenizer, prompt) for prompt in messages]
        ids = [list(answer.ids) for answer in answers]
        temperature = self.sampling.temperature
        compared = compare_roles(
            self.roles, "default", "reference", prompts, ids, temperature=temperature, batch_size=size
        )
        batch = Answers(
            rows=[prompt + response for prompt, response in zip(prompts, ids, strict=True)],
            scores=np.zeros((0, len(ids))),
            logratios=np.array([row.policy - row.reference for row in compared]),
            length=float(np.mean([row.tokens for row in compared])),
            entropy=-sum(row.policy for row in compared) / sum(row.tokens for row in compared),
            kl=float(np.mean([row.kl_exact for row in compared])),
        )
        found = observe(self.roles, list(self.judges), PLACE, self.cloud, batch, step=step, batch_size=size)
        model, tokenizer = self.roles.model, self.roles.tokenizer
        decision = self.guard.see(found, lambda folder: save_trained_adapter(model, tokenizer, folder))
        self.session.tracker.log(self.guard.metrics(), step)
        return decision

    def act(self, decision: Decision) -> bool:
        """Raise β, or go back to an earlier policy; whether training ends. In every process."""
        if decision.action == "beta":
            self._raise_beta()
        if decision.back_to is None:
            return False
        self.roles.load_adapter_state("default", read_adapter(self.guard.kept(decision.back_to)))
        self.session.tracker.status = "rolled back"
        return True

    def _raise_beta(self) -> None:
        section = self.trainer.section
        self.trainer.section = section.model_copy(update={"beta": section.beta * self.section.beta_factor})
