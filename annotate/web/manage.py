"""`/api/v1`, the part for those who lead: items, raw judgements, people; and everybody's own tokens."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from annotate.config import QueueSection
from annotate.intake.load import load_file
from annotate.people.access import IN_OPENAPI, Access, bearer
from annotate.people.accounts import Role, State, add_account, look_up, set_password, set_role, set_state
from annotate.people.tokens import LONGEST_DAYS, Scope, make_token, revoke_token
from annotate.store.database import Store
from annotate.store.statements import Annotator, Token
from annotate.web.api import Number
from workbench.run.errors import WorkbenchError


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAccount(_Body):
    """Somebody who may log in."""

    name: Annotated[str, Field(max_length=64)]
    role: Role = "annotator"
    password: Annotated[str, Field(max_length=1000)]


class Change(_Body):
    """What is to change of an account."""

    state: State | None = None
    role: Role | None = None
    password: Annotated[str, Field(max_length=1000)] | None = None


class NewToken(_Body):
    """A key for a program."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What it is for."""
    scope: Scope = "admin"
    """What it may do of what the account may: judge items (`label`), read (`read`), or all of it (`admin`)."""
    days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] | None = None
    """How long it is valid; without, until it is ended."""


def manage_routes(store: Store, access: Access, queue: QueueSection) -> APIRouter:
    """The routes of reviewers and administrators, and of one's own tokens."""
    router = APIRouter(prefix="/api/v1", dependencies=IN_OPENAPI)
    _items(router, store, access, queue)
    _people(router, store, access)
    _tokens(router, store, access)
    return router


def _items(router: APIRouter, store: Store, access: Access, queue: QueueSection) -> None:
    Reviewer = Annotated[Annotator, Depends(access.role("reviewer"))]
    Admin = Annotated[Annotator, Depends(access.role("admin"))]

    @router.get("/items", tags=["lead"])
    def items(
        who: Reviewer,
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        """Items in the order of loading, with how many people have judged them. `after`: the `key` to go on from."""
        with store.read() as transaction:
            page = transaction.items(after=after, limit=limit)
            answers = {item.id: transaction.responses(item.id) for item in page}
        return [
            {
                "key": item.id,
                "id": item.item_id,
                "group": item.group_id,
                "kind": item.kind,
                "campaign": item.campaign,
                "round": item.round,
                "priority": item.priority,
                "overlap": item.overlap,
                "done": item.done,
                "prompt": json.loads(item.prompt),
                "responses": [response._asdict() for response in answers[item.id]],
            }
            for item in page
        ]

    @router.post("/items", tags=["lead"], openapi_extra=_LINES)
    async def add_items(request: Request, who: Admin) -> dict[str, Any]:
        """Load items: one JSON object a line, in any form that `python -m annotate load` reads. All or nothing."""
        body = await request.body()  # not read before the role is known
        return await run_in_threadpool(_load, store, body, queue)


_LINES = {"requestBody": {"required": True, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


def _load(store: Store, body: bytes, queue: QueueSection) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        path.write_bytes(body)
        try:
            return asdict(load_file(store, path, queue))
        except WorkbenchError as error:
            raise HTTPException(422, str(error).replace(str(path), "items")) from None


def _people(router: APIRouter, store: Store, access: Access) -> None:
    Admin = Annotated[Annotator, Depends(access.role("admin"))]

    @router.get("/people", tags=["people"])
    def people(who: Admin) -> list[dict[str, Any]]:
        """All accounts and simulated annotators, with what they have judged and their tokens."""
        with store.read() as transaction:
            tokens = transaction.tokens()
            return [
                {
                    "name": account.name,
                    "role": account.role,
                    "state": account.state,
                    "simulated": account.simulated,
                    "can_log_in": account.password_hash is not None and not account.removed,
                    "judged": transaction.judged_by(account.id),
                    "tokens": [_shown(token) for token in tokens if token.annotator == account.name],
                }
                for account in transaction.annotators()
            ]

    @router.post("/people", tags=["people"], status_code=201)
    def add(body: NewAccount, who: Admin) -> dict[str, str]:
        """A new account."""
        add_account(store, body.name, body.role, body.password)
        return {"name": body.name, "role": body.role}

    @router.post("/people/{name}", tags=["people"])
    def change(name: str, body: Change, who: Admin) -> dict[str, str]:
        """Pause, remove or bring back somebody; change a role; set a password, which ends their logins and tokens."""
        if body.password is not None:
            set_password(store, name, body.password)
        if body.role is not None:
            set_role(store, name, body.role, by=who)
        if body.state is not None:
            set_state(store, name, body.state, by=who)
        with store.read() as transaction:
            account = look_up(transaction, name)
        if account is None:
            raise HTTPException(404, f"no annotator {name!r}")
        return {"name": account.name, "role": account.role, "state": account.state}


def _tokens(router: APIRouter, store: Store, access: Access) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.get("/tokens", tags=["tokens"])
    def tokens(who: Who) -> list[dict[str, Any]]:
        """Your own tokens, without their secrets."""
        with store.read() as transaction:
            return [_shown(token) for token in transaction.tokens(who.id)]

    @router.post("/tokens", tags=["tokens"], status_code=201)
    def add_token(body: NewToken, who: Who, request: Request) -> dict[str, str]:
        """A new token of yours. It is shown this once. Needs a login: a token makes no tokens."""
        if bearer(request) is not None:
            raise HTTPException(403, "a token makes no tokens: log in, or use `python -m annotate annotator`")
        return {"name": body.name, "token": make_token(store, who.name, body.name, scope=body.scope, days=body.days)}

    @router.delete("/tokens/{token_id}", tags=["tokens"])
    def end_token(token_id: Number, who: Who) -> dict[str, Any]:
        """End one of your tokens; administrators end anybody's."""
        return _shown(revoke_token(store, token_id, by=who)) | {"revoked": True}


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "made_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked": token.revoked_at is not None,
    }
