"""Statements about training items, and about gold items and repeats, which are planted among the ordinary ones."""

import sqlalchemy as sa

from annotate.store.schema import assignment, item, judgement, response
from annotate.store.statements.items import item_columns
from annotate.store.statements.rows import Annotator, StoredItem
from annotate.store.statements.trail import Statements

_P = sa.bindparam
_CANDIDATES = 1000
"""Number of the oldest judged items that repeats are drawn from."""

# Databases use the partial index `item_planted` only for its own condition, not for a parameter that implies it.
_planted = item.c.kind != sa.literal_column("'ordinary'")
_own = assignment.alias("own")
_had = sa.exists().where(_own.c.item == item.c.id, _own.c.annotator == _P("annotator"))
_GOLD = (
    sa.select(item.c.id)
    .where(_planted, item.c.kind == "gold", ~_had)
    .order_by(item.c.repeat_of, item.c.id)
    .limit(_CANDIDATES)
)
_LAPSED = (
    sa.select(item.c.id)
    .join(assignment, assignment.c.item == item.c.id)
    .where(
        _planted,
        assignment.c.annotator == _P("annotator"),
        assignment.c.state == "leased",
        assignment.c.expires_at <= _P("now"),
    )
    .limit(1)
)
_NEWEST_GIVEN = (
    sa.select(assignment.c.id).where(assignment.c.annotator == _P("annotator")).order_by(assignment.c.id.desc())
)
_repeated = item.alias("repeated")
_TRAINING = (
    sa.select(item.c.id)
    .where(
        _planted,
        item.c.kind == "training",
        ~sa.exists().where(
            _own.c.item == item.c.id,
            _own.c.annotator == _P("annotator"),
            sa.or_(_own.c.state != "leased", _own.c.expires_at > _P("now")),
        ),
    )
    .order_by(item.c.repeat_of, item.c.id)
    .limit(1)
)
_PLACE_IN_TRAINING = sa.select(sa.func.sum(sa.case((item.c.id <= _P("item"), 1), else_=0)), sa.func.count()).where(
    _planted, item.c.kind == "training"
)


class Planted(Statements):
    """Items of the kinds training, gold and repeat."""

    def training_item(self, who: Annotator, now: float) -> int | None:
        """The first training item that this annotator has neither answered nor open."""
        row = self._one(_TRAINING, {"annotator": who.id, "now": now})
        return row[0] if row else None

    def place_in_training(self, item_pk: int) -> tuple[int, int]:
        """The place of a training item, from 1, and the number of all training items."""
        place, count = self._one(_PLACE_IN_TRAINING, {"item": item_pk})
        return int(place), int(count)

    def planted_lapsed(self, who: Annotator, now: float) -> int | None:
        """A planted item whose lease to this annotator has expired."""
        row = self._one(_LAPSED, {"annotator": who.id, "now": now})
        return row[0] if row else None

    def gold_items(self, who: Annotator) -> list[int]:
        """Gold items that this annotator has not had."""
        return [row[0] for row in self._connection.execute(_GOLD, {"annotator": who.id})]

    def repeatable(self, who: Annotator, after: int) -> list[int]:
        """Items that this annotator judged at least `after` items ago and has not judged again."""
        threshold = self._one(_NEWEST_GIVEN.offset(after - 1).limit(1), {"annotator": who.id})
        if threshold is None:
            return []
        again = sa.exists().where(_repeated.c.repeat_of == item.c.id, _repeated.c.only_for == who.id)
        query = (
            sa.select(item.c.id)
            .join(assignment, assignment.c.item == item.c.id)
            .join(
                judgement,
                sa.and_(
                    judgement.c.item == assignment.c.item,
                    judgement.c.annotator == assignment.c.annotator,
                    judgement.c.revision == assignment.c.revision,
                ),
            )
            .where(
                assignment.c.annotator == who.id,
                assignment.c.state == "done",
                assignment.c.id < threshold[0],
                item.c.kind == "ordinary",
                judgement.c.choice.in_(("compared", "ranked")),
                ~again,
            )
            .order_by(assignment.c.id)
            .limit(_CANDIDATES)
        )
        return [row[0] for row in self._connection.execute(query)]

    def copy_as_repeat(self, item_pk: int, who: Annotator, now: float) -> StoredItem:
        """A new item with the same prompt and answers, for this annotator alone."""
        names = ("group_id", "prompt", "priority", "round", "fingerprint", "campaign")
        source = self._mapping(sa.select(*[item.c[name] for name in names]).where(item.c.id == item_pk), {})
        assert source is not None
        row = {
            **source,
            "item_id": f"~repeat-{item_pk}-{who.id}",
            "kind": "repeat",
            "repeat_of": item_pk,
            "only_for": who.id,
            "overlap": 0,
            "created_at": now,
        }
        self._connection.execute(sa.insert(item), row)
        query = sa.select(*item_columns(who.simulated)).where(item.c.item_id == row["item_id"])
        made = StoredItem(*self._connection.execute(query).one())
        self._copy_responses(item_pk, made.id)
        return made

    def _copy_responses(self, source: int, target: int) -> None:
        names = [column.name for column in response.c if column.name not in ("id", "item")]
        copied = sa.select(sa.literal(target), *[response.c[name] for name in names]).where(response.c.item == source)
        self._connection.execute(sa.insert(response).from_select(["item", *names], copied))
