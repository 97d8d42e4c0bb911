"""Statements of the queue: which items are open, and who has leased them."""

from typing import Any

import sqlalchemy as sa

from annotate.store.schema import assignment, item, judgement, response
from annotate.store.statements.items import DONE, item_columns
from annotate.store.statements.rows import Annotator, Assignment, CardRows, StoredItem, StoredResponse
from annotate.store.statements.trail import Statements

_P = sa.bindparam
_ASSIGNMENT = [assignment.c[name] for name in Assignment._fields]
_CHANGING = ("state", "expires_at", "leased_at", "revision", "surplus")
_other = assignment.alias("other")
_withdrawn = assignment.c.revision > 0


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


def _open_item(simulated: bool) -> sa.Select[Any]:
    """The first item, in queue order, that needs another judgement and that this annotator has not had."""
    done = DONE[simulated]
    had = sa.exists().where(
        _other.c.item == item.c.id,
        _other.c.annotator == _P("annotator"),
        sa.or_(_other.c.state != "leased", _other.c.expires_at > _P("now")),
    )
    return (
        sa.select(item.c.id)
        .where(done < item.c.overlap, ~had, done + _live_leases(item.c.id) < item.c.overlap)
        .order_by(item.c.priority.desc(), item.c.id)
        .limit(1)
    )


_OPEN_ITEM = {simulated: _open_item(simulated) for simulated in DONE}
_OPEN_ITEM_LOCKED = {
    (simulated, skip): query.with_for_update(key_share=True, skip_locked=skip, of=item)
    for simulated, query in _OPEN_ITEM.items()
    for skip in (True, False)
}
_ITEM_PARTS = (len(StoredItem._fields), len(StoredItem._fields) + len(StoredResponse._fields))
_CARD_ROWS = {
    simulated: sa.select(
        *item_columns(simulated),
        *[response.c[name] for name in StoredResponse._fields],
        *_ASSIGNMENT,
        done + _live_leases(_P("item")) < item.c.overlap,
    )
    .select_from(item)
    .join(response, response.c.item == item.c.id)
    .outerjoin(assignment, sa.and_(assignment.c.item == item.c.id, assignment.c.annotator == _P("annotator")))
    .where(item.c.id == _P("item"))
    .order_by(response.c.position)
    for simulated, done in DONE.items()
}
# Withdrawn judgements first, the latest of them at the front; then the leased items, oldest first.
_LIVE_LEASES = (
    sa.select(*_ASSIGNMENT)
    .where(
        assignment.c.annotator == _P("annotator"),
        assignment.c.state == "leased",
        assignment.c.expires_at > _P("now"),
    )
    .order_by(
        _withdrawn.desc(),
        sa.case((_withdrawn, -assignment.c.leased_at), else_=assignment.c.leased_at),
        assignment.c.id,
    )
)
_GIVEN = sa.select(*_ASSIGNMENT).where(assignment.c.item == _P("item"), assignment.c.annotator == _P("annotator"))
_UPDATE = (
    sa.update(assignment).where(assignment.c.id == _P("target")).values({name: _P(f"new_{name}") for name in _CHANGING})
)
_RENEW = (
    sa.update(assignment)
    .where(assignment.c.annotator == _P("whose"), assignment.c.state == "leased", assignment.c.expires_at > _P("now"))
    .values(expires_at=_P("until"))
)
_INSERT = sa.insert(assignment).inline()
_mine = assignment.c.annotator == _P("annotator")
_GIVEN_TO = sa.select(sa.func.count()).select_from(assignment).where(_mine)
_taught = sa.exists().where(item.c.id == assignment.c.item, item.c.kind == "training")
_JUDGED = _GIVEN_TO.where(assignment.c.state == "done", ~_taught)
_RECENT = (
    sa.select(judgement.c.seconds)
    .where(judgement.c.annotator == _P("annotator"), judgement.c.seconds.is_not(None))
    .order_by(judgement.c.id.desc())
    .limit(_P("limit"))
    .subquery()
)
_JUDGED_AND_RECENT = sa.union_all(
    sa.select(sa.true().label("counts"), sa.cast(_JUDGED.scalar_subquery(), sa.Float)),
    sa.select(sa.false(), _RECENT.c.seconds),
)
_UNFINISHED = {
    simulated: sa.select(sa.func.count()).select_from(item).where(done < item.c.overlap)
    for simulated, done in DONE.items()
}
_HAD = {
    simulated: sa.select(sa.func.count())
    .select_from(assignment)
    .join(item, item.c.id == assignment.c.item)
    .where(_mine, assignment.c.state != "leased", done < item.c.overlap)
    for simulated, done in DONE.items()
}


class Leases(Statements):
    """The table `assignment`."""

    def live_leases_of(self, annotator_id: int, now: float) -> list[Assignment]:
        """The annotator's open items, in the order in which they are to be judged."""
        rows = self._connection.execute(_LIVE_LEASES, {"annotator": annotator_id, "now": now})
        return [Assignment(*row) for row in rows]

    def renew_leases(self, annotator_id: int, now: float, until: float) -> None:
        """Extend all leases of the annotator."""
        self._later(_RENEW, {"whose": annotator_id, "now": now, "until": until})

    def open_item(self, who: Annotator, now: float, *, waits: bool = True) -> CardRows | None:
        """The open item of highest priority for this annotator; locked for this transaction.

        With concurrent writers, items locked by others are skipped, and the search is repeated if the item filled up
        between finding and locking it.

        Args:
            waits: if nothing but locked items is left, wait for one of them; otherwise there is none.
        """
        values = {"annotator": who.id, "simulated": who.simulated, "now": now}
        searches = [_OPEN_ITEM[who.simulated]]
        if self._locks_rows:
            searches = [_OPEN_ITEM_LOCKED[who.simulated, skips] for skips in ((True, False) if waits else (True,))]
        while True:
            row = next((found for search in searches if (found := self._one(search, values)) is not None), None)
            if row is None:
                return None
            # Leases committed while we waited for the lock are visible only to a new statement.
            rows = self.card_rows(row.id, who, now)
            if rows is not None and rows.has_room:
                return rows

    def card_rows(self, item_pk: int, who: Annotator, now: float) -> CardRows | None:
        """An item with its answers and this annotator's assignment, in one statement."""
        values = {"item": item_pk, "annotator": who.id, "simulated": who.simulated, "now": now}
        rows = self._connection.execute(_CARD_ROWS[who.simulated], values).all()
        if not rows:
            return None
        own, answer = _ITEM_PARTS
        *given, has_room = rows[0][answer:]
        return CardRows(
            StoredItem(*rows[0][:own]),
            [StoredResponse(*row[own:answer]) for row in rows],
            None if given[0] is None else Assignment(*given),
            has_room,
        )

    def assignment(self, item_pk: int, annotator_id: int) -> Assignment | None:
        """The annotator's assignment of this item, if any."""
        row = self._one(_GIVEN, {"item": item_pk, "annotator": annotator_id})
        return Assignment(*row) if row else None

    def add_lease(
        self,
        item_pk: int,
        who: Annotator,
        *,
        swapped: bool,
        display_order: str | None,
        now: float,
        expires: float,
    ) -> None:
        """Lease an item to an annotator for the first time."""
        self._later(
            _INSERT,
            {
                "item": item_pk,
                "annotator": who.id,
                "simulated": who.simulated,
                "state": "leased",
                "swapped": swapped,
                "display_order": display_order,
                "leased_at": now,
                "expires_at": expires,
                "revision": 0,
                "surplus": False,
            },
        )

    def put_assignment(self, given: Assignment) -> None:
        """Write back a changed assignment."""
        values = {f"new_{name}": getattr(given, name) for name in _CHANGING}
        self._later(_UPDATE, {"target": given.id, **values})

    def given_to(self, annotator_id: int) -> int:
        """Number of items that the annotator was ever given."""
        return self._count(_GIVEN_TO, {"annotator": annotator_id})

    def judged_by(self, annotator_id: int) -> int:
        """Number of items that the annotator has judged, without skipped ones and training."""
        return self._count(_JUDGED, {"annotator": annotator_id})

    def judged_and_recent(self, annotator_id: int, limit: int) -> tuple[int, list[float]]:
        """Number of items that the annotator has judged, and how long the newest judgements took, in seconds."""
        rows = self._connection.execute(_JUDGED_AND_RECENT, {"annotator": annotator_id, "limit": limit}).all()
        return int(next(value for counts, value in rows if counts)), [value for counts, value in rows if not counts]

    def unfinished(self, *, simulated: bool) -> int:
        """Number of items that still need judgements, by people or by simulated annotators."""
        return self._count(_UNFINISHED[simulated], {})

    def unfinished_had(self, who: Annotator) -> int:
        """Number of items that still need judgements and that this annotator has judged or skipped."""
        return self._count(_HAD[who.simulated], {"annotator": who.id})
