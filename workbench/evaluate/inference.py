"""Answers improved at sampling time only, without training: the best of several, or examples in the prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.data.records import Demonstration, Message, Prompt
from workbench.evaluate.best_of import best_of_kl, best_of_values
from workbench.evaluate.evaluation import Answer, TrajectoryPoint
from workbench.evaluate.policy import Policy, Sampling
from workbench.evaluate.statistics import Floats
from workbench.model.generate import Sampled


@dataclass(frozen=True)
class Inference:
    """How answers are improved at sampling time."""

    best_of: int = 1
    """Answers sampled for each one that is kept: the one that `picked_by` scores highest."""
    picked_by: str | None = None
    """Reward run that picks."""
    shots: int = 0
    """Demonstrations shown before each prompt, as earlier turns of the conversation."""
    examples: str | None = None
    """File of demonstrations that the shots are taken from, its first ones."""
    out: Path | None = None
    """File of the evaluation, which is not the run's own."""


@dataclass(frozen=True)
class FewShot:
    """A policy that sees examples before each prompt; implements `workbench.evaluate.policy.Policy`."""

    policy: Policy
    examples: Sequence[Demonstration]

    @property
    def sampling(self) -> Sampling:
        """How it answers."""
        return self.policy.sampling

    def sample(self, prompts: Sequence[Prompt]) -> Sequence[Sequence[Sampled]]:
        """(len(prompts), samples_per_prompt) answers."""
        return self.policy.sample([self.shown(self.examples, record) for record in prompts])

    def divergence(self, prompts: Sequence[Sequence[Message]], responses: Sequence[Sequence[int]]) -> None:
        """None: the KL to the same policy without examples is not measured."""
        return

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """(N,) nats of each response after the examples and its prompt, and (N,) its number of tokens."""
        return self.policy.negative_log_likelihood([_after(self.examples, prompt) for prompt in prompts], responses)

    @staticmethod
    def shown(examples: Sequence[Demonstration], record: Prompt) -> Prompt:
        """The record's prompt after the examples."""
        return Prompt(id=record.id, prompt=tuple(_after(examples, record.prompt)))


def _after(examples: Sequence[Demonstration], prompt: Sequence[Message]) -> list[Message]:
    """The examples, then the prompt; a system message stays first."""
    system = [message for message in prompt[:1] if message.role == "system"]
    turns = [
        message
        for example in examples
        for message in (*example.prompt, Message(role="assistant", content=example.response))
        if message.role != "system"
    ]
    return [*system, *turns, *prompt[len(system) :]]


@dataclass(frozen=True)
class BestOf:
    """A policy that gives the best of n answers of another one; implements `workbench.evaluate.policy.Policy`."""

    policy: Policy
    pool: Sequence[Answer]
    """n × samples_per_prompt scored answers to each prompt, prompt by prompt."""
    best_of: int

    @property
    def sampling(self) -> Sampling:
        """How it answers."""
        return self.policy.sampling

    def sample(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        """(len(prompts), samples_per_prompt) answers: the best of each n of the pool."""
        blocks = [self.pool[start : start + self.best_of] for start in range(0, len(self.pool), self.best_of)]
        best = [max(block, key=lambda answer: answer.score or 0.0) for block in blocks]
        answers = [Sampled(a.response, self.sampling.temperature, a.ended, a.ids) for a in best]
        each = self.sampling.samples_per_prompt
        assert len(answers) == each * len(prompts)
        return [answers[start : start + each] for start in range(0, len(answers), each)]

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[Sequence[int]]
    ) -> tuple[Floats, Floats]:
        """(N,) KL of best-of-n to the policy, the same for every answer, as sampled and as exact estimate."""
        kl = np.full(len(responses), best_of_kl(self.best_of))
        return kl, kl

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Of the policy itself: its likelihood is unchanged."""
        return self.policy.negative_log_likelihood(prompts, responses)


def best_of_curve(pool: Sequence[Answer], prompts: int) -> list[TrajectoryPoint]:
    """Score, gold reward and KL of best-of-n for n = 1, 2, 4, … up to the answers per prompt. `step` is n.

    Args:
        pool: scored answers, prompt by prompt, equally many to each.
        prompts: number of prompts.
    """
    size = len(pool) // prompts
    scores = np.array([answer.score for answer in pool], dtype=np.float64).reshape(prompts, size)
    known = all(answer.gold is not None for answer in pool)
    gold = np.array([answer.gold or 0.0 for answer in pool]).reshape(prompts, size)
    points = []
    for n in (2**power for power in range(size.bit_length())):
        by_prompt = best_of_values(scores, gold, n)
        points.append(
            TrajectoryPoint(
                step=n,
                score=float(best_of_values(scores, scores, n).mean()),
                gold=float(by_prompt.mean()) if known else None,
                gold_error=float(by_prompt.std(ddof=1)) / math.sqrt(prompts) if known and prompts > 1 else None,
                kl=best_of_kl(n),
                count=prompts,
            )
        )
    return points


def widened(sampling: Sampling, best_of: int) -> Sampling:
    """The sampling of the pool that the best answers are taken from."""
    return replace(sampling, samples_per_prompt=best_of * sampling.samples_per_prompt)
