"""Items on their way into the store: what is compared or ranked, with its overlap. Loading twice changes nothing."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from annotate.store.database import Store
from annotate.store.statements import Transaction
from workbench.data.hashing import unit_hash
from workbench.data.records import Item, Message
from workbench.run.errors import WorkbenchError

Compare = Literal["pairs", "ranking"]
_BATCH = 2000
_LONGEST_ID = 200


@dataclass(frozen=True)
class Loaded:
    """What loading did."""

    new: int
    """Items added."""
    known: int
    """Items that the store held already."""
    identical: int
    """Left out because all answers are the same text."""
    duplicates: int = 0
    """Left out because another item, of another id, has the same prompt and answers."""
    first_duplicate: tuple[str, str] | None = None
    """Ids of such an item and of the one it repeats."""


@dataclass(frozen=True)
class Intake:
    """What becomes of items that come in."""

    overlap: int = 1
    """Judgements wanted for an item that is judged more than once."""
    overlap_share: float = 0.0
    """Share of the items (chosen by hash of id) that get `overlap` judgements; the others get one."""
    priority: float = 0
    """Of items that bring none of their own: higher ones are handed out first."""
    compare: Compare = "pairs"
    """More than two answers: in pairs, or ranked all at once."""
    seed: int = 0


def load_items(
    store: Store,
    items: Iterable[Item],
    *,
    overlap: int,
    overlap_share: float,
    priority: float = 0,
    compare: Compare = "pairs",
    seed: int = 0,
    place: str = "items",
    campaign: str | None = None,
) -> Loaded:
    """Add items to the store: all of them, or none.

    An item with K answers becomes K(K-1)/2 pairs of its group, or with `compare="ranking"` one item to rank. Items
    with a `known_strength` are gold: they are planted among the others (`annotate.queue.planting`).

    Raises:
        WorkbenchError: an item of a known id has other texts, or a text that the store cannot hold.
    """
    loading = _Loading(store, Intake(overlap, overlap_share, priority, compare, seed), place, campaign)
    with store.write() as transaction:
        transaction.begin_loading()
        for batch in _batches(_prepared(items, compare)):
            loading.add(transaction, batch)
        if loading.new:
            transaction.add_event("items loaded", loading.now, place=place, new=loading.new, known=loading.known)
    return Loaded(loading.new, loading.known, loading.identical, loading.duplicates, loading.first_duplicate)


def set_priorities(store: Store, priorities: Mapping[str, float]) -> None:
    """Change the order in which items are handed out, by item id: higher ones first."""
    with store.write() as transaction:
        transaction.set_priorities(priorities)


class _Loading:
    """Counts, and the rows of one batch after another."""

    def __init__(self, store: Store, rules: Intake, place: str, campaign: str | None) -> None:
        self._rules, self._place, self._campaign = rules, place, campaign
        self._holds_nul = store.path is not None
        self.now = time.time()
        self.new = self.known = self.identical = self.duplicates = 0
        self.first_duplicate: tuple[str, str] | None = None

    def add(self, transaction: Transaction, batch: Sequence[Item]) -> None:
        """Put what is new of a batch into the store."""
        for item in batch:
            self._check_storable(item)
        marks = [fingerprint(item.prompt, [response.text for response in item.responses]) for item in batch]
        stored = transaction.fingerprints([item.id for item in batch])
        contents = transaction.known_contents(marks)
        rows: list[dict[str, Any]] = []
        answers: list[list[dict[str, Any]]] = []
        for item, mark in zip(batch, marks, strict=True):
            if len(item.responses) < 2:
                self.identical += 1
            elif item.id in stored:
                self.known += 1
                _check_same(item.id, mark, stored[item.id], self._place)
            elif (mark, self._campaign) in contents:
                self.duplicates += 1
                self.first_duplicate = self.first_duplicate or (item.id, contents[mark, self._campaign])
            else:
                stored[item.id], contents[mark, self._campaign] = mark, item.id
                rows.append(self._row(item, mark))
                answers.append(_response_rows(item))
        transaction.add_items(rows, answers)
        self.new += len(rows)

    def _row(self, item: Item, mark: str) -> dict[str, Any]:
        rules, gold = self._rules, item.known_strength is not None
        several = unit_hash(rules.seed, "overlap", item.id) < rules.overlap_share
        return {
            "item_id": item.id,
            "group_id": item.group,
            "prompt": json.dumps([m.model_dump() for m in item.prompt], ensure_ascii=False),
            "kind": "gold" if gold else "ordinary",
            "known_strength": item.known_strength,
            "campaign": self._campaign,
            "priority": rules.priority if item.priority is None else item.priority,
            "overlap": 0 if gold else rules.overlap if several else 1,
            "round": item.round,
            "created_at": self.now,
            "fingerprint": mark,
        }

    def _check_storable(self, item: Item) -> None:
        for name, value in (("id", item.id), ("group", item.group)):
            if len(value) > _LONGEST_ID:
                problem = f"{name} of {len(value)} characters: {value[:40]!r} …"
                raise WorkbenchError(self._place, problem, expected=f"at most {_LONGEST_ID} characters")
        for text in [m.content for m in item.prompt] + [response.text for response in item.responses]:
            if "\x00" in text and not self._holds_nul:
                raise WorkbenchError(
                    self._place,
                    f"item {item.id!r} holds the character NUL, which PostgreSQL cannot store",
                    remedy="take it out of the text, or keep the labels in an SQLite file",
                )
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise WorkbenchError(
                    self._place,
                    f"item {item.id!r} holds half of a surrogate pair, which is no character",
                    expected="text that can be written as UTF-8",
                )


def fingerprint(prompt: Sequence[Message], texts: Sequence[str]) -> str:
    """A short hash of what an annotator sees (16 hex digits)."""
    seen = [[m.role, m.content] for m in prompt], list(texts)
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False).encode()).hexdigest()[:16]


def _prepared(items: Iterable[Item], compare: Compare) -> Iterator[Item]:
    """Items as they are judged: without answers that repeat another, and in pairs where that is asked for."""
    for item in items:
        if len(item.responses) > 2 and compare == "pairs":
            for i, j in itertools.combinations(range(len(item.responses)), 2):
                both = (item.responses[i], item.responses[j])
                yield _distinct(item.model_copy(update={"id": f"{item.id}:{i}-{j}", "responses": both}))
        else:
            yield _distinct(item)


def _distinct(item: Item) -> Item:
    by_text = {response.text: response for response in reversed(item.responses)}
    if len(by_text) == len(item.responses):
        return item
    return item.model_copy(update={"responses": tuple(r for r in item.responses if by_text[r.text] is r)})


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(itertools.islice(items, _BATCH)):
        yield batch


def _check_same(item_id: str, mark: str, stored: str, place: str) -> None:
    if mark != stored:
        raise WorkbenchError(
            place,
            f"item {item_id!r} has other texts than the item of this id in the store",
            expected="one id for one prompt with its answers",
            remedy="give the new items ids of their own, or a new store.url",
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
