"""Live pairs: a worker samples new pairs from a run while people label. Talks to the page through the store alone.

It samples when fewer judgements than `low` are left to give, and when the run has new weights (a checkpoint, or the
finished adapter). Pairs of newer weights are handed out first. What it has done stands in the audit trail, so that a
worker that was stopped goes on with the next prompts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from annotate.intake.items import Intake, load_items
from annotate.sampling.pairs import Counts, Recipe, Sampler, batch_of_pairs
from annotate.sampling.sources import Source, newest
from annotate.store.database import Store
from workbench.data.records import Prompt
from workbench.run.errors import WorkbenchError

EVENT = "pairs followed"


class Exchangeable(Protocol):
    """A sampler whose weights can be exchanged (`annotate.sampling.answerer.Answerer`)."""

    def use(self, source: Source) -> None:
        """Take these weights."""

    __call__: Sampler


@dataclass(frozen=True)
class Rules:
    """When pairs are sampled, and how many."""

    low: int
    """Sample when fewer judgements are left to give."""
    batch: int
    """Prompts in one pass."""
    poll_seconds: float
    newer_first: float
    """Priority by which pairs of newer weights stand before older ones."""


@dataclass(frozen=True)
class Pass:
    """One pass of the worker."""

    source: str
    generation: int
    """0 for the first weights of the run, then 1, 2 …"""
    prompts: int
    new: int
    """Pairs added to the store."""
    why: str


@dataclass
class _Progress:
    """Where the worker stands; read from the audit trail."""

    mark: str = ""
    generation: int = -1
    passes: int = 0
    place: int = 0
    """How many prompts it has taken; they are taken in turn, again and again."""


def follow(
    store: Store,
    run: str,
    prompts: Sequence[Prompt],
    recipe: Recipe,
    rules: Rules,
    intake: Intake,
    sampler: Callable[[], Exchangeable],
    *,
    passes: int = 0,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[Pass], None] = lambda done: None,
) -> int:
    """Sample until interrupted, or `passes` times; returns how many pairs were added.

    Args:
        sampler: makes the sampler when it is first needed (it opens a model).

    Raises:
        WorkbenchError: there is no such run, or no prompt.
    """
    if not prompts:
        raise WorkbenchError("pairs.prompts", "holds no prompt", expected="at least one")
    progress, opened, added, done = _read(store, run), None, 0, 0
    while not passes or done < passes:
        source, why = _due(store, run, progress, rules)
        if source is None:
            sleep(rules.poll_seconds)
            continue
        opened = opened or sampler()
        try:
            mark, name = source.mark, source.name
            opened.use(source)
        except FileNotFoundError:
            continue  # the run has just replaced this checkpoint by a newer one
        if mark != progress.mark:
            progress = replace(progress, mark=mark, generation=progress.generation + 1)
        new = _pass(store, name, prompts, recipe, rules, intake, opened, progress)
        progress.place, progress.passes = progress.place + rules.batch, progress.passes + 1
        _note(store, run, progress)
        added, done = added + new, done + 1
        report(Pass(name, progress.generation, rules.batch, new, why))
    return added


def _due(store: Store, run: str, progress: _Progress, rules: Rules) -> tuple[Source | None, str]:
    """The weights to sample from now, and why; None: nothing is to be done."""
    try:
        source = newest(run)
        if source is not None and source.mark != progress.mark:
            return source, "new weights"
    except FileNotFoundError:
        return None, ""  # looked at while the run was replacing a checkpoint
    left = judgements_left(store)
    return (source, f"{left:,} judgements left") if source is not None and left < rules.low else (None, "")


def judgements_left(store: Store) -> int:
    """How many judgements people can still give to ordinary items outside campaigns."""
    with store.read() as transaction:
        items = transaction.items(kind="ordinary")
    return sum(max(item.overlap - item.done, 0) for item in items if item.campaign is None)


def _pass(
    store: Store,
    name: str,
    prompts: Sequence[Prompt],
    recipe: Recipe,
    rules: Rules,
    intake: Intake,
    sampler: Sampler,
    progress: _Progress,
) -> int:
    count = min(rules.batch, len(prompts))
    taken = [prompts[(progress.place + step) % len(prompts)] for step in range(count)]
    own = replace(recipe, run=name, round=recipe.round + progress.generation, batch_size=count)
    items = list(batch_of_pairs(taken, progress.place, own, sampler, Counts()))
    loaded = load_items(
        store,
        items,
        overlap=intake.overlap,
        overlap_share=intake.overlap_share,
        priority=intake.priority + progress.generation * rules.newer_first,
        seed=intake.seed,
        place=name,
    )
    return loaded.new


def _read(store: Store, run: str) -> _Progress:
    key = str(Path(run).absolute())
    with store.read() as transaction:
        details = [event["detail"] for event in transaction.events() if event["kind"] == EVENT]
    own = [detail for detail in details if detail["run"] == key]
    return _Progress(**{name: own[-1][name] for name in _Progress.__dataclass_fields__}) if own else _Progress()


def _note(store: Store, run: str, progress: _Progress) -> None:
    with store.write() as transaction:
        transaction.add_event(EVENT, time.time(), run=str(Path(run).absolute()), **vars(progress))
