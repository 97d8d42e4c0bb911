"""Live pairs: a worker samples new pairs from a run while people label. It shares only the store with the page.

It samples if fewer judgements than `follow.low` are left to give, or if the run has new weights (a checkpoint, or the
finished adapter). Pairs of newer weights are handed out first. The worker's progress is in the audit trail, so that it
resumes with the next prompts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from annotate.config import AnnotateConfig
from annotate.intake.items import load_items
from annotate.sampling.pairs import Counts, Sampler, batch_of_pairs
from annotate.store.database import Store
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_prompts
from workbench.data.records import Prompt
from workbench.run.errors import WorkbenchError
from workbench.run.sources import Source, newest

if TYPE_CHECKING:
    from workbench.model.generate import Sampled

EVENT = "pairs followed"


class Exchangeable(Protocol):
    """A sampler whose weights can be exchanged (`annotate.sampling.answerer.Answerer`)."""

    def use(self, source: Source) -> None:
        """Use these weights from now on."""

    def __call__(self, prompts: Sequence[Prompt], **settings: Any) -> "Iterator[tuple[Prompt, list[Sampled]]]":
        """Sample answers (`annotate.sampling.pairs.Sampler`)."""


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


@dataclass(frozen=True)
class _Progress:
    """The worker's progress, as the audit trail holds it."""

    mark: str = ""
    generation: int = -1
    passes: int = 0
    place: int = 0
    """Prompts used so far; after the last prompt the worker starts again with the first."""


def follow_run(config: AnnotateConfig, run: str, *, passes: int = 0) -> None:
    """Add new pairs of a run to the store while people label, until interrupted."""

    def opened() -> Exchangeable:
        from annotate.sampling.answerer import Answerer  # imports torch

        return Answerer()

    def report(done: Pass) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {done.why}: {done.new:,} new pairs from {done.source}", flush=True)

    prompts = read_prompts(resolve_data(config.pairs.prompts), config.row_rules)[: config.pairs.number]
    store = Store.open(config.store_url, say=print)
    print(f"{store.place}: follows {run} (Ctrl-C stops it; sampled pairs are in the store)", flush=True)
    try:
        Follower(store, run, prompts, config).follow(opened, passes=passes, report=report)
    finally:
        store.close()


class Follower:
    """Samples pairs of one run into one store."""

    def __init__(self, store: Store, run: str, prompts: Sequence[Prompt], config: AnnotateConfig) -> None:
        """`config`: the sections `pairs`, `follow` and `queue`.

        Raises:
            WorkbenchError: no prompt.
        """
        if not prompts:
            raise WorkbenchError("pairs.prompts", "holds no prompt", expected="at least one")
        self._store, self._run, self._prompts, self._config = store, run, prompts, config
        self._section = config.follow
        self._progress = self._stored_progress()

    def follow(
        self,
        sampler: Callable[[], Exchangeable],
        *,
        passes: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        report: Callable[[Pass], None] = lambda done: None,
    ) -> int:
        """Sample until interrupted, or `passes` times; returns the number of pairs added.

        Args:
            sampler: makes the sampler when it is first needed (it opens a model).

        Raises:
            WorkbenchError: there is no such run.
        """
        opened, added, done = None, 0, 0
        while not passes or done < passes:
            source, why = self._due()
            if source is None:
                sleep(self._section.poll_seconds)
                continue
            opened = opened or sampler()
            try:
                mark = source.mark
                opened.use(source)
            except FileNotFoundError:
                continue  # the run has just replaced this checkpoint with a newer one
            if mark != self._progress.mark:
                self._progress = replace(self._progress, mark=mark, generation=self._progress.generation + 1)
            new = self._sample(opened, source.name)
            added, done = added + new, done + 1
            report(Pass(source.name, self._progress.generation, self._section.batch, new, why))
        return added

    def _due(self) -> tuple[Source | None, str]:
        """The weights to sample from now, and why; None if nothing is to be done."""
        try:
            source = newest(self._run)
            if source is not None and source.mark != self._progress.mark:
                return source, "new weights"
        except FileNotFoundError:
            return None, ""  # the run was replacing a checkpoint at this moment
        left = judgements_left(self._store)
        low = left < self._section.low
        return (source, f"{left:,} judgements left") if source is not None and low else (None, "")

    def _sample(self, sampler: Sampler, name: str) -> int:
        """Add the pairs of the next prompts to the store; returns how many were new."""
        pairs, queue, progress = self._config.pairs, self._config.queue, self._progress
        count = min(self._section.batch, len(self._prompts))
        taken = [self._prompts[(progress.place + step) % len(self._prompts)] for step in range(count)]
        changes = {"run": name, "round": pairs.round + progress.generation, "batch_size": count}
        items = list(batch_of_pairs(taken, progress.place, pairs.model_copy(update=changes), sampler, Counts()))
        priority = queue.priority + progress.generation * self._section.newer_first
        loaded = load_items(self._store, items, queue.model_copy(update={"priority": priority}), source=name)
        place = progress.place + self._section.batch
        self._progress = replace(progress, place=place, passes=progress.passes + 1)
        with self._store.write() as transaction:
            transaction.add_event(EVENT, time.time(), run=self._key, **vars(self._progress))
        return loaded.new

    @property
    def _key(self) -> str:
        return str(Path(self._run).absolute())

    def _stored_progress(self) -> _Progress:
        with self._store.read() as transaction:
            details = [event["detail"] for event in transaction.events() if event["kind"] == EVENT]
        own = [detail for detail in details if detail["run"] == self._key]
        return _Progress(**{name: own[-1][name] for name in _Progress.__dataclass_fields__}) if own else _Progress()


def judgements_left(store: Store) -> int:
    """Judgements that people can still give to ordinary items outside campaigns."""
    with store.read() as transaction:
        items = transaction.items(kind="ordinary")
    return sum(max(item.overlap - item.done, 0) for item in items if item.campaign is None)
