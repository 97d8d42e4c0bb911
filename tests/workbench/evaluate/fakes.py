"""A policy, a gold reward and a reward model without a neural network, and run folders made without a phase."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.data.records import Demonstration, Message, Preference, Prompt
from workbench.evaluate.policy import Sampling
from workbench.model.generate import Sampled


@dataclass(frozen=True)
class FakeGold:
    total: float
    facts: float
    courtesy: float


def gold(prompt, response, ended=True):
    """0.1 per word "good", −0.2 per word "bad", at most 1; None for a prompt without a question mark."""
    if "?" not in prompt[-1].content:
        return None
    facts = min(1.0, 0.1 * response.split().count("good"))
    courtesy = -0.2 * response.split().count("bad")
    return FakeGold(facts + courtesy, facts, courtesy)


def score(prompts, responses, ended, ids=None):
    """A reward model that scores the number of words."""
    return np.array([float(len(response.split())) for response in responses])


class FakePolicy:
    """Answers with a random number of `word`s; the KL per token is `nats`."""

    def __init__(self, word="good", *, nats=0.1, reference=True, ends=0.9, **sampling):
        self.word, self.nats, self.reference, self.ends = word, nats, reference, ends
        self.sampling = Sampling(**sampling)

    def sample(self, prompts):
        rng = np.random.default_rng(self.sampling.seed)
        return [[self._answer(rng) for _ in range(self.sampling.samples_per_prompt)] for _ in prompts]

    def _answer(self, rng):
        length, ended = int(rng.integers(2, 9)), bool(rng.random() < self.ends)
        return Sampled(" ".join([self.word] * length), 1.0, ended, tuple(range(length + ended)))

    def divergence(self, prompts, responses):
        if not self.reference:
            return None
        exact = np.array([self.nats * len(ids) for ids in responses])
        return exact + np.resize([0.5, -0.5], len(exact)), exact

    def negative_log_likelihood(self, prompts, responses):
        tokens = np.array([float(len(response.split()) + 1) for response in responses])
        return tokens * np.log(7.0), tokens


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def make_prompts(count: int, text: str = "Which way {}?") -> list[Prompt]:
    return [Prompt(id=f"p{i}", prompt=user(text.format(i))) for i in range(count)]


def make_demonstrations(count: int) -> list[Demonstration]:
    return [Demonstration(id=f"d{i}", prompt=user("Which?"), response="good " * (i + 1)) for i in range(count)]


def make_preference(index: int, chosen: str, rejected: str, *, strength: float = 1.0) -> Preference:
    return Preference(
        id=f"pair{index}",
        group=f"g{index // 2}",
        prompt=user(f"Which way {index // 2}?"),
        chosen=(Message(role="assistant", content=chosen),),
        rejected=(Message(role="assistant", content=rejected),),
        strength=strength,
    )


def write_run(folder: Path, *, phase: str, parents: dict[str, str] | None = None, **record: object) -> Path:
    """A run folder with run.json and config.yaml only."""
    folder.mkdir(parents=True)
    content = {
        "name": folder.name,
        "phase": phase,
        "status": "finished",
        "base": {"name": "tiny"},
        "parents": parents or {},
        "seed": 0,
        "versions": {"python": "3.11", "torch": "2.13.0"},
    } | record
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text(f"run:\n  dir: {folder.name}\n")
    return folder


def write_rows(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
