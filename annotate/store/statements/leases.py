"""Statements of the queue: which items are open, and who has leased them."""

from typing import Any

import sqlalchemy as sa

from annotate.store.schema import assignment, item
from annotate.store.statements.items import DONE, item_columns
from annotate.store.statements.rows import Annotator, Assignment, StoredItem
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
        sa.select(*item_columns(simulated))
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
_STILL_OPEN = {
    simulated: sa.select(sa.func.count())
    .select_from(item)
    .where(item.c.id == _P("target"), done + _live_leases(_P("target")) < item.c.overlap)
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
_INSERT = sa.insert(assignment)
_mine = assignment.c.annotator == _P("annotator")
_GIVEN_TO = sa.select(sa.func.count()).select_from(assignment).where(_mine)
_JUDGED = _GIVEN_TO.where(assignment.c.state == "done")
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
        self._connection.execute(_RENEW, {"whose": annotator_id, "now": now, "until": until})

    def open_item(self, who: Annotator, now: float) -> StoredItem | None:
        """The open item of highest priority for this annotator; locked for this transaction.

        With concurrent writers, items locked by others are skipped, and the search is repeated if the item filled up
        between finding and locking it.
        """
        values = {"annotator": who.id, "simulated": who.simulated, "now": now}
        if not self._locks_rows:
            row = self._one(_OPEN_ITEM[who.simulated], values)
            return StoredItem(*row) if row else None
        while True:
            row = self._one(_OPEN_ITEM_LOCKED[who.simulated, True], values) or self._one(
                _OPEN_ITEM_LOCKED[who.simulated, False], values
            )
            if row is None:
                return None
            # Leases committed while we waited for the lock are visible only to a new statement.
            check = {"target": row.id, "simulated": who.simulated, "now": now}
            if self._count(_STILL_OPEN[who.simulated], check):
                return StoredItem(*row)

    def live_leases(self, item_pk: int, *, simulated: bool, now: float) -> int:
        """Number of annotators who have leased this item now."""
        values = {"target": item_pk, "simulated": simulated, "now": now}
        return self._count(sa.select(_live_leases(_P("target"))), values)

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
        self._connection.execute(
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
        self._connection.execute(_UPDATE, {"target": given.id, **values})

    def given_to(self, annotator_id: int) -> int:
        """Number of items that the annotator was ever given."""
        return self._count(_GIVEN_TO, {"annotator": annotator_id})

    def judged_by(self, annotator_id: int) -> int:
        """Number of items that the annotator has judged, without skipped ones."""
        return self._count(_JUDGED, {"annotator": annotator_id})

    def open_items(self, who: Annotator) -> tuple[int, int]:
        """Number of items that still need judgements, and how many of them this annotator has judged or skipped."""
        unfinished = self._count(_UNFINISHED[who.simulated], {})
        return unfinished, self._count(_HAD[who.simulated], {"annotator": who.id})
