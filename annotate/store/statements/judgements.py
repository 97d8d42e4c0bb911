"""Statements about judgements and adjudications: appended, never changed."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import adjudication, annotator, assignment, item, judgement
from annotate.store.statements.rows import Adjudication, CurrentJudgement, GivenJudgement
from annotate.store.statements.trail import Statements, columns_of

_P = sa.bindparam
_is_newest = sa.and_(
    assignment.c.item == judgement.c.item,
    assignment.c.annotator == judgement.c.annotator,
    assignment.c.revision == judgement.c.revision,
)
_BY_KEY = sa.select(judgement).where(judgement.c.client_key == _P("key"))
_STANDING = (
    sa.select(judgement)
    .join(assignment, _is_newest)
    .where(judgement.c.annotator == _P("annotator"), assignment.c.state != "leased")
    .order_by(judgement.c.id.desc())
)
_NEWEST = _STANDING.limit(1)
_REVISION = sa.select(judgement).where(
    judgement.c.item == _P("item"), judgement.c.annotator == _P("annotator"), judgement.c.revision == _P("revision")
)
_RECENT = (
    sa.select(judgement.c.seconds)
    .where(judgement.c.annotator == _P("annotator"), judgement.c.seconds.is_not(None))
    .order_by(judgement.c.id.desc())
    .limit(_P("limit"))
)
_INSERT = sa.insert(judgement)


class Judgements(Statements):
    """The tables `judgement` and `adjudication`."""

    def judgement_by_key(self, client_key: str) -> Mapping[str, Any] | None:
        """The judgement stored with a client's key."""
        return self._mapping(_BY_KEY, {"key": client_key})

    def newest_judgement(self, annotator_id: int) -> Mapping[str, Any] | None:
        """The annotator's last judgement that has not been withdrawn."""
        return self._mapping(_NEWEST, {"annotator": annotator_id})

    def judgement(self, item_pk: int, annotator_id: int, revision: int) -> Mapping[str, Any] | None:
        """One revision of a judgement."""
        return self._mapping(_REVISION, {"item": item_pk, "annotator": annotator_id, "revision": revision})

    def add_judgement(self, **values: Any) -> None:
        """Append a revision."""
        self._connection.execute(_INSERT, values)

    def history(self, annotator_id: int, *, limit: int, before: float | None = None) -> list[GivenJudgement]:
        """The annotator's current judgements, newest first; with `before`, only those made before that time."""
        others = {"item_id": item.c.item_id, "prompt": item.c.prompt}
        query = (
            sa.select(*columns_of(GivenJudgement._fields, judgement, others))
            .join(assignment, _is_newest)
            .join(item, item.c.id == judgement.c.item)
            .where(judgement.c.annotator == annotator_id, assignment.c.state != "leased")
            .order_by(judgement.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(judgement.c.created_at < before)
        return [GivenJudgement(*row) for row in self._connection.execute(query)]

    def recent_seconds(self, annotator_id: int, limit: int) -> list[float]:
        """How long the annotator's newest judgements took."""
        rows = self._connection.execute(_RECENT, {"annotator": annotator_id, "limit": limit})
        return [row[0] for row in rows]

    def current_judgements(self, *, removed: bool = False) -> Iterable[CurrentJudgement]:
        """Everybody's newest judgement of each item, ordered by item and annotator, without withdrawn ones.

        Judgements of removed annotators are left out, unless `removed`.
        """
        people = {"annotator": annotator.c.name, "simulated": annotator.c.simulated}
        query = (
            sa.select(*columns_of(CurrentJudgement._fields, judgement, people))
            .join(annotator, annotator.c.id == judgement.c.annotator)
            .join(assignment, _is_newest)
            .where(judgement.c.choice != "withdrawn")
            .order_by(judgement.c.item, annotator.c.name)
        )
        if not removed:
            query = query.where(annotator.c.state != "removed")
        return [CurrentJudgement(*row) for row in self._connection.execute(query)]

    def all_judgements(self) -> Iterable[Mapping[str, Any]]:
        """Every revision of every judgement with its annotator and item, oldest first, including withdrawn ones."""
        query = (
            sa.select(
                *[column for column in judgement.c if column.name not in ("item", "annotator")],
                item.c.item_id.label("item"),
                item.c.group_id.label("group"),
                item.c.kind,
                item.c.campaign,
                item.c.round,
                annotator.c.name.label("annotator"),
                annotator.c.simulated,
                annotator.c.state.label("annotator_state"),
                (assignment.c.revision == judgement.c.revision).label("current"),
                assignment.c.surplus,
            )
            .join(item, item.c.id == judgement.c.item)
            .join(annotator, annotator.c.id == judgement.c.annotator)
            .join(
                assignment,
                sa.and_(assignment.c.item == judgement.c.item, assignment.c.annotator == judgement.c.annotator),
            )
            .order_by(judgement.c.id)
        )
        return (dict(row) for row in self._connection.execute(query).mappings())

    # Adjudications

    def add_adjudication(self, **values: Any) -> None:
        """Append a reviewer's ruling on an item."""
        self._connection.execute(sa.insert(adjudication), values)

    def adjudications(self) -> dict[int, Adjudication]:
        """The newest adjudication of each item."""
        query = (
            sa.select(*columns_of(Adjudication._fields, adjudication, {"adjudicator": annotator.c.name}))
            .join(annotator, annotator.c.id == adjudication.c.adjudicator)
            .order_by(adjudication.c.id)
        )
        return {row[0]: Adjudication(*row) for row in self._connection.execute(query)}
