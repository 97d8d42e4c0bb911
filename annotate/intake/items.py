"""Items enter the store: split into pairs or kept for ranking, each with its overlap. Loading twice changes nothing."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.config import Compare, QueueSection
from annotate.intake.labels import GivenLabels, LabelsLoaded, labels_of_part, store_labels
from annotate.store.database import Store
from annotate.store.statements import Transaction
from workbench.data.hashing import unit_hash
from workbench.data.records import Item, ItemLabel, Message
from workbench.run.errors import WorkbenchError

_BATCH = 2000
_LONGEST_ID = 200


@dataclass(frozen=True)
class Loaded:
    """The result of loading items."""

    new: int
    """Items added."""
    known: int
    """Items already in the store."""
    identical: int
    """Items left out because all their answers are the same text."""
    duplicates: int = 0
    """Items left out because an item with another id has the same prompt and answers."""
    first_duplicate: tuple[str, str] | None = None
    """Ids of the first such item and of the one that it repeats."""
    labels: LabelsLoaded | None = None
    """What became of the judgements in the file, if they were asked for."""

    def __str__(self) -> str:
        parts = [f"{self.new:,} new, {self.known:,} known"]
        if self.identical:
            parts.append(f"{self.identical:,} left out because all their answers are the same text")
        if self.duplicates and self.first_duplicate:
            repeated, first = self.first_duplicate
            parts.append(f"{self.duplicates:,} left out because they repeat another item ({repeated!r} is {first!r})")
        if self.labels is not None:
            parts.append(str(self.labels))
        return "; ".join(parts)


def load_items(
    store: Store,
    items: Iterable[Item],
    queue: QueueSection,
    *,
    source: str = "items",
    campaign: str | None = None,
    places: Mapping[str, str] | None = None,
    labels: GivenLabels | None = None,
    purpose: str = "",
) -> Loaded:
    """Add items to the store: all of them, or none.

    An item with K answers becomes K(K-1)/2 pairs of its group, or one item to rank if `queue.compare` is `ranking`.
    Items with a `known_strength` are gold items, which the queue mixes in with the others, or training items if
    their `kind` says so, which it hands out first.

    Args:
        queue: overlap and priority of the new items.
        source: named in errors and in the audit trail.
        campaign: the campaign that owns the items.
        places: item id → its line, for errors.
        labels: judgements to store with the items.
        purpose: why items with the prompt and answers of other ones are wanted; only those of the same purpose repeat
            each other.

    Raises:
        WorkbenchError: an item with a known id has other texts, or a text that the store cannot hold.
    """
    loading = _Loading(store, queue, source, campaign, places or {}, labels, purpose)
    with store.write() as transaction:
        transaction.begin_loading()
        for number, batch in enumerate(_batches(_prepared(items, queue.compare))):
            loading.add(transaction, batch)
            if number == 0 and loading.new:  # without statistics, a server would read all items for each batch
                transaction.update_statistics()
        if loading.new:
            transaction.add_event("items loaded", loading.now, place=source, new=loading.new, known=loading.known)
        told = None
        if labels is not None:
            given = itertools.chain(loading.labels, labels.others)
            told = store_labels(store, transaction, given, labels.origin, loading.now)
        if loading.new:
            transaction.update_statistics()
    return Loaded(loading.new, loading.known, loading.identical, loading.duplicates, loading.first_duplicate, told)


@dataclass(frozen=True)
class _Part:
    """An item as it is judged, made from an item of the file."""

    item: Item
    whole: str
    """Id of the item of the file."""
    positions: tuple[int, ...]
    """Its answers' positions there."""


class _Loading:
    """Adds one batch after another, and counts."""

    def __init__(
        self,
        store: Store,
        queue: QueueSection,
        source: str,
        campaign: str | None,
        places: Mapping[str, str],
        labels: GivenLabels | None,
        purpose: str,
    ) -> None:
        self._purpose = purpose
        self._queue, self._source, self._campaign = queue, source, campaign
        self._places, self._given = places, {} if labels is None else labels.of
        self._holds_nul = store.path is not None
        self.now = time.time()
        self.new = self.known = self.identical = self.duplicates = 0
        self.first_duplicate: tuple[str, str] | None = None
        self.labels: list[tuple[str, ItemLabel]] = []
        """Judgements by id of the item in the store."""

    def add(self, transaction: Transaction, batch: Sequence[_Part]) -> None:
        """Add the new items of a batch to the store."""
        for part in batch:
            self._check_storable(part.item)
        marks = [fingerprint(p.item.prompt, [r.text for r in p.item.responses], self._purpose) for p in batch]
        stored = transaction.fingerprints([part.item.id for part in batch])
        contents = transaction.known_contents(marks)
        rows: list[dict[str, Any]] = []
        answers: list[list[dict[str, Any]]] = []
        for part, mark in zip(batch, marks, strict=True):
            item = part.item
            if len(item.responses) < 2:
                self.identical += 1
                continue
            here = item.id
            if item.id in stored:
                self.known += 1
                _check_same(item, mark, stored[item.id], self._places.get(part.whole, self._source))
            elif (mark, self._campaign) in contents:
                self.duplicates += 1
                here = contents[mark, self._campaign]
                self.first_duplicate = self.first_duplicate or (item.id, here)
            else:
                stored[item.id], contents[mark, self._campaign] = mark, item.id
                rows.append(self._row(item, mark))
                answers.append(_response_rows(item))
            given = labels_of_part(self._given.get(part.whole, ()), part.positions)
            self.labels.extend((here, label) for label in given)
        transaction.add_items(rows, answers)
        self.new += len(rows)

    def _row(self, item: Item, mark: str) -> dict[str, Any]:
        queue, known = self._queue, item.known_strength is not None
        several = unit_hash(queue.seed, "overlap", item.id) < queue.overlap_share
        return {
            "item_id": item.id,
            "group_id": item.group,
            "prompt": json.dumps([m.model_dump() for m in item.prompt], ensure_ascii=False),
            "kind": item.kind or ("gold" if known else "ordinary"),
            "known_strength": item.known_strength,
            "why": item.why or None,
            "campaign": self._campaign,
            "priority": queue.priority if item.priority is None else item.priority,
            "overlap": 0 if known else queue.overlap if several else 1,
            "round": item.round,
            "created_at": self.now,
            "fingerprint": mark,
        }

    def _check_storable(self, item: Item) -> None:
        for name, value in (("id", item.id), ("group", item.group)):
            if len(value) > _LONGEST_ID:
                problem = f"{name} of {len(value)} characters: {value[:40]!r} …"
                raise WorkbenchError(self._source, problem, expected=f"at most {_LONGEST_ID} characters")
        for text in [m.content for m in item.prompt] + [response.text for response in item.responses]:
            if "\x00" in text and not self._holds_nul:
                raise WorkbenchError(
                    self._source,
                    f"item {item.id!r} contains the character NUL, which PostgreSQL cannot store",
                    remedy="remove it from the text, or keep the labels in an SQLite file",
                )
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise WorkbenchError(
                    self._source,
                    f"item {item.id!r} contains half of a surrogate pair, which is not a character",
                    expected="text that can be written as UTF-8",
                )


def fingerprint(prompt: Sequence[Message], texts: Sequence[str], purpose: str = "") -> str:
    """A short hash (16 hex digits) of what an annotator sees, and of why if it is asked again on purpose."""
    seen = [[m.role, m.content] for m in prompt], list(texts)
    return hashlib.sha256((json.dumps(seen, ensure_ascii=False) + purpose).encode()).hexdigest()[:16]


def _without_leading_space(item: Item) -> Item:
    """The item with each answer less one leading space: some routes into the store remove it, others keep it."""
    responses = tuple(r.model_copy(update={"text": r.text.removeprefix(" ")}) for r in item.responses)
    return item.model_copy(update={"responses": responses})


def _prepared(items: Iterable[Item], compare: Compare) -> Iterator[_Part]:
    """Items as they are judged: in pairs if asked for, and without answers that repeat another."""
    for item in map(_without_leading_space, items):
        if len(item.responses) > 2 and compare == "pairs":
            for i, j in itertools.combinations(range(len(item.responses)), 2):
                both = (item.responses[i], item.responses[j])
                pair = item.model_copy(update={"id": f"{item.id}:{i}-{j}", "responses": both})
                yield _distinct(pair, item.id, (i, j))
        else:
            yield _distinct(item, item.id, tuple(range(len(item.responses))))


def _distinct(item: Item, whole: str, positions: tuple[int, ...]) -> _Part:
    by_text = {response.text: response for response in reversed(item.responses)}
    kept = [n for n, response in enumerate(item.responses) if by_text[response.text] is response]
    if len(kept) < len(item.responses):
        item = item.model_copy(update={"responses": tuple(item.responses[n] for n in kept)})
    return _Part(item, whole, tuple(positions[n] for n in kept))


def _batches(parts: Iterator[_Part]) -> Iterator[list[_Part]]:
    while batch := list(itertools.islice(parts, _BATCH)):
        yield batch


def _check_same(item: Item, mark: str, stored: str, source: str) -> None:
    if mark == stored:
        return
    # Earlier versions kept leading spaces and knew no purpose, so their fingerprint of the same item differs.
    texts = [response.text for response in item.responses]
    for spaces in itertools.product(("", " "), repeat=len(texts)):
        if fingerprint(item.prompt, [space + text for space, text in zip(spaces, texts, strict=True)]) == stored:
            return
    raise WorkbenchError(
        source,
        f"item {item.id!r} has other texts than the item with this id in the store",
        expected="one id for one prompt with its answers",
        remedy="give the new items their own ids, or use a new store.url",
    )


def _response_rows(item: Item) -> list[dict[str, Any]]:
    return [
        {
            "position": position,
            "response_id": response.id,
            "text": response.text,
            "run": response.run,
            "temperature": response.temperature,
            "ended": response.ended,
        }
        for position, response in enumerate(item.responses)
    ]
