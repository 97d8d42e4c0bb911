"""The lead's pages: progress, agreement, annotators, disagreements, export. HTML from the server, no script needed.

For the roles reviewer and admin; accounts are `annotate.web.people_pages`. Requests from other sites end at the gate
(`annotate.web.security`). What is shown is at most `lead_pages.FRESH_SECONDS` old, except after a change made here.
"""

import re
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from annotate.campaign.report import campaign_report
from annotate.campaign.start import campaign_names
from annotate.labels.notices import notices
from annotate.labels.review import adjudicate
from annotate.store.statements import Annotator
from annotate.web.api import Number
from annotate.web.lead_pages import LeadPages

PAGE_LENGTH = 20
"""Items on one page of the review."""
_STRENGTHS = {str(strength) for strength in range(-3, 4)}
_COUNT = re.compile(r"\d{1,9}")
_QUERY = re.compile(r"[a-z0-9=&]{1,40}")


def lead_routes(pages: LeadPages) -> APIRouter:
    """The routes of reviewers, under /lead."""
    router = APIRouter(prefix="/lead", include_in_schema=False)
    _reading(router, pages)
    _deciding(router, pages)
    return router


def _reading(router: APIRouter, pages: LeadPages) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]

    @router.get("")
    def overview(request: Request, who: Reviewer) -> Response:
        simulated = pages.kind(request)
        found, taken = pages.surveys.get(simulated)
        campaigns = [campaign_report(pages.store, name, simulated=simulated) for name in campaign_names(pages.store)]
        with pages.store.read() as transaction:
            said = notices(transaction)
        sent = request.query_params.get("sent", "")
        return pages.show(
            "lead.html.jinja",
            request,
            who,
            survey=found,
            taken=taken,
            notices=said,
            campaigns=campaigns,
            reward=pages.reward,
            sent=int(sent) if _COUNT.fullmatch(sent) else None,
        )

    @router.get("/review")
    def review(request: Request, who: Reviewer, page: int = 1, show: str = "open") -> Response:
        found, _ = pages.surveys.get(pages.kind(request))
        decided = show == "decided"
        listed = [contested for contested in found.contested if (contested.ruling is not None) == decided]
        last = max(1, -(-len(listed) // PAGE_LENGTH))
        page = min(max(page, 1), last)
        part = listed[(page - 1) * PAGE_LENGTH : page * PAGE_LENGTH]
        counts = {"open": sum(c.ruling is None for c in found.contested), "decided": found.adjudicated}
        return pages.show(
            "review.html.jinja", request, who, survey=found, part=part, page=page, last=last, show=show, counts=counts
        )


def _deciding(router: APIRouter, pages: LeadPages) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]

    @router.post("/relabel")
    def relabel(who: Reviewer) -> Response:
        """Send back the pairs that a reward model was unsure of."""
        applied = pages.reward.send_back(pages.store)
        with pages.store.write() as transaction:
            transaction.add_event("sent_back", time.time(), by=who.name, **vars(applied))
        pages.surveys.forget()
        return RedirectResponse(f"/lead?sent={applied.items}#reward", 303)

    @router.post("/review/{item}")
    def decide(
        who: Reviewer,
        item: Number,
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
