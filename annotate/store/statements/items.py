"""Statements about items and their answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import item, response
from annotate.store.statements.rows import StoredItem, StoredResponse
from annotate.store.statements.trail import CHUNK, Statements, columns_of

DONE: dict[bool, sa.Column[int]] = {False: item.c.done_people, True: item.c.done_simulated}
"""The count of judgements by people (False) or by simulated annotators (True)."""


def item_columns(simulated: bool) -> list[Any]:
    """The columns of a `StoredItem`."""
    return columns_of(StoredItem._fields, item, {"done": DONE[simulated].label("done")})


_ITEM = {simulated: sa.select(*item_columns(simulated)).where(item.c.id == sa.bindparam("item")) for simulated in DONE}
_LOCK = sa.select(item.c.id).where(item.c.id == sa.bindparam("item")).with_for_update(key_share=True)
_RESPONSE = [response.c[name] for name in StoredResponse._fields]
_RESPONSES = sa.select(*_RESPONSE).where(response.c.item == sa.bindparam("item")).order_by(response.c.position)
_COUNT_RESPONSES = sa.select(sa.func.count()).select_from(response).where(response.c.item == sa.bindparam("item"))
_ADD_DONE = {
    simulated: sa.update(item)
    .where(item.c.id == sa.bindparam("target"))
    .values({done.name: done + sa.bindparam("change")})
    for simulated, done in DONE.items()
}


_TOTALS = {
    simulated: sa.select(sa.func.count(), sa.func.sum(item.c.overlap), sa.func.sum(done)).where(
        item.c.kind == "ordinary"
    )
    for simulated, done in DONE.items()
}


class Items(Statements):
    """The tables `item` and `response`."""

    def fingerprints(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Fingerprints of those of these items that the store holds, by item id."""
        found: dict[str, str] = {}
        for start in range(0, len(item_ids), CHUNK):
            chunk = item_ids[start : start + CHUNK]
            query = sa.select(item.c.item_id, item.c.fingerprint).where(item.c.item_id.in_(chunk))
            found.update((row[0], row[1]) for row in self._connection.execute(query))
        return found

    def known_contents(self, marks: Sequence[str]) -> dict[tuple[str, str | None], str]:
        """Ids of the stored items with these fingerprints, by (fingerprint, campaign)."""
        found: dict[tuple[str, str | None], str] = {}
        for start in range(0, len(marks), CHUNK):
            query = sa.select(item.c.fingerprint, item.c.campaign, item.c.item_id).where(
                item.c.fingerprint.in_(marks[start : start + CHUNK]), item.c.kind != "repeat"
            )
            found.update(((row[0], row[1]), row[2]) for row in self._connection.execute(query))
        return found

    def add_items(self, rows: list[dict[str, Any]], responses: list[list[dict[str, Any]]]) -> dict[str, int]:
        """Insert items, each with its answers; returns their keys by item id."""
        if not rows:
            return {}
        # With RETURNING, many rows go in one statement; without it, some drivers send them one by one.
        made = self._connection.execute(sa.insert(item).returning(item.c.item_id, item.c.id), rows)
        keys = {row.item_id: row.id for row in made}
        answers = [
            {**answer, "item": keys[row["item_id"]]} for row, own in zip(rows, responses, strict=True) for answer in own
        ]
        self._connection.execute(sa.insert(response).returning(response.c.id), answers)
        return keys

    def set_priorities(self, priorities: Mapping[str, float]) -> None:
        """Change the order in which items are handed out, by item id."""
        rows = [{"name": name, "value": value} for name, value in priorities.items()]
        if rows:
            change = sa.update(item).where(item.c.item_id == sa.bindparam("name"))
            self._connection.execute(change.values(priority=sa.bindparam("value")), rows)

    def ask_again(self, item_ids: Sequence[str]) -> None:
        """Open ordinary items, by item id, for one more judgement than people have given."""
        enough = (item.c.kind == "ordinary") & (item.c.overlap <= item.c.done_people)
        for start in range(0, len(item_ids), CHUNK):
            chosen = item.c.item_id.in_(item_ids[start : start + CHUNK])
            self._connection.execute(sa.update(item).where(chosen & enough).values(overlap=item.c.done_people + 1))

    def item(self, item_pk: int, *, simulated: bool) -> StoredItem | None:
        """An item, with the count of judgements by people, or by simulated annotators."""
        row = self._one(_ITEM[simulated], {"item": item_pk})
        return StoredItem(*row) if row else None

    def lock_item(self, item_pk: int) -> None:
        """Prevent others from changing an item's counts until the transaction ends."""
        if self._locks_rows:
            self._later(_LOCK, {"item": item_pk})

    def items(self, *, kind: str | None = None, after: int = 0, limit: int | None = None) -> list[StoredItem]:
        """Items in the order of loading (`done`: by people): all, or of one kind, or a page of them."""
        query = sa.select(*item_columns(simulated=False)).where(item.c.id > after).order_by(item.c.id).limit(limit)
        if kind is not None:
            query = query.where(item.c.kind == kind)
        return [StoredItem(*row) for row in self._connection.execute(query)]

    def responses(self, item_pk: int) -> list[StoredResponse]:
        """An item's answers in the item's order."""
        return [StoredResponse(*row) for row in self._connection.execute(_RESPONSES, {"item": item_pk})]

    def count_responses(self, item_pk: int) -> int:
        """How many answers an item has."""
        return self._count(_COUNT_RESPONSES, {"item": item_pk})

    def all_responses(self) -> dict[int, list[StoredResponse]]:
        """Every item's answers in the item's order, by item."""
        query = sa.select(response.c.item, *_RESPONSE).order_by(response.c.item, response.c.position)
        found: dict[int, list[StoredResponse]] = {}
        for item_pk, *values in self._connection.execute(query):
            found.setdefault(item_pk, []).append(StoredResponse(*values))
        return found

    def add_done(self, item_pk: int, change: int, *, simulated: bool) -> None:
        """Add to the number of judgements that count towards the item's overlap."""
        self._later(_ADD_DONE[simulated], {"target": item_pk, "change": change})

    def labelled_of_round(self, number: int) -> int:
        """Ordinary items of a round that people have judged."""
        return self._of_round(number, item.c.done_people > 0)

    def items_of_round(self, number: int) -> int:
        """Ordinary items of a round."""
        return self._of_round(number, sa.true())

    def _of_round(self, number: int, wanted: sa.ColumnElement[bool]) -> int:
        wanted = (item.c.kind == "ordinary") & (item.c.round == number) & wanted
        return self._connection.execute(sa.select(sa.func.count()).where(wanted)).scalar_one()

    def totals(self, *, simulated: bool) -> tuple[int, int, int]:
        """Ordinary items, judgements wanted, judgements given (surplus ones not counted)."""
        count, wanted, given = self._connection.execute(_TOTALS[simulated]).one()
        return count, int(wanted or 0), int(given or 0)
