"""`/api/v1`, the part for labelling: next, ahead, submit, undo, one's own judgements.

Its routes and the server functions of the card (`annotate.web.card`) call the methods of `Labelling`.
"""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from annotate.people.access import IN_OPENAPI, Access
from annotate.queue import history
from annotate.queue.history import Show, told
from annotate.queue.rules import Card, Choice, Nothing, Queue, Refused, Submission
from annotate.queue.submission import MOST_REASONS, MOST_SPANS, Flag, Span
from annotate.store.statements import Annotator
from annotate.web.contents import PageContents
from annotate.web.render import as_line, as_markdown, shown_text
from annotate.web.texts import Texts

Text = Annotated[str, Field(max_length=50_000)]
"""Unlike `str`, a type with a limit refuses half of a surrogate pair."""
Number = Annotated[int, Field(ge=1, lt=2**63)]
"""The number of an item or a token, which a store can hold."""
Key = Annotated[str, Field(min_length=8, max_length=64)]
"""Any text that is new for each answer: sent again, the answer counts once."""


class SubmissionBody(BaseModel):
    """An answer to a card, in the order in which its answers are shown; see `annotate.queue.submission.Submission`."""

    model_config = ConfigDict(extra="forbid")

    item: Number
    """`card.item`."""
    choice: Choice
    client_key: Key
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    """With `compared`: -3 (left much better) … 0 (equal) … 3 (right much better)."""
    ranking: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] | None = None
    """With `ranked`: a rank for each answer, 1 best; equal ones share a rank."""
    rubric: dict[Text, Annotated[int, Field(ge=-3, le=3)]] | None = None
    flag: Flag | None = None
    comment: Text | None = None
    reason: Text | None = None
    """With `skipped`."""
    edited_text: Text | None = None
    edited_response: Annotated[int, Field(ge=0)] | None = None
    guidelines_version: Annotated[str, Field(max_length=64)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None
    reasons: Annotated[tuple[Text, ...], Field(max_length=MOST_REASONS)] = ()
    """Some of the reasons that the page offers."""
    spans: Annotated[tuple[Span, ...], Field(max_length=MOST_SPANS)] = ()
    """Marked passages: `answer` in the order shown, `start` and `end` in code points of its text, and `label`."""
    differences_shown: bool = False
    """Whether the words that only one answer has were marked."""


class Held(BaseModel):
    """The cards that a client has."""

    model_config = ConfigDict(extra="forbid")

    known: Annotated[list[Number], Field(max_length=50)] | None = None
    """Their items, the open one included. Without: the open one."""


class Withdrawal(BaseModel):
    """Takes back the last answer."""

    model_config = ConfigDict(extra="forbid")

    client_key: Key


class Past(BaseModel):
    """A page of one's own judgements."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 20
    before: FiniteFloat | None = None
    """The `at` of the last judgement of the page before."""
    show: Show = ""
    """A filter; see `annotate.queue.history.Show`."""
    search: Annotated[str, Field(max_length=500)] = ""
    """Only items with this text in the prompt, an answer or the comment."""


class Given(BaseModel):
    """An item that one was given."""

    model_config = ConfigDict(extra="forbid")

    item: Number


class Star(Given):
    """A star on an item, to come back to it; or its end."""

    starred: bool


class Labelling:
    """What somebody who labels can ask for; replies are ready for JSON. A refusal is an HTTPException (404, 409)."""

    def __init__(self, queue: Queue, contents: PageContents) -> None:
        self._queue, self._contents = queue, contents
        self._texts = Texts(contents.section.language)
        self._guidelines = as_markdown(contents.guidelines or "")

    def me(self, who: Annotator, *, login: bool) -> dict[str, Any]:
        """The account; `login`: whether it is one that somebody logs in to."""
        return {"name": who.name, "role": who.role, "state": who.state, "login": login}

    def guidelines(self) -> dict[str, Any]:
        """The guidelines' version, and their text as a tree (`annotate.web.render`)."""
        return {"version": self._contents.guidelines_version, "text": self._guidelines}

    def next(self, who: Annotator) -> dict[str, Any]:
        """The open item, or a new one."""
        return self._reply(who, self._queue.next(who))

    def ahead(self, who: Annotator, held: Held) -> dict[str, Any]:
        """An item after those that the client has."""
        return shown(self._queue.ahead(who, held.known), self._texts)

    def submit(self, who: Annotator, body: SubmissionBody) -> dict[str, Any]:
        """Store an answer, and the next item."""
        try:
            saved, card = self._queue.submit_and_next(who, Submission(**dict(body)))
        except Refused as refusal:
            raise HTTPException(409, _why(refusal, self._texts)) from None
        stored = {"revision": saved.revision, "surplus": saved.surplus, "repeated": saved.repeated}
        return self._reply(who, card, **stored)

    def undo(self, who: Annotator, withdrawal: Withdrawal) -> dict[str, Any]:
        """Withdraw the last answer; its item."""
        try:
            card = self._queue.undo(who, client_key=withdrawal.client_key)
        except Refused as refusal:
            raise HTTPException(409, _why(refusal, self._texts)) from None
        return self._reply(who, card or self._queue.next(who), undone=card is not None)

    def mine(self, who: Annotator, past: Past) -> list[dict[str, Any]]:
        """Their own judgements, newest first; `shown`: the beginning of the prompt, as a list shows it."""
        lines = history.past(self._queue.store, who, **past.model_dump())
        return [{**told(line), "shown": as_line(line.last_message, 200)} for line in lines]

    def news(self, who: Annotator) -> dict[str, Any]:
        """What reviewers said of their judgements, in numbers."""
        return asdict(history.news(self._queue.store, who))

    def star(self, who: Annotator, star: Star) -> dict[str, Any]:
        """Star an item, or end that."""
        try:
            history.star(self._queue.store, who, star.item, star.starred)
        except Refused as refusal:
            raise HTTPException(404, _why(refusal, self._texts)) from None
        return {"item": star.item, "starred": star.starred}

    def again(self, who: Annotator, given: Given) -> dict[str, Any]:
        """An item with their answer as `previous`."""
        try:
            return shown(self._queue.again(who, given.item), self._texts)
        except Refused as refusal:
            raise HTTPException(404, _why(refusal, self._texts)) from None

    def _reply(self, who: Annotator, card: Card | Nothing, **more: Any) -> dict[str, Any]:
        progress = self._queue.progress(who)
        return {
            **shown(card, self._texts),
            "progress": {
                "mine": progress.mine,
                "open_for_me": progress.open_for_me,
                "seconds_each": progress.seconds_each,
            },
            **({} if progress.round is None else {"round": asdict(progress.round)}),
            **more,
        }


def api_routes(labelling: Labelling, access: Access) -> APIRouter:
    """The routes of everybody who labels."""
    router = APIRouter(prefix="/api/v1", tags=["label"], dependencies=IN_OPENAPI)
    _labelling(router, labelling, access)
    _own_judgements(router, labelling, access)
    return router


def _labelling(router: APIRouter, labelling: Labelling, access: Access) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.get("/me")
    @router.post("/me", include_in_schema=False)
    def me(who: Who) -> dict[str, Any]:
        """Who you are."""
        return labelling.me(who, login=access.local is None)

    @router.post("/next")
    def next_card(who: Who) -> dict[str, Any]:
        """The item to judge now: the one you have open, or a new one. Renews your leases."""
        return labelling.next(who)

    @router.post("/ahead")
    def card_ahead(who: Who, held: Held | None = None) -> dict[str, Any]:
        """An item that comes after those you have, leased already: for showing it without waiting."""
        return labelling.ahead(who, held or Held())

    @router.post("/submit")
    def submit(body: SubmissionBody, who: Who) -> dict[str, Any]:
        """Store an answer and get the next item. The same `client_key` again stores nothing more."""
        return labelling.submit(who, body)

    @router.post("/undo")
    def undo(withdrawal: Withdrawal, who: Who) -> dict[str, Any]:
        """Withdraw your last answer and get its item back."""
        return labelling.undo(who, withdrawal)


def _own_judgements(router: APIRouter, labelling: Labelling, access: Access) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.get("/mine")
    def mine(who: Who, past: Annotated[Past, Query()]) -> list[dict[str, Any]]:
        """Your own judgements, newest first; `before`: the `at` of the last one you have, for the page after it."""
        return labelling.mine(who, past)

    @router.get("/mine/news")
    def news(who: Who) -> dict[str, Any]:
        """How many of your judgements a reviewer decided otherwise or replied to, and when the last time was."""
        return labelling.news(who)

    @router.post("/mine/star")
    def star(body: Star, who: Who) -> dict[str, Any]:
        """Star an item that you were given, or end that."""
        return labelling.star(who, body)

    @router.get("/mine/{item}")
    def mine_again(item: Number, who: Who) -> dict[str, Any]:
        """An item that you were given, with your answer as `previous`. Submitting it again is a new revision."""
        return labelling.again(who, Given(item=item))


def shown(card: Card | Nothing, texts: Texts) -> dict[str, Any]:
    """What a client is told of a card: texts, and nothing of where they come from."""
    if isinstance(card, Nothing):
        return {"card": None, "nothing": texts.counted(f"nothing.{card.why}", card.count)}
    return {
        "card": {
            "item": card.item,
            "prompt": [{"role": turn["role"], **shown_text(turn["content"])} for turn in card.prompt],
            "answers": [shown_text(answer.text) for answer in card.answers],
            "previous": card.previous,
            "starred": card.starred,
            "lesson": None if card.lesson is None else asdict(card.lesson),
        },
        "nothing": None,
    }


def _why(refusal: Refused, texts: Texts) -> str:
    return texts(f"refused.{refusal.why}", **refusal.values)
