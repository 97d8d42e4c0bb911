"""Statements that count: totals of the store, an annotator's progress and pace."""

import sqlalchemy as sa

from annotate.store.schema import assignment, item, judgement
from annotate.store.statements.items import DONE
from annotate.store.statements.rows import Annotator
from annotate.store.statements.trail import Statements

_P = sa.bindparam
_mine = assignment.c.annotator == _P("annotator")
_TOTALS = {
    simulated: sa.select(sa.func.count(), sa.func.sum(item.c.overlap), sa.func.sum(done)).where(
        item.c.kind == "ordinary"
    )
    for simulated, done in DONE.items()
}
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
_JUDGED = sa.select(sa.func.count()).select_from(assignment).where(_mine, assignment.c.state == "done")
_RECENT = (
    sa.select(judgement.c.seconds)
    .where(judgement.c.annotator == _P("annotator"), judgement.c.seconds.is_not(None))
    .order_by(judgement.c.id.desc())
    .limit(_P("limit"))
)


class Counts(Statements):
    """Numbers over several tables."""

    def totals(self, *, simulated: bool) -> tuple[int, int, int]:
        """Ordinary items, judgements wanted, judgements given (surplus ones not counted)."""
        count, wanted, given = self._connection.execute(_TOTALS[simulated]).one()
        return count, int(wanted or 0), int(given or 0)

    def open_items(self, who: Annotator) -> tuple[int, int]:
        """Items that still need judgements; those of them that this annotator has judged or skipped."""
        unfinished = self._count(_UNFINISHED[who.simulated], {})
        return unfinished, self._count(_HAD[who.simulated], {"annotator": who.id})

    def judged_by(self, annotator_id: int) -> int:
        """How many items the annotator has judged (skipped ones not counted)."""
        return self._count(_JUDGED, {"annotator": annotator_id})

    def recent_seconds(self, annotator_id: int, limit: int) -> list[float]:
        """How long the annotator's newest judgements took."""
        rows = self._connection.execute(_RECENT, {"annotator": annotator_id, "limit": limit})
        return [row[0] for row in rows]
