"""What the guard measures on a batch of answers, with the roles that are on the base.

Judges are reward models fitted on labels that training does not read. Shapes: N = answers, K = models, D = hidden.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppo.guard.signals import Cloud, Floats, spread
from workbench.data.batching import encode_pairs
from workbench.data.readers import read_preferences
from workbench.data.rules import RowRules
from workbench.evaluate.metrics import correlation
from workbench.model.roles import Roles
from workbench.model.score import feature_rows, score_rows

LABELLED_MOST = 1024
"""Labelled answers that the cloud is fitted to, evenly spaced through their file."""


@dataclass(frozen=True)
class Answers:
    """A batch of the policy's answers."""

    rows: Sequence[Sequence[int]]
    """(N,) token ids of prompt and response."""
    scores: Floats
    """(K, N) scores of the reward models that training optimises; K = 0 in contrastive training."""
    logratios: Floats
    """(N,) log π − log ρ of each response, nats."""
    length: float
    """Mean tokens of a response."""
    entropy: float
    """Nats per token."""
    kl: float
    """Exact KL to the reference, nats per response."""


@dataclass(frozen=True)
class Observation:
    """What one batch of answers shows."""

    step: int
    judge: float
    """Mean score of the judges, σ of their own start run's answers."""
    judge_error: float
    """Its standard error."""
    spread: float
    """Mean over answers of the deviation over all reward models and judges, σ; 0 if there is only one model."""
    outliers: float
    """Share of answers whose state lies beyond 99 % of the labelled answers'."""
    agreement: float
    """Correlation over answers of log π − log ρ with the judges' score; below 0 the policy prefers what they do not."""
    length: float
    entropy: float
    kl: float
    score: float | None = None
    """Mean score of the reward models that training optimises, σ; None in contrastive training."""
    reward_agreement: float | None = None
    """Correlation over answers of that score with the judges'; None in contrastive training, or if either is equal for
    all answers."""

    def row(self) -> dict[str, Any]:
        """For guard.jsonl."""
        return asdict(self)


def observe(
    roles: Roles, judges: Sequence[str], place: str, cloud: Cloud, answers: Answers, *, step: int, batch_size: int
) -> Observation:
    """Score answers with the judges, and see where their states lie.

    Args:
        roles: with the judges and `place` on the base.
        judges: roles of the held-out reward models.
        place: the reward model whose states are compared with the cloud's.
        cloud: from `labelled_cloud` with the same role.
        answers: N of them.
        step: of the policy that wrote them.
        batch_size: rows in one pass, at most.
    """
    judged = np.stack([score_rows(roles, name, answers.rows, batch_size=batch_size).numpy() for name in judges])
    judged = judged.astype(np.float64)  # (K, N)
    states = feature_rows(roles, place, answers.rows, batch_size=batch_size).double().numpy()
    mean, optimised = judged.mean(axis=0), len(answers.scores) > 0
    return Observation(
        step=step,
        judge=float(mean.mean()),
        judge_error=float(mean.std(ddof=1)) / math.sqrt(len(mean)),
        spread=spread(np.concatenate([answers.scores, judged])),
        outliers=cloud.outlier_share(states),
        agreement=correlation(answers.logratios, mean) or 0.0,  # a policy that equals its reference prefers nothing
        length=answers.length,
        entropy=answers.entropy,
        kl=answers.kl,
        score=float(answers.scores.mean()) if optimised else None,
        reward_agreement=correlation(answers.scores.mean(axis=0), mean) if optimised else None,
    )


def labelled_cloud(roles: Roles, place: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Cloud:
    """Where the states of labelled answers lie.

    Args:
        roles: with `place` on the base.
        place: a reward model's role.
        rows: token ids of prompts with labelled answers; LABELLED_MOST of them are used, evenly spaced.
        batch_size: rows in one pass, at most.
    """
    step = -(-len(rows) // LABELLED_MOST)
    return Cloud.of(feature_rows(roles, place, rows[::step], batch_size=batch_size).double().numpy())


def answers_in(tokenizer: Any, labels: Path, rules: RowRules, *, max_length: int) -> list[list[int]]:
    """Token ids of the prompts with the chosen, then those with the rejected answers of a file of preferences.

    Raises:
        WorkbenchError: from the reader, or all pairs are longer than `max_length` tokens.
    """
    records = read_preferences(labels, rules)
    pairs = encode_pairs(tokenizer, records, max_length=max_length, source=labels, rules=rules).rows
    return [pair[f"{side}_ids"] for side in ("chosen", "rejected") for pair in pairs]
