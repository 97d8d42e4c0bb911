"""Every statement that the label store runs, in the plain SQL that databases share. Knows tables, not rules.

A `Transaction` lives between BEGIN and COMMIT (`Store.write`, `Store.read`); who may do what is decided in `queue`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from annotate.schema import annotator, assignment, event, item, judgement, meta, response

_CHUNK = 500  # values in one IN (...)


class Annotator(NamedTuple):
    """An account, or a simulated annotator."""

    id: int
    name: str
    role: str
    password_hash: str | None
    simulated: bool
    active: bool
    session_version: int


class StoredItem(NamedTuple):
    """An item's own columns."""

    id: int
    item_id: str
    group_id: str
    prompt: str
    overlap: int
    done: int
    round: int


class StoredResponse(NamedTuple):
    """One of an item's answers."""

    text: str
    run: str
    ended: bool


class Assignment(NamedTuple):
    """An item given to an annotator; see `annotate.schema`."""

    id: int
    item: int
    state: str
    swapped: bool
    leased_at: float
    expires_at: float
    revision: int
    surplus: bool


class CurrentJudgement(NamedTuple):
    """The newest revision of somebody's judgement of an item."""

    item: int
    annotator: str
    simulated: bool
    choice: str
    strength: int | None
    swapped: bool
    seconds: float | None


_ANNOTATOR = [annotator.c[name] for name in Annotator._fields]
_ASSIGNMENT = [assignment.c[name] for name in Assignment._fields]
_other = assignment.alias("other")
_P = sa.bindparam


def _item_columns(done: sa.ColumnElement[int]) -> list[Any]:
    columns = {"done": done.label("done")}
    return [columns.get(name, item.c.get(name)) for name in StoredItem._fields]


def _open_item(done: sa.ColumnElement[int]) -> sa.Select[Any]:
    """The first item in order that needs a judgement, that nobody else is about to give, from this annotator."""
    had = sa.exists().where(
        _other.c.item == item.c.id, _other.c.annotator == _P("annotator"), _other.c.state != "leased"
    )
    return (
        sa.select(*_item_columns(done))
        .where(done < item.c.overlap, ~had, done + _live_leases(item.c.id) < item.c.overlap)
        .order_by(item.c.priority.desc(), item.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=item)
    )


def _live_leases(item_id: Any) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count())
        .select_from(assignment)
        .where(
            assignment.c.item == item_id,
            assignment.c.simulated == _P("simulated"),
            assignment.c.state == "leased",
            assignment.c.expires_at > _P("now"),
        )
        .scalar_subquery()
    )


_DONE = {False: item.c.done_people, True: item.c.done_simulated}
_OPEN_ITEM = {simulated: _open_item(done) for simulated, done in _DONE.items()}
_ITEM = {simulated: sa.select(*_item_columns(done)).where(item.c.id == _P("item")) for simulated, done in _DONE.items()}
_ADD_DONE = {
    simulated: sa.update(item).where(item.c.id == _P("target")).values({done.name: done + _P("change")})
    for simulated, done in _DONE.items()
}
_LIVE_LEASE = (
    sa.select(*_ASSIGNMENT)
    .where(
        assignment.c.annotator == _P("annotator"),
        assignment.c.state == "leased",
        assignment.c.expires_at > _P("now"),
    )
    .order_by(assignment.c.leased_at.desc(), assignment.c.revision.desc(), assignment.c.id.desc())
    .limit(1)
)
_GIVEN = sa.select(*_ASSIGNMENT).where(assignment.c.item == _P("item"), assignment.c.annotator == _P("annotator"))
_RESPONSES = (
    sa.select(response.c.text, response.c.run, response.c.ended)
    .where(response.c.item == _P("item"))
    .order_by(response.c.position)
)
_BY_KEY = sa.select(judgement).where(judgement.c.client_key == _P("key"))
_NEWEST = (
    sa.select(judgement)
    .join(
        assignment,
        sa.and_(
            assignment.c.item == judgement.c.item,
            assignment.c.annotator == judgement.c.annotator,
            assignment.c.revision == judgement.c.revision,
        ),
    )
    .where(judgement.c.annotator == _P("annotator"), assignment.c.state != "leased")
    .order_by(judgement.c.id.desc())
    .limit(1)
)
_UPDATE_ASSIGNMENT = (
    sa.update(assignment)
    .where(assignment.c.id == _P("target"))
    .values({name: _P(f"new_{name}") for name in ("state", "expires_at", "leased_at", "revision", "surplus")})
)
_INSERT_ASSIGNMENT = sa.insert(assignment)
_INSERT_JUDGEMENT = sa.insert(judgement)
_INSERT_EVENT = sa.insert(event)


class Transaction:
    """The store between BEGIN and COMMIT."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def _mapping(self, statement: Any, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        row = self._connection.execute(statement, values).first()
        return None if row is None else dict(row._mapping)

    def _one(self, statement: Any, values: Mapping[str, Any]) -> Any:
        return self._connection.execute(statement, values).first()

    # Settings and the audit trail

    def setting(self, key: str) -> str | None:
        """A value of the `meta` table."""
        return self._connection.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar()

    def put_setting(self, key: str, value: str) -> None:
        """Set a value of the `meta` table for the first time."""
        self._connection.execute(sa.insert(meta), {"key": key, "value": value})

    def add_event(self, kind: str, at: float, annotator_id: int | None = None, **detail: Any) -> None:
        """Append to the audit trail."""
        text = json.dumps(detail, ensure_ascii=False, sort_keys=True)
        values = {"at": at, "annotator": annotator_id, "kind": kind, "detail": text}
        self._connection.execute(_INSERT_EVENT, values)

    def events(self) -> list[dict[str, Any]]:
        """The audit trail, oldest first."""
        rows = self._connection.execute(sa.select(event).order_by(event.c.id)).mappings()
        return [{**row, "detail": json.loads(row["detail"])} for row in rows]

    # Annotators

    def annotators(self) -> list[Annotator]:
        """Everybody, by name."""
        rows = self._connection.execute(sa.select(*_ANNOTATOR).order_by(annotator.c.name))
        return [Annotator(*row) for row in rows]

    def annotator(self, name: str) -> Annotator | None:
        """One of them."""
        row = self._one(sa.select(*_ANNOTATOR).where(annotator.c.name == _P("name")), {"name": name})
        return Annotator(*row) if row else None

    def add_annotator(
        self, name: str, role: str, at: float, *, password_hash: str | None = None, simulated: bool = False
    ) -> None:
        """A new account; names are unique."""
        self._connection.execute(
            sa.insert(annotator),
            {
                "name": name,
                "role": role,
                "password_hash": password_hash,
                "simulated": simulated,
                "created_at": at,
            },
        )

    # Items

    def fingerprints(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Of those of these items that the store holds."""
        found: dict[str, str] = {}
        for start in range(0, len(item_ids), _CHUNK):
            chunk = item_ids[start : start + _CHUNK]
            query = sa.select(item.c.item_id, item.c.fingerprint).where(item.c.item_id.in_(chunk))
            found.update((row[0], row[1]) for row in self._connection.execute(query))
        return found

    def add_items(self, rows: list[dict[str, Any]], responses: list[list[dict[str, Any]]]) -> None:
        """Insert items, each with its answers."""
        if not rows:
            return
        self._connection.execute(sa.insert(item), rows)
        keys: dict[str, int] = {}
        names = [row["item_id"] for row in rows]
        for start in range(0, len(names), _CHUNK):
            query = sa.select(item.c.item_id, item.c.id).where(item.c.item_id.in_(names[start : start + _CHUNK]))
            keys.update((row[0], row[1]) for row in self._connection.execute(query))
        answers = [{**answer, "item": keys[name]} for name, own in zip(names, responses, strict=True) for answer in own]
        self._connection.execute(sa.insert(response), answers)

    def item(self, item_pk: int, *, simulated: bool) -> StoredItem | None:
        """An item, with the count of judgements by people, or by simulated annotators."""
        row = self._one(_ITEM[simulated], {"item": item_pk})
        return StoredItem(*row) if row else None

    def items(self) -> list[StoredItem]:
        """All items in the order of loading (`done`: by people)."""
        rows = self._connection.execute(sa.select(*_item_columns(item.c.done_people)).order_by(item.c.id))
        return [StoredItem(*row) for row in rows]

    def responses(self, item_pk: int) -> list[StoredResponse]:
        """An item's answers in their own order."""
        return [StoredResponse(*row) for row in self._connection.execute(_RESPONSES, {"item": item_pk})]

    def all_responses(self) -> dict[int, list[StoredResponse]]:
        """Every item's answers in their own order."""
        columns = (response.c.item, response.c.text, response.c.run, response.c.ended)
        query = sa.select(*columns).order_by(response.c.item, response.c.position)
        found: dict[int, list[StoredResponse]] = {}
        for item_pk, *values in self._connection.execute(query):
            found.setdefault(item_pk, []).append(StoredResponse(*values))
        return found

    # The queue

    def live_lease(self, annotator_id: int, now: float) -> Assignment | None:
        """The annotator's newest lease that has not run out."""
        row = self._one(_LIVE_LEASE, {"annotator": annotator_id, "now": now})
        return Assignment(*row) if row else None

    def open_item(self, who: Annotator, now: float) -> StoredItem | None:
        """The item of highest priority that still needs a judgement from this annotator."""
        values = {"annotator": who.id, "simulated": who.simulated, "now": now}
        row = self._one(_OPEN_ITEM[who.simulated], values)
        return StoredItem(*row) if row else None

    def live_leases(self, item_pk: int, *, simulated: bool, now: float) -> int:
        """How many annotators have this item before them now."""
        values = {"target": item_pk, "simulated": simulated, "now": now}
        return self._connection.execute(sa.select(_live_leases(_P("target"))), values).scalar_one()

    def assignment(self, item_pk: int, annotator_id: int) -> Assignment | None:
        """What the annotator was given of this item."""
        row = self._one(_GIVEN, {"item": item_pk, "annotator": annotator_id})
        return Assignment(*row) if row else None

    def add_lease(self, item_pk: int, who: Annotator, *, swapped: bool, now: float, expires: float) -> None:
        """Give an item to an annotator for the first time."""
        self._connection.execute(
            _INSERT_ASSIGNMENT,
            {
                "item": item_pk,
                "annotator": who.id,
                "simulated": who.simulated,
                "state": "leased",
                "swapped": swapped,
                "leased_at": now,
                "expires_at": expires,
            },
        )

    def put_assignment(self, given: Assignment) -> None:
        """Write back a changed assignment."""
        names = ("state", "expires_at", "leased_at", "revision", "surplus")
        values = {f"new_{name}": getattr(given, name) for name in names}
        self._connection.execute(_UPDATE_ASSIGNMENT, {"target": given.id, **values})

    def add_done(self, item_pk: int, change: int, *, simulated: bool) -> None:
        """Count a judgement towards the item's overlap, or take it back."""
        self._connection.execute(_ADD_DONE[simulated], {"target": item_pk, "change": change})

    def judgement_by_key(self, client_key: str) -> Mapping[str, Any] | None:
        """What was stored under a client's key."""
        return self._mapping(_BY_KEY, {"key": client_key})

    def newest_judgement(self, annotator_id: int) -> Mapping[str, Any] | None:
        """The annotator's last judgement that has not been withdrawn."""
        return self._mapping(_NEWEST, {"annotator": annotator_id})

    def judgement(self, item_pk: int, annotator_id: int, revision: int) -> Mapping[str, Any] | None:
        """One revision."""
        c = judgement.c
        query = sa.select(judgement).where(c.item == item_pk, c.annotator == annotator_id, c.revision == revision)
        return self._mapping(query, {})

    def add_judgement(self, **values: Any) -> None:
        """Append a revision."""
        self._connection.execute(_INSERT_JUDGEMENT, values)

    # Counting

    def current_judgements(self) -> Iterable[CurrentJudgement]:
        """Everybody's newest judgement of each item, in the order of items and annotators; no withdrawn ones."""
        people = {"annotator": annotator.c.name, "simulated": annotator.c.simulated}
        columns: list[Any] = [people.get(name, judgement.c.get(name)) for name in CurrentJudgement._fields]
        query = (
            sa.select(*columns)
            .join(annotator, annotator.c.id == judgement.c.annotator)
            .join(
                assignment,
                sa.and_(
                    assignment.c.item == judgement.c.item,
                    assignment.c.annotator == judgement.c.annotator,
                    assignment.c.revision == judgement.c.revision,
                ),
            )
            .where(judgement.c.choice != "withdrawn")
            .order_by(judgement.c.item, annotator.c.name)
        )
        return [CurrentJudgement(*row) for row in self._connection.execute(query)]

    def totals(self, *, simulated: bool) -> tuple[int, int, int]:
        """Items, judgements wanted, judgements given (surplus ones not counted)."""
        columns = (sa.func.count(), sa.func.sum(item.c.overlap), sa.func.sum(_DONE[simulated]))
        count, wanted, given = self._connection.execute(sa.select(*columns)).one()
        return count, wanted or 0, given or 0

    def open_items(self, who: Annotator) -> tuple[int, int]:
        """Items that still need judgements; those of them that this annotator has judged or skipped."""
        done = _DONE[who.simulated]
        had = sa.exists().where(_other.c.item == item.c.id, _other.c.annotator == who.id, _other.c.state != "leased")
        unfinished = sa.select(sa.func.count()).select_from(item).where(done < item.c.overlap)
        return (
            self._connection.execute(unfinished).scalar_one(),
            self._connection.execute(unfinished.where(had)).scalar_one(),
        )

    def judged_by(self, annotator_id: int) -> int:
        """How many items the annotator has judged (skipped ones not counted)."""
        query = sa.select(sa.func.count()).select_from(assignment)
        mine = query.where(assignment.c.annotator == annotator_id, assignment.c.state == "done")
        return self._connection.execute(mine).scalar_one()
