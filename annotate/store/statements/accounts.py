"""Statements about annotators and their API tokens."""

from typing import Any

import sqlalchemy as sa

from annotate.store.schema import annotator, api_token, assignment, item
from annotate.store.statements.rows import Annotator, Token
from annotate.store.statements.trail import Statements, columns_of

_ANNOTATOR = [annotator.c[name] for name in Annotator._fields]
_BY_NAME = sa.select(*_ANNOTATOR).where(annotator.c.name == sa.bindparam("name"))
_NEVER = 1e18
"""A time in the far future, in seconds since 1970."""
_BY_TOKEN = (
    sa.select(*_ANNOTATOR, api_token.c.scope)
    .join(api_token, api_token.c.annotator == annotator.c.id)
    .where(
        api_token.c.token_hash == sa.bindparam("hash"),
        api_token.c.revoked_at.is_(None),
        sa.func.coalesce(api_token.c.expires_at, _NEVER) > sa.bindparam("now"),
    )
)
_LOCK = sa.select(annotator.c.id).where(annotator.c.id == sa.bindparam("target")).with_for_update(key_share=True)


class Accounts(Statements):
    """The tables `annotator` and `api_token`."""

    def annotators(self) -> list[Annotator]:
        """All annotators, by name."""
        rows = self._connection.execute(sa.select(*_ANNOTATOR).order_by(annotator.c.name))
        return [Annotator(*row) for row in rows]

    def annotator(self, name: str) -> Annotator | None:
        """The annotator of this name, if any."""
        row = self._one(_BY_NAME, {"name": name})
        return Annotator(*row) if row else None

    def lock_annotator(self, annotator_id: int) -> None:
        """Make other requests of this annotator wait until the transaction ends."""
        if self._locks_rows:
            self._later(_LOCK, {"target": annotator_id})

    def begin_adding(self) -> None:
        """Make other processes wait with adding accounts until this transaction ends."""
        if self._locks_rows:
            self._connection.execute(sa.text("SELECT pg_advisory_xact_lock(7140002)"))

    def add_annotator(
        self, name: str, role: str, at: float, *, password_hash: str | None = None, simulated: bool = False
    ) -> None:
        """Add an account; names are unique."""
        self._connection.execute(
            sa.insert(annotator),
            {
                "name": name,
                "role": role,
                "password_hash": password_hash,
                "simulated": simulated,
                "state": "active",
                "created_at": at,
            },
        )

    def change_annotator(self, annotator_id: int, **values: Any) -> None:
        """Set columns of an account."""
        self._connection.execute(sa.update(annotator).where(annotator.c.id == annotator_id).values(**values))

    def end_leases_of(self, annotator_id: int) -> None:
        """End all leases of this annotator."""
        leased = (assignment.c.annotator == annotator_id, assignment.c.state == "leased")
        self._connection.execute(sa.update(assignment).where(*leased).values(expires_at=0))

    def recount(self, who: Annotator, change: int) -> None:
        """Subtract an annotator's counted judgements from the items' counts (-1), or add them again (+1)."""
        done = item.c.done_simulated if who.simulated else item.c.done_people
        counted = sa.select(assignment.c.item).where(
            assignment.c.annotator == who.id, assignment.c.state == "done", ~assignment.c.surplus
        )
        self._connection.execute(sa.update(item).where(item.c.id.in_(counted)).values({done.name: done + change}))

    # Tokens

    def add_token(
        self, annotator_id: int, name: str, token_hash: str, at: float, *, scope: str, expires_at: float | None
    ) -> None:
        """Add a token of an account; `expires_at` None: it is valid until it is revoked."""
        values = {"annotator": annotator_id, "name": name, "token_hash": token_hash, "created_at": at}
        self._connection.execute(sa.insert(api_token), {**values, "scope": scope, "expires_at": expires_at})

    def annotator_by_token(self, token_hash: str, now: float) -> tuple[Annotator, str] | None:
        """The token's account and scope; None if the token is unknown, revoked or expired."""
        row = self._one(_BY_TOKEN, {"hash": token_hash, "now": now})
        return (Annotator(*row[:-1]), row[-1]) if row else None

    def tokens(self, annotator_id: int | None = None) -> list[Token]:
        """Tokens, oldest first: of one account, or all."""
        query = sa.select(*columns_of(Token._fields, api_token, {"annotator": annotator.c.name})).join(
            annotator, annotator.c.id == api_token.c.annotator
        )
        if annotator_id is not None:
            query = query.where(api_token.c.annotator == annotator_id)
        return [Token(*row) for row in self._connection.execute(query.order_by(api_token.c.id))]

    def end_tokens_of(self, annotator_id: int, at: float) -> None:
        """Revoke all tokens of an account."""
        where = (api_token.c.annotator == annotator_id, api_token.c.revoked_at.is_(None))
        self._connection.execute(sa.update(api_token).where(*where).values(revoked_at=at))

    def revoke_token(self, token_id: int, at: float) -> None:
        """Revoke a token."""
        where = (api_token.c.id == token_id, api_token.c.revoked_at.is_(None))
        self._connection.execute(sa.update(api_token).where(*where).values(revoked_at=at))
