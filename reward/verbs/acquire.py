"""Which pairs of a pool are worth a label: `python -m reward acquire RUN … --pool FILE --n N --out FILE`.

Writes priorities, one JSON object per line, which `python -m annotate prioritise CONFIG.yaml FILE` gives to the items
of the queue; and on request the chosen pairs as items of their own. The measures are in reward/verbs/acquire_scores.py.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reward.verbs.acquire_scores import (
    Floats,
    bald,
    best_first,
    d_optimal,
    disagreement,
    length_balanced,
    uncertainty,
    wide_gaps,
)
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_items, read_preferences, write_records
from workbench.data.records import Item, Message, Response
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_rows
from workbench.evaluate.metrics import words
from workbench.evaluate.role_models import RoleScore
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.score import feature_rows
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import memory_hint

_log = logging.getLogger(__name__)
Strategy = Literal["uncertainty", "disagreement", "bald", "d-optimal", "wide-gaps", "random", "length-balanced"]
COMMITTEES = ("disagreement", "bald")
"""Strategies that need several models."""
WITHOUT_MODEL = ("random", "length-balanced")
"""Strategies that need none."""
MEASURES = {"uncertainty": uncertainty, "disagreement": disagreement, "bald": bald, "wide-gaps": wide_gaps}
"""Strategies that rank each pair by itself: (M, N) gaps → (N,) values."""


@dataclass(frozen=True)
class Pair:
    """Two answers of an item, under the id that the pair has in the annotation queue."""

    id: str
    prompt: tuple[Message, ...]
    first: str
    second: str
    ended: tuple[bool, bool]
    item: Item
    """That it is from."""
    responses: tuple[Response, Response]

    def as_item(self, priority: float | None = None) -> Item:
        """The pair as an item of its own."""
        return self.item.model_copy(update={"id": self.id, "responses": self.responses, "priority": priority})


@dataclass(frozen=True)
class Ranking:
    """Pairs, the most informative first."""

    pairs: list[Pair]
    order: NDArray[np.int64]
    """(N,) indices of all pairs."""
    values: Floats | None = None
    """(N,) what they were ranked by, if each pair was by itself."""
    gaps: Floats | None = None
    """(N,) mean score of the first answer minus the second's over the models, in logits; None without a model."""


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
    items: Path | None = None,
    ranked: Path | None = None,
    random_share: float = 0.0,
) -> int:
    """Choose pairs and write their priorities: 2 for the first, falling to just above 1 for the last.

    Each row names the strategy that chose its pair, and the models' `gap` if they were asked.

    Args:
        runs: finished reward runs on one base; an ensemble counts as several. `disagreement` and `bald` need two,
            `random` and `length-balanced` none.
        pool: items to label.
        out: priorities to write.
        number: pairs to choose; a smaller pool is chosen whole.
        strategy: how pairs are ranked.
        without: preferences; pairs with these ids are labelled already.
        seed: of the random order and of ties.
        batch_size: answers per forward pass.
        base: where the base is now, if not where the runs say.
        rules: how rows of the files are read.
        items: also write the chosen pairs here, as items with their priorities.
        ranked: also write all pairs here, as items with priorities: the chosen ones, then the next best.
        random_share: share of the chosen pairs that is drawn at random from the whole pool, as a control; see
            `with_control`.

    Raises:
        WorkbenchError: a run or the pool is bad, too few runs for the strategy, or nothing is left to choose.
    """
    models = _committee(runs, strategy)
    labelled = {record.id for record in read_preferences(without, rules)} if without else set()
    pairs = [pair for pair in pairs_of(read_items(pool, rules)) if pair.id not in labelled]
    if not pairs:
        raise WorkbenchError(pool, "it has no pair left to choose", remedy="a larger pool, or another --without")
    ranking = _ranked(models, pairs, strategy, number=number, seed=seed, batch_size=batch_size, base=base, pool=pool)
    count = round(random_share * min(number, len(ranking.pairs)))
    control = np.argsort(_draws(ranking.pairs, seed, "control"))[:count]
    order = with_control(ranking.order, control, number)
    chosen, others = order[:number].tolist(), order[number:].tolist()
    priorities = [2 - rank / len(chosen) for rank in range(len(chosen))]
    measures = {"value": ranking.values, "gap": ranking.gaps}
    at_random = set(control.tolist())
    rows = [
        {"id": ranking.pairs[index].id, "priority": priority, "strategy": "random" if index in at_random else strategy}
        | {name: float(values[index]) for name, values in measures.items() if values is not None}
        for index, priority in zip(chosen, priorities, strict=True)
    ]
    write_records(out, rows)
    best = [ranking.pairs[i].as_item(priority) for i, priority in zip(chosen, priorities, strict=True)]
    if items is not None:
        write_records(items, best)
    if ranked is not None:
        next_best = [ranking.pairs[i].as_item(1 - (rank + 1) / len(others)) for rank, i in enumerate(others)]
        write_records(ranked, [*best, *next_best])
    return len(rows)


def _ranked(
    models: Sequence[Path],
    pairs: list[Pair],
    strategy: Strategy,
    *,
    number: int,
    seed: int,
    batch_size: int,
    base: str | None,
    pool: Path,
) -> Ranking:
    """The pairs in the order of the strategy; those that do not fit into the base's positions are left out."""
    draws = _draws(pairs, seed)
    if strategy == "random":
        return Ranking(pairs, np.argsort(draws))
    if strategy == "length-balanced":
        lengths = [[len(words(pair.first)), len(words(pair.second))] for pair in pairs]
        return Ranking(pairs, length_balanced(lengths, draws))
    names = {f"reward_{index}": run for index, run in enumerate(models)}
    roles = open_runs(names, base=base)
    pairs = pairs_that_fit(roles, pairs, pool)
    by_chance = np.argsort(_draws(pairs, seed))
    gaps = pair_gaps(roles, list(names), pairs, batch_size=batch_size)
    if strategy != "d-optimal":
        values = MEASURES[strategy](gaps)
        return Ranking(pairs, best_first(values, _draws(pairs, seed)), values, gaps.mean(axis=0))
    features = pair_features(roles, next(iter(names)), pairs, batch_size=batch_size)
    taken = by_chance[d_optimal(features[by_chance], gaps.mean(axis=0)[by_chance], number)]
    order = np.concatenate([taken, by_chance[~np.isin(by_chance, taken)]])
    return Ranking(pairs, order, gaps=gaps.mean(axis=0))


def with_control(order: NDArray[np.int64], control: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """An order whose first `number` pairs hold all pairs of a control at equal distances.

    At equal distances, because people may stop labelling before the last pair. The other pairs keep their order.

    Args:
        order: (N,) indices, best first.
        control: (C,) of these indices, C ≤ number.
        number: pairs that are chosen.
    """
    if not len(control):
        return order
    rest = order[~np.isin(order, control)]
    chosen = min(number, len(order))
    places = ((np.arange(len(control)) + 1) * chosen) // len(control) - 1
    best: NDArray[np.int64] = np.full(chosen, -1, dtype=np.int64)
    best[places] = control
    best[best < 0] = rest[: chosen - len(control)]
    return np.concatenate([best, rest[chosen - len(control) :]])


def _draws(pairs: Sequence[Pair], seed: int, *purpose: str) -> Floats:
    """(N,) uniform numbers; a draw does not depend on the rest of the pool."""
    return np.array([unit_hash(*purpose, seed, pair.id) for pair in pairs])


def _committee(runs: Sequence[Path], strategy: Strategy) -> list[Path]:
    """The folders of all models of the runs, checked to be enough for the strategy."""
    models = [member.path for run in runs for member in RunFolder.open(run, phase="reward").members]
    if not models and strategy not in WITHOUT_MODEL:
        raise WorkbenchError(
            "--strategy",
            f"{strategy!r} asks a reward model, and none was given",
            expected="a finished reward run",
            remedy="python -m reward acquire RUN …, or --strategy random",
        )
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
                ended = (one.ended, other.ended)
                pairs.append(Pair(name, item.prompt, one.text, other.text, ended, item, (one, other)))
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
    rows = _rows(roles, pairs, batch_size)
    gaps = []
    for name in names:
        scores = RoleScore(roles, (name,), batch_size).of_rows(rows)
        gaps.append((scores[: len(pairs)] - scores[len(pairs) :]) / float(roles.heads[name].gain))
    return np.stack(gaps)


def pair_features(roles: Roles, name: str, pairs: Sequence[Pair], *, batch_size: int) -> Floats:
    """(N, D) hidden states that a role's score is read from: the first answer's minus the second's."""
    hidden = feature_rows(roles, name, _rows(roles, pairs, batch_size), batch_size=batch_size).double().numpy()
    difference: Floats = hidden[: len(pairs)] - hidden[len(pairs) :]
    return difference


def _rows(roles: Roles, pairs: Sequence[Pair], batch_size: int) -> list[list[int]]:
    """(2N) token rows: all first answers, then all second ones."""
    prompts = [pair.prompt for pair in pairs] * 2
    texts = [pair.first for pair in pairs] + [pair.second for pair in pairs]
    ended = [pair.ended[0] for pair in pairs] + [pair.ended[1] for pair in pairs]
    return RoleScore(roles, (), batch_size).rows(prompts, texts, ended)
