"""Measurements of reward models: pairs, changed prompts, another person asking, and one right answer of four."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.files.row import Row
from workbench.data.files.rows import read_rows
from workbench.data.perturb import PERTURBATIONS, counterfactual
from workbench.data.records import Message, Preference, with_last
from workbench.evaluate.metrics import correctness
from workbench.evaluate.policy import finite_scores
from workbench.evaluate.role_models import RoleScore
from workbench.evaluate.statistics import Floats
from workbench.model.roles import Roles
from workbench.suite.columns import Column, Measured
from workbench.suite.config import StressSection
from workbench.suite.measures import Difference, Measure, mean_of_ratios, sign_test

Scores = Callable[[Sequence[Sequence[Message]], Sequence[str]], Floats]
"""(prompts, responses) → (N,) scores."""


@dataclass(frozen=True)
class Choice:
    """A prompt with right and wrong responses."""

    prompt: tuple[Message, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    subset: str


def read_choices(path: str | Path) -> list[Choice]:
    """The rows of a file in the form of RewardBench 2.

    Each has `prompt` (a text), `chosen` and `rejected` (lists of texts), and maybe `subset`.
    Source: Malik et al. 2025, arXiv:2506.01937.

    Raises:
        WorkbenchError: a row has another form.
    """
    return [_choice(row) for row in read_rows(path)]


def _choice(row: Row) -> Choice:
    if row.error is not None:
        raise row.error
    prompt = row.fields.get("prompt")
    right, wrong = (_responses(row, name) for name in ("chosen", "rejected"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise row.fail(f"prompt is {str(prompt)[:60]!r}, not a text", expected="the text of one user message")
    return Choice((Message(role="user", content=prompt),), right, wrong, str(row.fields.get("subset", "all")))


def _responses(row: Row, name: str) -> tuple[str, ...]:
    value: Any = row.fields.get(name)
    found = list(value) if isinstance(value, list | tuple | np.ndarray) else None
    if not found or not all(isinstance(text, str) and text for text in found):
        raise row.fail(
            f"{name} is {str(value)[:60]!r}, not a list of responses",
            expected='the form of RewardBench 2: {"prompt": "…", "chosen": ["…"], "rejected": ["…", "…", "…"]}',
        )
    return tuple(found)


def choice_credit(right: Floats, wrong: Floats) -> float:
    """1 if the right response scores highest; a tie for the highest score shares the credit.

    With several right responses, each of them has to score above every wrong one. Differs from RewardBench 2, whose
    score of its Ties subset also measures margins.

    Args:
        right: (≥ 1,) scores of right responses.
        wrong: (≥ 1,) scores of wrong responses.
    """
    least, best = float(right.min()), float(wrong.max())
    if len(right) > 1:
        return float(least > best)
    return 0.0 if least < best else 1 / (1 + int((wrong == least).sum()))


def measure_reward(
    roles: Roles,
    column: Column,
    pairs: Sequence[Preference],
    choices: Sequence[Choice],
    stress: StressSection,
    *,
    batch_size: int,
    seed: int,
) -> Measured:
    """Measure one reward run.

    Args:
        roles: with the column's adapters.
        column: the run.
        pairs: held-out pairs without ties; each is one unit of the bootstrap together with its group.
        choices: may be empty.
        stress: changes of the prompts.
        batch_size: rows per pass.
        seed: of the changes.
    """
    score = RoleScore(roles, column.roles, batch_size, cut=True)

    def scores(prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> Floats:
        return finite_scores(score(prompts, responses, [True] * len(responses)))

    def right(prompts: Sequence[Sequence[Message]]) -> Measure:
        both = scores([*prompts, *prompts], [*(p.chosen_text for p in pairs), *(p.rejected_text for p in pairs)])
        gaps = np.subtract(*np.split(both, 2))
        return Measure.mean(correctness(gaps), [pair.group for pair in pairs], share=True)

    plain = right([pair.prompt for pair in pairs])
    measured = Measured(column, {"reward/accuracy": plain})
    for kind in stress.perturbations:
        changed = [with_last(pair.prompt, PERTURBATIONS[kind](pair.prompt[-1].content, seed)) for pair in pairs]
        measured.measures[f"drop/{kind}/reward/accuracy"] = Difference(plain, right(changed))
    chosen = [pair.chosen_text for pair in pairs]
    for dimension in stress.dimensions:
        sides = [counterfactual(pair.prompt[-1].content, dimension, seed=seed) for pair in pairs]
        one, other = (
            scores([with_last(pair.prompt, side[n]) for pair, side in zip(pairs, sides, strict=True)], chosen)
            for n in (0, 1)
        )
        measured.measures[f"gap/{dimension}/reward/score"] = Measure.mean(one - other, [pair.group for pair in pairs])
        measured.signs[f"gap/{dimension}/reward/score"] = sign_test(one - other)
    if choices:
        _add_choices(measured, choices, scores)
    return measured


def _add_choices(measured: Measured, choices: Sequence[Choice], scores: Scores) -> None:
    """Add the share of prompts whose right response wins, per subset and as the mean of the subsets."""
    every = [(choice, text) for choice in choices for text in (*choice.right, *choice.wrong)]
    found = scores([choice.prompt for choice, _ in every], [text for _, text in every])
    credits, start = [], 0
    for choice in choices:
        middle, end = start + len(choice.right), start + len(choice.right) + len(choice.wrong)
        credits.append(choice_credit(found[start:middle], found[middle:end]))
        start = end
    subsets = list(dict.fromkeys(choice.subset for choice in choices))
    for subset in subsets:
        own = [credit for credit, choice in zip(credits, choices, strict=True) if choice.subset == subset]
        measured.measures[f"reward/choices/{subset}"] = Measure.mean(own, share=True)
    rows = np.zeros((len(choices), 2 * len(subsets)))
    for number, (credit, choice) in enumerate(zip(credits, choices, strict=True)):
        place = 2 * subsets.index(choice.subset)
        rows[number, place : place + 2] = credit, 1
    measured.measures["reward/choices"] = Measure(rows, mean_of_ratios, share=True)
