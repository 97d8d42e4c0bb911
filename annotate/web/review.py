"""The review, under /lead/items: one item at a time on the annotators' card, with a filtered list beside it.

The page is `templates/item.html.jinja` with `assets/review.js`; without scripts it leads to the forms of
`annotate.web.lead`. With `lead.blind_review`, the judgements of an item are sent only once a reviewer has decided.
"""

import json
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from annotate.campaign.start import campaign_names
from annotate.config import Flag
from annotate.labels.contested import NO_CAMPAIGN, Considered, Filter, read_considered
from annotate.labels.review import MOST_COMMENT_CHARACTERS, adjudicate, send_reply
from annotate.queue.cards import Answer, Card
from annotate.queue.submission import FLAGS
from annotate.store.statements import Adjudication, Annotator, CurrentJudgement, Reply, Transaction
from annotate.web.api import Number, shown
from annotate.web.lead_pages import FRESH_SECONDS, LeadPages
from annotate.web.render import as_line

PAGE_LENGTH = 100
"""Rows of the list that are sent at a time."""
_LINE = 160
"""Characters of a prompt in the list."""


class Ruling(BaseModel):
    """A reviewer's decision on an item; see `annotate.labels.review.adjudicate`."""

    model_config = ConfigDict(extra="forbid")

    choice: Literal["compared", "ranked", "both_bad", "left_out", "withdrawn"]
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    ranking: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=MOST_COMMENT_CHARACTERS)] = ""


class Message(BaseModel):
    """A message to somebody who judged the item."""

    model_config = ConfigDict(extra="forbid")

    annotator: Annotated[str, Field(max_length=64)]
    text: Annotated[str, Field(max_length=MOST_COMMENT_CHARACTERS)]


class Wanted(BaseModel):
    """What the list shows: a filter, and the row after which it continues."""

    model_config = ConfigDict(extra="forbid")

    show: Literal["open", "decided", "all"] = "open"
    person: str = ""
    flag: Flag | Literal[""] = ""
    campaign: str = ""
    apart: Annotated[int, Field(ge=0, le=6)] = 0
    search: Annotated[str, Field(max_length=500)] = ""
    who: Literal["people", "simulated", ""] = ""
    after_apart: int | None = None
    """`apart` of the last row that the page has."""
    after_item: int = 0
    """`item` of that row."""

    def filter(self) -> Filter:
        """The filter alone."""
        return Filter(self.show, self.person, self.flag, self.campaign, self.apart, self.search)

    def follows(self, each: Considered) -> bool:
        """Whether an item comes after the last row that the page has; largest difference first."""
        return self.after_apart is None or (-each.apart, each.item.id) > (-self.after_apart, self.after_item)


class _Recent:
    """The judged items, read at most every `FRESH_SECONDS`, and after each ruling."""

    def __init__(self, pages: LeadPages) -> None:
        self._store, self._lock = pages.store, threading.Lock()
        self._kept: dict[bool, tuple[float, list[Considered]]] = {}

    def get(self, simulated: bool) -> list[Considered]:
        with self._lock:
            taken, found = self._kept.get(simulated, (0.0, []))
            if time.time() - taken > FRESH_SECONDS:
                found = read_considered(self._store, simulated=simulated)
                self._kept[simulated] = time.time(), found
            return found

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


def review_routes(pages: LeadPages) -> APIRouter:
    """The page, its list, an item, and a ruling."""
    router = APIRouter(prefix="/lead/items", include_in_schema=False)
    recent = _Recent(pages)
    _list(router, pages, recent)
    _items(router, pages, recent)
    return router


def _list(router: APIRouter, pages: LeadPages, recent: _Recent) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]

    @router.get("/list")
    def rows(request: Request, who: Reviewer, wanted: Annotated[Wanted, Query()]) -> dict[str, Any]:
        """A page of the list, and how many items pass the filter."""
        found = wanted.filter()(recent.get(pages.kind(request)))
        page = [each for each in found if wanted.follows(each)]
        return {
            "rows": [_row(each) for each in page[:PAGE_LENGTH]],
            "total": len(found),
            "more": len(page) > PAGE_LENGTH,
        }

    @router.get("")
    def desk(request: Request, who: Reviewer) -> Response:
        simulated = pages.kind(request)
        judged = recent.get(simulated)
        people = sorted({judgement.annotator for each in judged for judgement in each.judgements})
        settings = {"language": pages.texts.language, "name": who.name, "blind": pages.blind}
        return pages.show(
            "item.html.jinja",
            request,
            who,
            settings=json.dumps(settings, ensure_ascii=False),
            people=people,
            flags=FLAGS,
            campaigns=campaign_names(pages.store),
            no_campaign=NO_CAMPAIGN,
            simulated=simulated,
            actions=_ACTIONS,
        )

    @router.get("/{item}")
    def desk_at(item: Number, request: Request, who: Reviewer) -> Response:
        with pages.store.read() as transaction:
            if transaction.item(item, simulated=False) is None:
                raise HTTPException(404, f"no item {item}")
        return desk(request, who)


_ACTIONS = [
    ("bad", "both_bad"),
    ("skip", "review.leave_out"),
    ("comment", "comment"),
    ("undo", "review.withdraw"),
    ("next", "review.next"),
]
"""Buttons under the strengths: what they do, and their texts."""


def _items(router: APIRouter, pages: LeadPages, recent: _Recent) -> None:
    Reviewer = Annotated[Annotator, Depends(pages.role("reviewer"))]

    @router.get("/{item}/card")
    def card(item: Number, who: Reviewer) -> dict[str, Any]:
        """An item as the card shows it, and what people said of it, if it may be shown already."""
        with pages.store.read() as transaction:
            return _reply(pages, transaction, item)

    @router.post("/{item}/ruling")
    def rule(item: Number, body: Ruling, who: Reviewer) -> dict[str, Any]:
        """Decide; the reply is that of `card`."""
        adjudicate(pages.store, who, item, **body.model_dump())
        recent.forget()
        pages.surveys.forget()
        with pages.store.read() as transaction:
            return _reply(pages, transaction, item)

    @router.post("/{item}/message")
    def message(item: Number, body: Message, who: Reviewer) -> dict[str, Any]:
        """Tell somebody something about their judgement; the reply is that of `card`."""
        send_reply(pages.store, who, item, body.annotator, body.text)
        with pages.store.read() as transaction:
            return _reply(pages, transaction, item)


def _row(each: Considered) -> dict[str, Any]:
    return {
        "item": each.item.id,
        "id": each.item.item_id,
        "prompt": as_line(each.prompt, _LINE),
        "apart": each.apart,
        "flags": each.flags,
        "campaign": each.item.campaign,
        "ruling": None if each.ruling is None else _decision(each.ruling),
    }


def _reply(pages: LeadPages, transaction: Transaction, pk: int) -> dict[str, Any]:
    item = transaction.item(pk, simulated=False)
    if item is None:
        raise HTTPException(404, f"no item {pk}")
    answers = tuple(Answer(response.text, response.ended) for response in transaction.responses(pk))
    ruling = transaction.adjudications(of=pk).get(pk)
    decided = ruling is not None and ruling.choice != "withdrawn"
    card = Card(pk, item.item_id, json.loads(item.prompt), answers, _decision(ruling) if ruling and decided else None)
    judgements = list(transaction.current_judgements(of=pk))
    replies = transaction.replies(items=[pk])
    return {
        **shown(card, pages.texts),
        "id": item.item_id,
        "ruling": _decision(ruling) if ruling and decided else None,
        "judged": len(judgements),
        "said": [_said(judgement, replies) for judgement in judgements] if decided or not pages.blind else None,
    }


def _decision(ruling: Adjudication) -> dict[str, Any]:
    """A ruling, in the order of the item's answers."""
    return {
        "choice": ruling.choice,
        "strength": ruling.strength,
        "ranking": json.loads(ruling.ranking) if ruling.ranking else None,
        "comment": ruling.comment or "",
        "by": ruling.adjudicator,
    }


def _said(judgement: CurrentJudgement, replies: Sequence[Reply]) -> dict[str, Any]:
    """A judgement, in the order of the item's answers; `swapped`: its annotator saw the second answer as A."""
    return {
        "name": judgement.annotator,
        "choice": judgement.choice,
        "strength": judgement.strength,
        "ranking": json.loads(judgement.ranking) if judgement.ranking else None,
        "swapped": judgement.swapped,
        "flag": judgement.flag,
        "comment": judgement.comment or judgement.reason or "",
        "edited": judgement.edited_response,
        "reasons": json.loads(judgement.reasons or "[]"),
        "spans": json.loads(judgement.spans or "[]"),
        "replies": [
            {"by": reply.author, "text": reply.text} for reply in replies if reply.annotator == judgement.annotator
        ],
    }
