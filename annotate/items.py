"""Items on their way into the store: answers in pairs, each item with its overlap. Loading twice changes nothing."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.store import Store
from workbench.data.records import Item, Message
from workbench.run.errors import WorkbenchError

_BATCH = 2000


@dataclass(frozen=True)
class Loaded:
    """What loading did."""

    new: int
    """Items added."""
    known: int
    """Items that the store held already."""
    identical: int
    """Pairs left out because both answers are the same text."""


def load_items(
    store: Store,
    items: Iterable[Item],
    *,
    overlap: int,
    overlap_share: float,
    priority: float = 0,
    seed: int = 0,
    place: str = "items",
) -> Loaded:
    """Add items to the store; an item with K answers becomes K(K-1)/2 pairs of its group.

    Raises:
        WorkbenchError: an item of a known id has other texts.
    """
    now, new, known, identical = time.time(), 0, 0, 0
    with store.write() as transaction:
        for batch in _batches(_pairs(items)):
            stored = transaction.fingerprints([item.id for item in batch])
            rows: list[dict[str, Any]] = []
            answers: list[list[dict[str, Any]]] = []
            for item in batch:
                mark = fingerprint(item.prompt, [response.text for response in item.responses])
                if item.responses[0].text == item.responses[1].text:
                    identical += 1
                elif item.id in stored:
                    known += 1
                    _check_same(item.id, mark, stored[item.id], place)
                else:
                    stored[item.id] = mark
                    wanted = overlap if unit_hash(seed, "overlap", item.id) < overlap_share else 1
                    rows.append(_item_row(item, mark, wanted, priority, now))
                    answers.append(_response_rows(item))
            transaction.add_items(rows, answers)
            new += len(rows)
        if new:
            transaction.add_event("items loaded", now, place=place, new=new, known=known)
    return Loaded(new, known, identical)


def unit_hash(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256("\x1f".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def fingerprint(prompt: Sequence[Message], texts: Sequence[str]) -> str:
    """A short hash of what an annotator sees (16 hex digits)."""
    seen = [[m.role, m.content] for m in prompt], list(texts)
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False).encode()).hexdigest()[:16]


def _pairs(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if len(item.responses) == 2:
            yield item
            continue
        for i, j in itertools.combinations(range(len(item.responses)), 2):
            both = (item.responses[i], item.responses[j])
            yield item.model_copy(update={"id": f"{item.id}:{i}-{j}", "responses": both})


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


def _item_row(item: Item, mark: str, overlap: int, priority: float, now: float) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "group_id": item.group,
        "prompt": json.dumps([m.model_dump() for m in item.prompt], ensure_ascii=False),
        "priority": priority,
        "overlap": overlap,
        "round": item.round,
        "created_at": now,
        "fingerprint": mark,
    }


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
