"""Statements about judgements and adjudications: appended, never changed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import adjudication, annotator, assignment, item, judgement
from annotate.store.statements.rows import Adjudication, CurrentJudgement
from annotate.store.statements.trail import CHUNK, Statements, columns_of

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
_INSERT = sa.insert(judgement).inline()


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
        self._later(_INSERT, values)

    def current_judgements(self, *, removed: bool = False, of: int | None = None) -> Iterable[CurrentJudgement]:
        """Everybody's newest judgement of each item, ordered by item and annotator, without withdrawn ones.

        Judgements of removed annotators are left out, unless `removed`; `of`: only those of this item.
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
        if of is not None:
            query = query.where(judgement.c.item == of)
        return [CurrentJudgement(*row) for row in self._connection.execute(query)]

    def judgements_of(self, item_ids: Sequence[str], *, simulated: bool) -> list[tuple[str, CurrentJudgement]]:
        """The current judgements of these items, by people or by simulated annotators, oldest first, with their ids.

        Skipped and withdrawn ones, and those of removed annotators, are left out.
        """
        people = {"annotator": annotator.c.name, "simulated": annotator.c.simulated}
        query = (
            sa.select(item.c.item_id, *columns_of(CurrentJudgement._fields, judgement, people))
            .join(item, item.c.id == judgement.c.item)
            .join(annotator, annotator.c.id == judgement.c.annotator)
            .join(assignment, _is_newest)
            .where(
                judgement.c.choice.not_in(("skipped", "withdrawn")),
                annotator.c.state != "removed",
                annotator.c.simulated == simulated,
            )
        )
        found = []
        for start in range(0, len(item_ids), CHUNK):
            part = query.where(item.c.item_id.in_(item_ids[start : start + CHUNK]))
            found += [(row[0], CurrentJudgement(*row[1:])) for row in self._connection.execute(part)]
        return sorted(found, key=lambda pair: (pair[1].created_at, pair[0]))

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

    def adjudications(self, *, of: int | None = None) -> dict[int, Adjudication]:
        """The newest adjudication of each item, or `of` one item."""
        query = (
            sa.select(*columns_of(Adjudication._fields, adjudication, {"adjudicator": annotator.c.name}))
            .join(annotator, annotator.c.id == adjudication.c.adjudicator)
            .order_by(adjudication.c.id)
        )
        if of is not None:
            query = query.where(adjudication.c.item == of)
        return {row[0]: Adjudication(*row) for row in self._connection.execute(query)}
