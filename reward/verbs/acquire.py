"""Which pairs of a pool are worth a label: `python -m reward acquire RUN … --pool FILE --n N --out FILE`.

Writes priorities, one JSON object per line, which `python -m annotate prioritise CONFIG.yaml FILE` gives to the items
of the queue. The measures are in reward/verbs/acquire_scores.py.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from reward.verbs.acquire_scores import Floats, bald, best_first, disagreement, length_balanced, uncertainty
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_items, read_preferences, write_records
from workbench.data.records import Item, Message
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_rows
from workbench.evaluate.metrics import words
from workbench.evaluate.role_models import RoleScore
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import memory_hint

_log = logging.getLogger(__name__)
Strategy = Literal["uncertainty", "disagreement", "bald", "random", "length-balanced"]
COMMITTEES = ("disagreement", "bald")
"""Strategies that need several models."""


@dataclass(frozen=True)
class Pair:
    """Two answers of an item, under the id that the pair has in the annotation queue."""

    id: str
    prompt: tuple[Message, ...]
    first: str
    second: str
    ended: tuple[bool, bool]


@memory_hint("while scoring the pool", "a smaller --batch-size")
def acquire(  # one parameter per option of the command
    runs: Sequence[Path],
    pool: Path,
    out: Path,
    *,
    number: int,
    strategy: Strategy = "uncertainty",
    without: Path | None = None,
    seed: int = 0,
    batch_size: int = 64,
    base: str | None = None,
    rules: RowRules | None = None,
) -> int:
    """Choose pairs and write their priorities: 2 for the first, falling to just above 1 for the last.

    Args:
        runs: finished reward runs on one base; an ensemble counts as several. `disagreement` and `bald` need two.
        pool: items to label.
        out: priorities to write.
        number: pairs to choose; a smaller pool is chosen whole.
        strategy: how pairs are ranked.
        without: preferences; pairs with these ids are labelled already.
        seed: of the random order and of ties.
        batch_size: answers per forward pass.
        base: where the base is now, if not where the runs say.
        rules: how rows of the files are read.

    Raises:
        WorkbenchError: a run or the pool is bad, too few runs for the strategy, or nothing is left to choose.
    """
    models = _committee(runs, strategy)
    labelled = {record.id for record in read_preferences(without, rules)} if without else set()
    pairs = [pair for pair in pairs_of(read_items(pool, rules)) if pair.id not in labelled]
    if not pairs:
        raise WorkbenchError(pool, "it has no pair left to choose", remedy="a larger pool, or another --without")
    draws = np.array([unit_hash(seed, pair.id) for pair in pairs])  # a draw does not depend on the rest of the pool
    values: Floats | None = None
    if strategy == "random":
        order = np.argsort(draws)
    elif strategy == "length-balanced":
        order = length_balanced([[len(words(pair.first)), len(words(pair.second))] for pair in pairs], draws)
    else:
        names = {f"reward_{index}": run for index, run in enumerate(models)}
        roles = open_runs(names, base=base)
        pairs = pairs_that_fit(roles, pairs, pool)
        draws = np.array([unit_hash(seed, pair.id) for pair in pairs])
        gaps = pair_gaps(roles, list(names), pairs, batch_size=batch_size)
        values = {"uncertainty": uncertainty, "disagreement": disagreement, "bald": bald}[strategy](gaps)
        order = best_first(values, draws)
    chosen = order[:number].tolist()
    rows = [
        {"id": pairs[index].id, "priority": 2 - rank / len(chosen), "strategy": strategy}
        | ({} if values is None else {"value": float(values[index])})
        for rank, index in enumerate(chosen)
    ]
    write_records(out, rows)
    return len(rows)


def _committee(runs: Sequence[Path], strategy: Strategy) -> list[Path]:
    """The folders of all models of the runs, checked to be enough for the strategy."""
    models = [member.path for run in runs for member in RunFolder.open(run, phase="reward").members]
    if strategy in COMMITTEES and len(models) < 2:
        raise WorkbenchError(
            "--strategy",
            f"{strategy!r} compares models, and {len(models)} was given",
            expected="an ensemble, or two or more reward runs with different seeds",
            remedy="python -m reward acquire RUN RUN …, or --strategy uncertainty",
        )
    return models


def pairs_of(items: Sequence[Item]) -> list[Pair]:
    """Every two answers of each item, as the queue compares them; items that test annotators are left out."""
    pairs = []
    for item in items:
        if item.known_strength is not None:
            continue
        several = len(item.responses) > 2
        for i, j in itertools.combinations(range(len(item.responses)), 2):
            one, other = item.responses[i], item.responses[j]
            if one.text != other.text:
                name = f"{item.id}:{i}-{j}" if several else item.id
                pairs.append(Pair(name, item.prompt, one.text, other.text, (one.ended, other.ended)))
    return pairs


def pairs_that_fit(roles: Roles, pairs: Sequence[Pair], pool: Path) -> list[Pair]:
    """The pairs that fit into the base's positions; a warning counts the others.

    Raises:
        WorkbenchError: none fits.
    """

    def longest(pair: Pair) -> int:
        return max(map(len, encode_rows(roles.tokenizer, pair.prompt, pair.first, pair.second)))

    fitting = [pair for pair in pairs if longest(pair) <= roles.positions]
    if not fitting:
        raise WorkbenchError(
            pool,
            f"all {len(pairs)} pairs are longer than the {roles.positions} positions of the base",
            remedy="a pool of shorter answers, or --strategy random",
        )
    if len(fitting) < len(pairs):
        left = len(pairs) - len(fitting)
        _log.warning("%s: left out %d of %d pairs, longer than the base's positions", pool, left, len(pairs))
    return fitting


def pair_gaps(roles: Roles, names: Sequence[str], pairs: Sequence[Pair], *, batch_size: int) -> Floats:
    """(M, N) raw gaps in logits of M reward roles on one base."""
    prompts = [pair.prompt for pair in pairs] * 2
    texts = [pair.first for pair in pairs] + [pair.second for pair in pairs]
    ended = [pair.ended[0] for pair in pairs] + [pair.ended[1] for pair in pairs]
    gaps = []
    for name in names:
        scores = RoleScore(roles, (name,), batch_size)(prompts, texts, ended)
        gaps.append((scores[: len(pairs)] - scores[len(pairs) :]) / float(roles.heads[name].gain))
    return np.stack(gaps)
