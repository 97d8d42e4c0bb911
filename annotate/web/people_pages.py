"""The pages on which admins add accounts, change roles and passwords, and pause, remove or bring back people."""

import time
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from annotate.labels.survey import impact_of_removing
from annotate.people.accounts import ROLES, State, add_account, set_password, set_role, set_state
from annotate.people.tokens import revoke_token
from annotate.store.statements import Annotator
from annotate.web.api import Number
from annotate.web.lead_pages import LeadPages
from workbench.run.errors import WorkbenchError


def people_routes(pages: LeadPages) -> APIRouter:
    """The routes of admins, under /lead/people."""
    router = APIRouter(prefix="/lead/people", include_in_schema=False)
    _accounts(router, pages)
    _tokens(router, pages)
    _one_account(router, pages)
    _states(router, pages)
    return router


def _list(pages: LeadPages, request: Request, who: Annotator, problem: str = "") -> Response:
    with pages.store.read() as transaction:
        people = [account for account in transaction.annotators() if not account.simulated]
        judged = {account.name: transaction.judged_by(account.id) for account in people}
        tokens = [token for token in transaction.tokens() if token.valid(time.time())]
    status = 409 if problem else 200
    shown = {"people": people, "judged": judged, "roles": ROLES, "tokens": tokens, "problem": problem}
    return pages.show("people.html.jinja", request, who, status=status, **shown)


def _text(error: WorkbenchError) -> str:
    parts = [f"{error.place} {error.problem}", f"expected: {error.expected}" if error.expected else "", error.remedy]
    return ". ".join(part for part in parts if part)


def _accounts(router: APIRouter, pages: LeadPages) -> None:
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.get("")
    def people(request: Request, who: Admin) -> Response:
        return _list(pages, request, who)

    @router.post("")
    def add(
        request: Request,
        who: Admin,
        name: Annotated[str, Form()],
        password: Annotated[str, Form()],
        role: Annotated[str, Form()] = "annotator",
    ) -> Response:
        try:
            add_account(pages.store, name, role, password)
        except WorkbenchError as error:
            return _list(pages, request, who, _text(error))
        return RedirectResponse("/lead/people", 303)


def _tokens(router: APIRouter, pages: LeadPages) -> None:
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.post("/{name}/tokens/{token_id}")
    def end(request: Request, who: Admin, name: str, token_id: Number) -> Response:
        """End somebody's token."""
        try:
            revoke_token(pages.store, token_id, by=who)
        except WorkbenchError as error:
            return _list(pages, request, who, _text(error))
        return RedirectResponse("/lead/people", 303)


def _one_account(router: APIRouter, pages: LeadPages) -> None:
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.post("/{name}/role")
    def role(request: Request, who: Admin, name: str, role: Annotated[str, Form()]) -> Response:
        try:
            set_role(pages.store, pages.person(name).name, role, by=who)
        except WorkbenchError as error:
            return _list(pages, request, who, _text(error))
        return RedirectResponse("/lead/people", 303)

    @router.post("/{name}/password")
    def password(request: Request, who: Admin, name: str, password: Annotated[str, Form()]) -> Response:
        try:
            set_password(pages.store, pages.person(name).name, password)
        except WorkbenchError as error:
            return _list(pages, request, who, _text(error))
        return RedirectResponse("/lead/people", 303)


def _states(router: APIRouter, pages: LeadPages) -> None:
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.get("/{name}")
    def preview(request: Request, who: Admin, name: str, state: str) -> Response:
        """What a change of state would do; nothing is changed yet."""
        if state not in get_args(State):
            raise HTTPException(422, f"state is one of {', '.join(get_args(State))}")
        person = pages.person(name)
        impact = impact_of_removing(pages.store, name, pages.export) if state == "removed" else None
        return pages.show("person.html.jinja", request, who, person=person, state=state, impact=impact, problem="")

    @router.post("/{name}")
    def change(request: Request, who: Admin, name: str, state: Annotated[str, Form()]) -> Response:
        person = pages.person(name)
        try:
            set_state(pages.store, name, state, by=who)
        except WorkbenchError as error:
            shown = {"person": person, "state": person.state, "impact": None, "problem": _text(error)}
            return pages.show("person.html.jinja", request, who, status=409, **shown)
        pages.surveys.forget()
        return RedirectResponse("/lead/people", 303)
