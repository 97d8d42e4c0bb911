"""Statements about judgements that were made elsewhere."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import assignment, item, judgement, response
from annotate.store.statements.items import DONE
from annotate.store.statements.rows import Target
from annotate.store.statements.trail import CHUNK, Statements


class Imported(Statements):
    """Many judgements at once."""

    def label_targets(self, item_ids: Sequence[str], *, simulated: bool) -> dict[str, Target]:
        """Those of these items that the store holds, by item id: ordinary ones, outside campaigns."""
        found: dict[str, Target] = {}
        names = list(dict.fromkeys(item_ids))
        answers = sa.select(sa.func.count()).where(response.c.item == item.c.id).scalar_subquery()
        for start in range(0, len(names), CHUNK):
            query = sa.select(item.c.item_id, item.c.id, item.c.overlap, DONE[simulated], answers).where(
                item.c.item_id.in_(names[start : start + CHUNK]), item.c.kind == "ordinary", item.c.campaign.is_(None)
            )
            found.update((row[0], Target(*row[1:])) for row in self._connection.execute(query))
        return found

    def assigned(self, items: Sequence[int]) -> set[tuple[int, int]]:
        """Who has had these items: (item, annotator)."""
        found: set[tuple[int, int]] = set()
        for start in range(0, len(items), CHUNK):
            query = sa.select(assignment.c.item, assignment.c.annotator).where(
                assignment.c.item.in_(items[start : start + CHUNK])
            )
            found.update((row[0], row[1]) for row in self._connection.execute(query))
        return found

    def add_imported(self, assignments: list[dict[str, Any]], judgements: list[dict[str, Any]]) -> None:
        """Insert judgements with their assignments."""
        if judgements:
            # With RETURNING, many rows go in one statement; without it, some drivers send them one by one.
            self._connection.execute(sa.insert(assignment).returning(assignment.c.id), assignments)
            self._connection.execute(sa.insert(judgement).returning(judgement.c.id), judgements)
