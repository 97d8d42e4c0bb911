"""Roles of opened runs behind the calls that an evaluation makes: a policy that answers, a reward model that scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.data.records import Message, Prompt
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.policy import Sampling
from workbench.evaluate.statistics import Floats
from workbench.model.generate import Sampled, sample
from workbench.model.roles import Roles
from workbench.model.score import compare_roles, response_nll, score_rows
from workbench.run.folder import RunFolder


@dataclass(frozen=True)
class RolePolicy:
    """A role as a policy; implements `workbench.evaluate.policy.Policy`."""

    roles: Roles
    role: str
    reference: str | None
    """Role that the KL is measured against, if any."""
    sampling: Sampling

    def sample(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        """(len(prompts), samples_per_prompt) answers."""
        answers = sample(
            self.roles,
            self.role,
            prompts,
            temperatures=[self.sampling.temperature],
            responses_per_prompt=self.sampling.samples_per_prompt,
            max_new_tokens=self.sampling.max_new_tokens,
            batch_size=self.sampling.batch_size,
            seed=self.sampling.seed,
        )
        return [sampled for _, sampled in answers]

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[Sequence[int]]
    ) -> tuple[Floats, Floats] | None:
        """(N,) sampled and (N,) exact KL to the reference, in nats, of token ids; None without a reference."""
        if self.reference is None:
            return None
        compared = compare_roles(
            self.roles,
            self.role,
            self.reference,
            [encode_prompt(self.roles.tokenizer, prompt) for prompt in prompts],
            [list(ids) for ids in responses],
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
        """(N,) nats of each response including EOS, and (N,) its number of tokens."""
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
    """The mean score of one or more reward roles; implements `workbench.evaluate.policy.Score`."""

    roles: Roles
    names: Sequence[str]
    """The reward roles."""
    batch_size: int
    cut: bool = False
    """Rows longer than the base's positions lose tokens before the last one, instead of being an error."""

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores; see `rows`."""
        return self.of_rows(self.rows(prompts, responses, ended, ids))

    def rows(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> list[list[int]]:
        """N token rows. A response with ids is scored as sampled; one that did not end is scored without EOS."""
        rows = []
        for index, (prompt, response, done) in enumerate(zip(prompts, responses, ended, strict=True)):
            sampled = list(ids[index]) if ids is not None else []
            if not sampled:
                encoded = encode_response(self.roles.tokenizer, prompt, response)
                sampled = encoded if done else encoded[:-1]
            row = encode_prompt(self.roles.tokenizer, prompt) + sampled
            most = self.roles.positions
            # A score is read at the last token, so that one stays.
            rows.append([*row[: most - 1], row[-1]] if self.cut and len(row) > most else row)
        return rows

    def of_rows(self, rows: Sequence[Sequence[int]]) -> Floats:
        """(N,) scores of token rows."""
        scores = [
            score_rows(self.roles, name, rows, batch_size=self.batch_size).double().numpy() for name in self.names
        ]
        mean: Floats = np.mean(scores, axis=0)
        return mean


def reward_roles(run: Path) -> dict[str, Path]:
    """Role → folder of a reward run: `reward`, or `reward_1` … `reward_K` for an ensemble."""
    folder = RunFolder.open(run, phase="reward")
    if folder.members == [folder]:
        return {"reward": folder.path}
    return {f"reward_{n}": member.path for n, member in enumerate(folder.members, start=1)}
