"""Statements about an annotator's own judgements: history, stars, and what reviewers said."""

import itertools
import json
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import adjudication, annotator, assignment, item, judgement, reply, response
from annotate.store.statements.rows import Adjudication, GivenJudgement, Reply
from annotate.store.statements.trail import Statements, columns_of

_own = [name for name in GivenJudgement._fields if name not in ("ruling", "replies")]
_OTHERS = {"item_id": item.c.item_id, "prompt": item.c.prompt, "starred": assignment.c.starred}
_reviewer = annotator.alias("reviewer")
_RULING = [adjudication.c[name] for name in Adjudication._fields if name != "adjudicator"]
_RULING.insert(Adjudication._fields.index("adjudicator"), _reviewer.c.name)
_later = adjudication.alias("later")
_newest_ruling = sa.select(sa.func.max(_later.c.id)).where(_later.c.item == judgement.c.item).scalar_subquery()
_has_reply = sa.exists().where(reply.c.item == judgement.c.item, reply.c.annotator == judgement.c.annotator)
CONDITIONS: dict[str, sa.ColumnElement[bool]] = {
    "flagged": judgement.c.flag.is_not(None),
    "commented": sa.func.coalesce(judgement.c.comment, "") != "",
    "skipped": judgement.c.choice == "skipped",
    "starred": assignment.c.starred,
    "replied": _has_reply,
    "ruled": sa.and_(adjudication.c.id.is_not(None), adjudication.c.choice != "withdrawn"),
}
"""Filters of a history by name."""


class Past(Statements):
    """What an annotator has done, and the table `reply`."""

    def history(
        self, annotator_id: int, *, limit: int | None, before: float | None = None, only: str = "", search: str = ""
    ) -> Iterable[GivenJudgement]:
        """The annotator's current judgements with the rulings on them, newest first.

        Args:
            before: only judgements made before that time.
            only: one of `CONDITIONS`; "" is all.
            search: only items with this text in the prompt, an answer or the comment, in any case (on SQLite: of the
                letters a to z).
        """
        query = (
            sa.select(*columns_of(_own, judgement, _OTHERS), *_RULING, _beside_the_prompt(search, judgement.c.comment))
            .select_from(judgement)
            .join(
                assignment,
                sa.and_(
                    assignment.c.item == judgement.c.item,
                    assignment.c.annotator == judgement.c.annotator,
                    assignment.c.revision == judgement.c.revision,
                ),
            )
            .join(item, item.c.id == judgement.c.item)
            .outerjoin(adjudication, adjudication.c.id == _newest_ruling)
            .outerjoin(_reviewer, _reviewer.c.id == adjudication.c.adjudicator)
            .where(judgement.c.annotator == annotator_id, assignment.c.state != "leased")
            .order_by(judgement.c.id.desc())
        )
        if not search:
            query = query.limit(limit)
        if before is not None:
            query = query.where(judgement.c.created_at < before)
        if only:
            query = query.where(CONDITIONS[only])
        if search:
            query = query.where(_may_hold(search, judgement.c.comment))
        rows = (row for row in self._connection.execute(query) if row[-1] or _in_prompt(row.prompt, search))
        return (_line(row[:-1]) for row in itertools.islice(rows, limit))

    def put_aside(self, annotator_id: int, *, search: str = "") -> list[GivenJudgement]:
        """Starred items that the annotator has not answered: `choice` is "open"."""
        columns = {"item": item.c.id, "choice": sa.literal("open"), "swapped": assignment.c.swapped}
        columns |= {"created_at": assignment.c.leased_at, "display_order": assignment.c.display_order, **_OTHERS}
        query = (
            sa.select(*[columns.get(name, sa.null()) for name in _own], _beside_the_prompt(search))
            .join(assignment, assignment.c.item == item.c.id)
            .where(assignment.c.annotator == annotator_id, assignment.c.state == "leased", assignment.c.starred)
            .order_by(assignment.c.id.desc())
        )
        if search:
            query = query.where(_may_hold(search))
        rows = self._connection.execute(query)
        return [GivenJudgement(*row[:-1]) for row in rows if row[-1] or _in_prompt(row.prompt, search)]

    def star(self, item_pk: int, annotator_id: int, starred: bool) -> bool:
        """Star an item for an annotator, or end that; false if they were never given it."""
        mine = (assignment.c.item == item_pk) & (assignment.c.annotator == annotator_id)
        return self._connection.execute(sa.update(assignment).where(mine).values(starred=starred)).rowcount > 0

    def add_reply(self, **values: Any) -> None:
        """Append a reviewer's message."""
        self._connection.execute(sa.insert(reply), values)

    def replies(self, *, to: int | None = None, items: Collection[int] | None = None) -> list[Reply]:
        """Messages, oldest first; `to`: to this annotator; `items`: about these."""
        author = annotator.alias("author")
        names = {"annotator": annotator.c.name, "author": author.c.name}
        query = (
            sa.select(*columns_of(Reply._fields, reply, names))
            .join(annotator, annotator.c.id == reply.c.annotator)
            .join(author, author.c.id == reply.c.author)
            .order_by(reply.c.id)
        )
        if to is not None:
            query = query.where(reply.c.annotator == to)
        if items is not None:
            query = query.where(reply.c.item.in_(items))
        return [Reply(*row) for row in self._connection.execute(query)]


def _line(row: Any) -> GivenJudgement:
    ruling = Adjudication(*row[len(_own) :])
    known = ruling.choice is not None and ruling.choice != "withdrawn"
    return GivenJudgement(*row[: len(_own)])._replace(ruling=ruling if known else None)


def _beside_the_prompt(text: str, comment: Any = None) -> sa.ColumnElement[bool]:
    """Whether an answer or the comment has the text; true for an empty one."""
    if not text:
        return sa.true()
    answers = sa.exists().where(response.c.item == item.c.id, response.c.text.icontains(text, autoescape=True))
    return answers if comment is None else answers | sa.func.coalesce(comment, "").icontains(text, autoescape=True)


def _may_hold(text: str, comment: Any = None) -> sa.ColumnElement[bool]:
    # Prompts are JSON: quotes and line feeds are escaped, and names of fields are text too (`_in_prompt` knows better).
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return item.c.prompt.icontains(escaped, autoescape=True) | _beside_the_prompt(text, comment)


def _in_prompt(prompt: str, text: str) -> bool:
    return any(text.lower() in message["content"].lower() for message in json.loads(prompt))
