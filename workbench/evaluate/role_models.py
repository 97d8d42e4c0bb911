"""A role of opened runs as evaluation sees it: a policy that answers, or a reward model that scores.

Knows no file and no metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.data.records import Message, Prompt
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.statistics import Floats
from workbench.model.generate import Sampled, sample
from workbench.model.roles import Roles
from workbench.model.score import compare_roles, response_nll, score_rows
from workbench.run.folder import RunFolder


@dataclass(frozen=True)
class Sampling:
    """How held-out prompts are answered: the same for all runs that are compared."""

    samples_per_prompt: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 64
    """Rows in one forward pass; sampled answers depend on it."""
    seed: int = 0

    def as_sources(self) -> dict[str, str]:
        """For evaluation.json."""
        return {"max_new_tokens": str(self.max_new_tokens), "batch_size": str(self.batch_size)}


@dataclass(frozen=True)
class RolePolicy:
    """One role of opened runs, as evaluation sees a policy."""

    roles: Roles
    role: str
    reference: str | None
    sampling: Sampling

    def sample(
        self, prompts: Sequence[Prompt], *, samples_per_prompt: int, temperature: float, seed: int
    ) -> list[list[Sampled]]:
        """(len(prompts), samples_per_prompt) answers."""
        answers = sample(
            self.roles,
            self.role,
            prompts,
            temperatures=[temperature],
            responses_per_prompt=samples_per_prompt,
            max_new_tokens=self.sampling.max_new_tokens,
            batch_size=self.sampling.batch_size,
            seed=seed,
        )
        return [drawn for _, drawn in answers]

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[Sampled]
    ) -> tuple[Floats, Floats] | None:
        """(N,) sampled and (N,) exact KL to the reference, nats; None without a reference."""
        if self.reference is None:
            return None
        compared = compare_roles(
            self.roles,
            self.role,
            self.reference,
            [encode_prompt(self.roles.tokenizer, prompt) for prompt in prompts],
            [list(answer.ids) for answer in responses],
            temperature=self.sampling.temperature,
            batch_size=self.sampling.batch_size,
        )
        return (
            np.array([row.policy - row.reference for row in compared]),
            np.array([row.kl_exact for row in compared]),
        )

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """(N,) nats of each response with its EOS, and (N,) its tokens."""
        tokenizer = self.roles.tokenizer
        nats, tokens = response_nll(
            self.roles,
            self.role,
            [encode_prompt(tokenizer, prompt) for prompt in prompts],
            [encode_response(tokenizer, p, r) for p, r in zip(prompts, responses, strict=True)],
            batch_size=self.sampling.batch_size,
        )
        return nats.numpy(), tokens.double().numpy()


@dataclass(frozen=True)
class RoleScore:
    """One reward role of opened runs, as a scorer. An answer that did not end is scored without an EOS."""

    roles: Roles
    role: str
    batch_size: int
    cut: bool = False
    """Longer rows than the base has positions lose tokens before the last one, instead of being an error."""

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores; a response with ids is scored as it was sampled."""
        rows = []
        for place, (prompt, response, done) in enumerate(zip(prompts, responses, ended, strict=True)):
            sampled = list(ids[place]) if ids is not None else []
            if not sampled:
                encoded = encode_response(self.roles.tokenizer, prompt, response)
                sampled = encoded if done else encoded[:-1]
            row = encode_prompt(self.roles.tokenizer, prompt) + sampled
            most = self.roles.positions
            rows.append([*row[: most - 1], row[-1]] if self.cut and len(row) > most else row)
        scores: Floats = score_rows(self.roles, self.role, rows, batch_size=self.batch_size).double().numpy()
        return scores


@dataclass(frozen=True)
class MeanScore:
    """The mean score of one or several reward roles."""

    roles: Roles
    names: tuple[str, ...]
    batch_size: int

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores."""
        scores = [RoleScore(self.roles, name, self.batch_size)(prompts, responses, ended, ids) for name in self.names]
        mean: Floats = np.mean(scores, axis=0)
        return mean


def reward_roles(run: Path) -> dict[str, Path]:
    """Role → folder of a reward run: `reward`, or of an ensemble `reward_1` … `reward_K`."""
    folder = RunFolder.open(run, phase="reward")
    if folder.members == [folder]:
        return {"reward": folder.path}
    return {f"reward_{n}": member.path for n, member in enumerate(folder.members, start=1)}


@dataclass(frozen=True)
class RowScore:
    """The mean score of reward roles on fixed token rows, whatever texts they came from."""

    roles: Roles
    names: tuple[str, ...]
    rows: Sequence[Sequence[int]]
    batch_size: int

    def __call__(self, *_: object, **__: object) -> Floats:
        """(len(rows),) scores."""
        scores = [score_rows(self.roles, name, self.rows, batch_size=self.batch_size) for name in self.names]
        mean: Floats = torch.stack(scores).double().mean(dim=0).numpy()
        return mean
