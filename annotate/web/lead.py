"""The lead's pages: progress, agreement, annotators, disagreements, export. HTML from the server, no script needed.

For the roles reviewer and admin; pausing and removing people needs admin. Requests from other sites end at the gate
(`annotate.web.security`). What is shown is at most `FRESH_SECONDS` old, except after a change made here.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from annotate.campaign.report import Report, campaign_report
from annotate.campaign.start import campaign_names
from annotate.labels.export import Rules, preferences
from annotate.labels.impact import impact_of_removing
from annotate.labels.review import adjudicate
from annotate.labels.status import AGREEMENT, number
from annotate.labels.survey import Survey, survey
from annotate.people.access import Access
from annotate.people.accounts import Role, may, set_state
from annotate.statistics.ratings import Rating
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web import plots
from workbench.run.errors import WorkbenchError

FRESH_SECONDS = 20.0
PAGE_LENGTH = 20
"""Items on one page of the review."""
_STRENGTHS = {str(strength) for strength in range(-3, 4)}
_QUERY = re.compile(r"[a-z0-9=&]{1,40}")
_TEMPLATES = Path(__file__).with_name("templates")


def lead_routes(store: Store, access: Access, *, title: str) -> APIRouter:
    """The lead's routes, under /lead."""
    router = APIRouter(prefix="/lead", include_in_schema=False)
    pages = _Pages(store, access, title)
    _reading(router, pages)
    _changing(router, pages)
    _downloads(router, pages)
    return router


class _Surveys:
    """Surveys, kept for a moment: one takes seconds on a large store."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._kept: dict[bool, Survey] = {}
        self._taken: dict[bool, float] = {}

    def get(self, simulated: bool) -> tuple[Survey, float]:
        """The survey, and when it was taken."""
        with self._lock:
            now = time.time()
            if now - self._taken.get(simulated, 0.0) > FRESH_SECONDS:
                self._kept[simulated] = survey(self._store, simulated=simulated, now=now)
                self._taken[simulated] = now
            return self._kept[simulated], self._taken[simulated]

    def forget(self) -> None:
        """Something has changed."""
        with self._lock:
            self._taken.clear()


class _Pages:
    """Who may see what, and the templates."""

    def __init__(self, store: Store, access: Access, title: str) -> None:
        self.store, self.access, self.title, self.surveys = store, access, title, _Surveys(store)
        loader = FileSystemLoader(_TEMPLATES)
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {
            "number": number,
            "moment": lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M UTC"),
            "days": _days,
            "messages": json.loads,
            "path": lambda text: quote(text, safe=""),
        }
        self._environment.globals |= {
            "plots": _Safe(),
            "labels": AGREEMENT,
            "bucket_name": plots.bucket_name,
            "ranked": _ranked,
        }

    def role(self, role: Role) -> Callable[[Request], Annotator]:
        """A dependency of routes: the account, with a role; without a login the browser goes to the login page."""

        def with_role(request: Request) -> Annotator:
            account = self.access.account(request)
            if account is None:
                raise HTTPException(401, "log in first", headers={"Refresh": "0; url=/login"})
            if not may(account, role):
                raise HTTPException(403, f"this page is for the role {role}")
            return account

        return with_role

    def kind(self, request: Request) -> bool:
        """Whether simulated annotators are asked for, or there are no others."""
        asked = request.query_params.get("who")
        if asked in ("people", "simulated"):
            return asked == "simulated"
        with self.store.read() as transaction:
            return all(account.simulated or account.name == "local" for account in transaction.annotators()) and any(
                account.simulated for account in transaction.annotators()
            )

    def show(self, name: str, request: Request, who: Annotator, *, status: int = 200, **values: Any) -> Response:
        """A page."""
        page = self._environment.get_template(name).render(
            title=self.title,
            who=who,
            admin=may(who, "admin"),
            can_log_out=self.access.local is None,
            path=request.url.path,
            **values,
        )
        return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})


class _Safe:
    """The plots, as markup that templates do not escape."""

    def __getattr__(self, name: str) -> Callable[..., Markup]:
        return lambda *arguments, **named: Markup(getattr(plots, name)(*arguments, **named))


def _ranked(report: Report) -> list[tuple[str, Rating]]:
    """Runs with their ratings, best first."""
    return sorted(zip(report.runs, report.ratings, strict=True), key=lambda pair: -pair[1].value)


def _days(days: float | None) -> str:
    if days is None:
        return "unknown: no labels in the last seven days"
    if days < 1 / 24:
        return "less than an hour"
    if days < 1:
        return f"about {days * 24:.0f} hours"
    return f"about {days:.0f} day{'' if round(days) == 1 else 's'}"


def _reading(router: APIRouter, pages: _Pages) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.get("")
    def overview(request: Request, who: Reviewer) -> Response:
        simulated = pages.kind(request)
        found, taken = pages.surveys.get(simulated)
        campaigns = [campaign_report(pages.store, name, simulated=simulated) for name in campaign_names(pages.store)]
        return pages.show("lead.html.jinja", request, who, survey=found, taken=taken, campaigns=campaigns)

    @router.get("/review")
    def review(request: Request, who: Reviewer, page: int = 1, show: str = "open") -> Response:
        found, _ = pages.surveys.get(pages.kind(request))
        decided = show == "decided"
        listed = [contested for contested in found.contested if (contested.word is not None) == decided]
        last = max(1, -(-len(listed) // PAGE_LENGTH))
        page = min(max(page, 1), last)
        part = listed[(page - 1) * PAGE_LENGTH : page * PAGE_LENGTH]
        counts = {"open": sum(c.word is None for c in found.contested), "decided": found.adjudicated}
        return pages.show(
            "review.html.jinja", request, who, survey=found, part=part, page=page, last=last, show=show, counts=counts
        )

    @router.get("/people/{name}")
    def preview(request: Request, who: Admin, name: str, state: str) -> Response:
        if state not in ("active", "paused", "removed"):
            raise HTTPException(422, "state is active, paused or removed")
        person = _person(pages.store, name)
        impact = impact_of_removing(pages.store, name, Rules()) if state == "removed" else None
        return pages.show("person.html.jinja", request, who, person=person, state=state, impact=impact)


def _person(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        person = transaction.annotator(name)
    if person is None:
        raise HTTPException(404, f"no annotator {name!r}")
    return person


def _changing(router: APIRouter, pages: _Pages) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]
    Admin = Annotated[Annotator, Depends(pages.role("admin"))]

    @router.post("/review/{item}")
    def decide(
        who: Reviewer,
        item: int,
        verdict: Annotated[str, Form()],
        comment: Annotated[str, Form()] = "",
        rank: Annotated[list[int] | None, Form()] = None,
        back: Annotated[str, Form()] = "",
    ) -> Response:
        """`verdict`: a strength from -3 to 3, or one of `annotate.labels.review.VERDICTS`."""
        compared = verdict in _STRENGTHS
        adjudicate(
            pages.store,
            who,
            item,
            "compared" if compared else verdict,
            strength=int(verdict) if compared else None,
            ranking=rank if verdict == "ranked" else None,
            comment=comment,
        )
        pages.surveys.forget()
        return RedirectResponse("/lead/review" + (f"?{back}" if _QUERY.fullmatch(back) else ""), 303)

    @router.post("/people/{name}")
    def change(request: Request, who: Admin, name: str, state: Annotated[str, Form()]) -> Response:
        try:
            set_state(pages.store, name, state, by=who)
        except WorkbenchError as error:
            person = _person(pages.store, name)
            problem = f"{error.problem}. {error.remedy or ''}"
            return pages.show(
                "person.html.jinja", request, who, status=409, person=person, state=state, impact=None, problem=problem
            )
        pages.surveys.forget()
        return RedirectResponse("/lead#annotators", 303)


def _downloads(router: APIRouter, pages: _Pages) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]

    @router.get("/export")
    def download(
        account: Reviewer,
        what: str = "preferences",
        resolve: str = "majority",
        who: str = "everyone",
        ties: bool = False,
    ) -> Response:
        """The file that `python -m annotate export` writes, with these choices."""
        if resolve not in ("majority", "dawid-skene", "single") or who not in ("everyone", "people", "simulated"):
            raise HTTPException(422, "resolve is majority, dawid-skene or single; who is everyone, people or simulated")
        made = preferences(pages.store, Rules(who=who, resolve=resolve, drop_ties=not ties))  # type: ignore[arg-type]
        records = made.demonstrations if what == "demonstrations" else made.preferences
        with pages.store.write() as transaction:
            transaction.add_event("exported", time.time(), account.id, what=what, resolve=resolve, records=len(records))
        return StreamingResponse(
            (record.model_dump_json() + "\n" for record in records),
            media_type="application/x-ndjson",
            headers={"Content-Disposition": f'attachment; filename="{what}.jsonl"', "Cache-Control": "no-store"},
        )
