"""What the lead's pages stand on: who may see them, templates, and surveys kept for a moment. Knows no route."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from annotate.campaign.report import Report
from annotate.config import ExportSection
from annotate.labels.status import number
from annotate.labels.survey import Survey, survey
from annotate.people.access import Access
from annotate.people.accounts import Role, look_up, may
from annotate.statistics.agreement_sums import NO_VARIATION, NOTHING_COMPARED, NOTHING_DECIDED, SHARED, TOO_FEW_SHARED
from annotate.statistics.ratings import Rating
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web import plots
from annotate.web.contents import PageContents
from annotate.web.render import as_markdown
from annotate.web.reward_files import RewardFiles
from annotate.web.texts import Texts

FRESH_SECONDS = 20.0
_TEMPLATES = Path(__file__).with_name("templates")
_PLACES = [
    ("/lead", "lead.overview"),
    ("/lead/items", "lead.review"),
    ("/lead/tables/", "lead.tables"),
    ("/lead/people", "lead.people"),
    ("/label/", "lead.label"),
]
"""Address and text of the pages that each page links to."""
_UNDEFINED = {
    NOTHING_COMPARED: "undefined.nothing_compared",
    NOTHING_DECIDED: "undefined.nothing_decided",
    NO_VARIATION: "undefined.no_variation",
    TOO_FEW_SHARED: "undefined.too_few_shared",
}


class Surveys:
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


class LeadPages:
    """Who may see what, and the templates."""

    def __init__(
        self,
        store: Store,
        access: Access,
        contents: PageContents,
        *,
        export: ExportSection,
        reward: RewardFiles,
        blind: bool,
        assets: str,
    ) -> None:
        """`blind`: judgements are hidden until a reviewer has decided; `assets`: address of scripts and styles."""
        self.store, self.access, self.export, self.reward, self.blind = store, access, export, reward, blind
        self.assets = assets
        self.surveys = Surveys(store)
        self.texts = Texts(contents.section.language)
        self._title = contents.title
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Callable[..., Any]] = {
            "number": number,
            "moment": lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime(self.texts("lead.format.moment")),
            "days": self._days,
            "messages": json.loads,
            "tree_of": as_markdown,
            "path": lambda text: quote(text, safe=""),
            "undefined_why": lambda reason: self.texts(_UNDEFINED[reason], count=SHARED),
        }
        self._environment.filters |= filters
        self._environment.globals |= {"t": self.texts, "plots": _Plots(self.texts), "ranked": _ranked}

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
            accounts = transaction.annotators()
        people = [account for account in accounts if not account.simulated and account.name != "local"]
        return not people and any(account.simulated for account in accounts)

    def person(self, name: str) -> Annotator:
        """An account; without it the request ends here."""
        with self.store.read() as transaction:
            person = look_up(transaction, name)
        if person is None:
            raise HTTPException(404, f"no annotator {name!r}")
        return person

    def show(self, name: str, request: Request, who: Annotator, *, status: int = 200, **values: Any) -> Response:
        """A page."""
        page = self._environment.get_template(name).render(
            title=self._title,
            who=who,
            admin=may(who, "admin"),
            can_log_out=self.access.local is None,
            path=request.url.path,
            places=[place for place in _PLACES if place[0] != "/lead/people" or may(who, "admin")],
            assets=self.assets,
            blind=self.blind,
            **values,
        )
        return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})

    def _days(self, days: float | None) -> str:
        if days is None:
            return self.texts("lead.days.unknown")
        if days < 1 / 24:
            return self.texts("lead.days.hour")
        if days < 1:
            return self.texts("lead.days.hours", count=round(days * 24))
        return self.texts.counted("lead.days", round(days))


class _Plots:
    """The plots in the page's language, as markup that templates do not escape."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def labels_over_time(self, *arguments: Any) -> Markup:
        return Markup(plots.labels_over_time(self._texts, *arguments))

    def progress_over_time(self, *arguments: Any) -> Markup:
        return Markup(plots.progress_over_time(self._texts, *arguments))

    def interval(self, *arguments: Any) -> Markup:
        return Markup(plots.interval(self._texts, *arguments))

    def share(self, *arguments: Any, **named: Any) -> Markup:
        return Markup(plots.share(*arguments, **named))

    def learning_curve(self, *arguments: Any) -> Markup:
        return Markup(plots.learning_curve(self._texts, *arguments))

    def bucket_name(self, seconds: int) -> str:
        return plots.bucket_name(self._texts, seconds)


def _ranked(report: Report) -> list[tuple[str, Rating]]:
    """Runs with their ratings, best first."""
    return sorted(zip(report.runs, report.ratings, strict=True), key=lambda pair: -pair[1].value)
