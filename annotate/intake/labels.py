"""Judgements that were made elsewhere enter the store, next to their items.

They belong to accounts that cannot log in: NAME, or NAME.PERSON if the file names the people. By default these accounts
count as simulated annotators do: apart from the people who label here, and without taking an item from them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.store.database import Store
from annotate.store.names import ALLOWED, allowed, fold, normal
from annotate.store.statements import Annotator, Target, Transaction
from workbench.data.records import ItemLabel
from workbench.run.errors import WorkbenchError

IMPORTED = "imported"
"""The role of accounts whose judgements were imported: they may do nothing here."""
_BATCH = 500


@dataclass(frozen=True)
class Origin:
    """Whose judgements they are."""

    name: str
    """Of the account, or the beginning of the names if the file names several people."""
    as_people: bool = False
    """Whether they count as judgements of people here: towards an item's overlap, and in the people's agreement."""
    role: str = IMPORTED
    """The role of the accounts: `imported`, or `judge`."""


@dataclass(frozen=True)
class GivenLabels:
    """The judgements of a file."""

    origin: Origin
    of: Mapping[str, Sequence[ItemLabel]]
    """By id of the item in the file."""
    others: Sequence[tuple[str, ItemLabel]] = ()
    """Judgements of items in other files, by id of the item in the store."""


@dataclass(frozen=True)
class LabelsLoaded:
    """What became of the judgements of a file."""

    new: int = 0
    known: int = 0
    """Judgements by somebody who had judged the item already."""
    missing: int = 0
    """Judgements of items that are not in the store."""

    def __str__(self) -> str:
        parts = [f"{self.new:,} judgements imported"]
        if self.known:
            parts.append(f"{self.known:,} known")
        if self.missing:
            parts.append(f"{self.missing:,} of items that are not in the store")
        return ", ".join(parts)


def labels_of_part(labels: Sequence[ItemLabel], positions: Sequence[int]) -> list[ItemLabel]:
    """The judgements of some of an item's answers, from the judgements of all of them.

    Two answers of a ranking: 1 for the better one; the distance of ranks is not a strength.
    """
    if tuple(positions) == (0, 1) and not any(label.ranking for label in labels):
        return list(labels)
    found = []
    for label in labels:
        if label.ranking is not None:
            ranks = [label.ranking[position] for position in positions]
            if len(ranks) == 2:
                changes: dict[str, Any] = {"ranking": None, "strength": (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])}
            else:
                changes = {"ranking": tuple(1 + sum(other < own for other in ranks) for own in ranks)}
            found.append(label.model_copy(update=changes))
        elif label.both_bad:
            found.append(label)
    return found


def store_labels(
    store: Store, transaction: Transaction, labels: Iterable[tuple[str, ItemLabel]], origin: Origin, now: float
) -> LabelsLoaded:
    """Store judgements by item id; what their annotators have judged already is left as it is.

    Raises:
        WorkbenchError: a name belongs to somebody who labels here, or a judgement does not fit its item.
    """
    importing = _Importing(store, transaction, origin, now)
    for batch in _batches(labels):
        importing.add(batch)
    counts = importing.counts
    loaded = LabelsLoaded(counts["new"], counts["known"], counts["missing"])
    if loaded.new:
        transaction.add_event("labels imported", now, name=origin.name, as_people=origin.as_people, new=loaded.new)
    return loaded


class _Importing:
    """Stores one batch after another."""

    def __init__(self, store: Store, transaction: Transaction, origin: Origin, now: float) -> None:
        self._store, self._transaction, self._origin, self._now = store, transaction, origin, now
        self._accounts: dict[str, Annotator] = {}
        self._names: dict[str, str] = {}
        self.counts = Counter(new=0, known=0, missing=0)

    def add(self, batch: Sequence[tuple[str, ItemLabel]]) -> None:
        """Store a batch of judgements."""
        simulated = not self._origin.as_people
        targets = self._transaction.label_targets([item_id for item_id, _ in batch], simulated=simulated)
        had = self._transaction.assigned([target.id for target in targets.values()])
        assignments: list[dict[str, Any]] = []
        judgements: list[dict[str, Any]] = []
        done: Counter[int] = Counter()
        for item_id, label in batch:
            target = targets.get(item_id)
            if target is None:
                self.counts["missing"] += 1
                continue
            _check_fits(self._store, item_id, label, target)
            who = self._account(label.annotator)
            if (target.id, who.id) in had:
                self.counts["known"] += 1
                continue
            had.add((target.id, who.id))
            surplus = target.done + done[target.id] >= target.overlap
            done[target.id] += not surplus
            assignments.append(self._assignment(target, who, surplus))
            judgements.append(self._judgement(target, who, label))
        self.counts["new"] += len(judgements)
        self._transaction.add_imported(assignments, judgements)
        for item_pk, change in done.items():
            if change:
                self._transaction.add_done(item_pk, change, simulated=simulated)

    def _account(self, person: str) -> Annotator:
        if person not in self._accounts:
            name = account_name(self._origin.name, person)
            other = self._names.setdefault(name, person)
            if other != person:
                raise WorkbenchError(self._store.place, f"{person!r} and {other!r} would both be {name!r} here")
            self._accounts[person] = self._find_or_add(name)
        return self._accounts[person]

    def _find_or_add(self, name: str) -> Annotator:
        simulated = not self._origin.as_people
        same = [known for known in self._transaction.annotators() if fold(known.name) == fold(name)]
        account = same[0] if same else None
        if account is None:
            self._transaction.add_annotator(name, self._origin.role, self._now, simulated=simulated)
            account = self._transaction.annotator(name)
            assert account is not None
        if account.role != self._origin.role:
            raise WorkbenchError(
                "--labels-by",
                f"{account.name!r} labels here",
                expected="a name for the judgements of the file that nobody has here",
                remedy=f"--labels-by {self._origin.name}-imported",
            )
        if account.simulated != simulated:
            kind = "as those of people" if self._origin.as_people else "apart from people"
            raise WorkbenchError(
                "--labels-by",
                f"earlier judgements of {account.name!r} do not count {kind}",
                expected="the same choice of --as-people for each file of one name",
                remedy="choose another name",
            )
        return account

    def _assignment(self, target: Target, who: Annotator, surplus: bool) -> dict[str, Any]:
        return {
            "item": target.id,
            "annotator": who.id,
            "simulated": who.simulated,
            "state": "done",
            "swapped": False,
            "display_order": None,
            "leased_at": self._now,
            "expires_at": self._now,
            "revision": 1,
            "surplus": surplus,
        }

    def _judgement(self, target: Target, who: Annotator, label: ItemLabel) -> dict[str, Any]:
        choice = "both_bad" if label.both_bad else "ranked" if label.ranking is not None else "compared"
        key = hashlib.sha256(f"imported {who.id} {target.id}".encode()).hexdigest()
        return {
            "item": target.id,
            "annotator": who.id,
            "revision": 1,
            "client_key": key,
            "choice": choice,
            "strength": label.strength,
            "ranking": None if label.ranking is None else str(list(label.ranking)),
            "swapped": False,
            "comment": label.comment or None,
            "created_at": self._now,
        }


def _check_fits(store: Store, item_id: str, label: ItemLabel, target: Target) -> None:
    answers = 2 if label.strength is not None else len(label.ranking or ()) or target.answers
    if answers != target.answers:
        raise WorkbenchError(
            f"{store.place}, item {item_id!r}",
            f"has {target.answers} answers, and the file judges {answers}",
            expected="a judgement of each of the item's answers",
        )


def account_name(name: str, person: str) -> str:
    """The account of a person whom a file names.

    Raises:
        WorkbenchError: the name cannot be one.
    """
    shown = "".join(c if c.isalnum() or c in "._@-" else "-" for c in normal(person))
    whole = normal(f"{name}.{shown}" if shown else name)[:64]
    if not allowed(whole):
        raise WorkbenchError("--labels-by", f"{name!r} cannot be a name", expected=ALLOWED)
    return whole


def _batches(labels: Iterable[tuple[str, ItemLabel]]) -> Iterator[list[tuple[str, ItemLabel]]]:
    batch: list[tuple[str, ItemLabel]] = []
    for label in labels:
        batch.append(label)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
