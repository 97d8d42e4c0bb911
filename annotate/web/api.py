"""`/api/v1`, the part for labelling: next, ahead, submit, undo, one's own judgements. The page is its first client."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from annotate.people.access import IN_OPENAPI, Access
from annotate.queue.rules import Card, Choice, Nothing, Queue, Refused, Submission
from annotate.queue.submission import Flag
from annotate.store.statements import Annotator, GivenJudgement
from annotate.web.render import shown_text
from annotate.web.texts import Texts

Text = Annotated[str, Field(max_length=50_000)]
Key = Annotated[str, Field(min_length=8, max_length=64)]
"""Any text that is new for each answer: sent again, the answer counts once."""


class SubmissionBody(BaseModel):
    """An answer to a card, in the order in which its answers are shown; see `annotate.queue.submission.Submission`."""

    model_config = ConfigDict(extra="forbid")

    item: int
    """`card.item`."""
    choice: Choice
    client_key: Key
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    """With `compared`: -3 (left much better) … 0 (equal) … 3 (right much better)."""
    ranking: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] | None = None
    """With `ranked`: a rank for each answer, 1 best; equal ones share a rank."""
    rubric: dict[str, Annotated[int, Field(ge=-3, le=3)]] | None = None
    flag: Flag | None = None
    comment: Text | None = None
    reason: Text | None = None
    """With `skipped`."""
    edited_text: Text | None = None
    edited_response: Annotated[int, Field(ge=0)] | None = None
    guidelines_version: Annotated[str, Field(max_length=64)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None


class Held(BaseModel):
    """The cards that a client has."""

    model_config = ConfigDict(extra="forbid")

    known: Annotated[list[int], Field(max_length=50)] | None = None
    """Their items, the open one included. Without: the open one."""


class Withdrawal(BaseModel):
    """Takes back the last answer."""

    model_config = ConfigDict(extra="forbid")

    client_key: Key


def api_routes(queue: Queue, access: Access, texts: Texts) -> APIRouter:
    """The routes of everybody who labels."""
    router = APIRouter(prefix="/api/v1", tags=["label"], dependencies=IN_OPENAPI)
    _labelling(router, queue, access, texts)
    _own_judgements(router, queue, access, texts)
    return router


def _labelling(router: APIRouter, queue: Queue, access: Access, texts: Texts) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    def reply(who: Annotator, card: Card | Nothing, **more: Any) -> dict[str, Any]:
        progress = queue.progress(who)
        return {
            **shown(card, texts),
            "progress": {
                "mine": progress.mine,
                "open_for_me": progress.open_for_me,
                "seconds_each": progress.seconds_each,
            },
            **more,
        }

    @router.get("/me")
    @router.post("/me", include_in_schema=False)
    def me(who: Who) -> dict[str, Any]:
        """Who you are."""
        return {"name": who.name, "role": who.role, "state": who.state, "login": access.local is None}

    @router.post("/next")
    def next_card(who: Who) -> dict[str, Any]:
        """The item to judge now: the one you have open, or a new one. Renews your leases."""
        return reply(who, queue.next(who))

    @router.post("/ahead")
    def card_ahead(who: Who, held: Held | None = None) -> dict[str, Any]:
        """An item that comes after those you have, leased already: for showing it without waiting."""
        return shown(queue.ahead(who, held.known if held else None), texts)

    @router.post("/submit")
    def submit(body: SubmissionBody, who: Who) -> dict[str, Any]:
        """Store an answer and get the next item. The same `client_key` again stores nothing more."""
        try:
            saved = queue.submit(who, Submission(**body.model_dump()))
        except Refused as refusal:
            raise HTTPException(409, _why(refusal, texts)) from None
        stored = {"revision": saved.revision, "surplus": saved.surplus, "repeated": saved.repeated}
        return reply(who, queue.next(who), **stored)

    @router.post("/undo")
    def undo(withdrawal: Withdrawal, who: Who) -> dict[str, Any]:
        """Withdraw your last answer and get its item back."""
        try:
            card = queue.undo(who, client_key=withdrawal.client_key)
        except Refused as refusal:
            raise HTTPException(409, _why(refusal, texts)) from None
        return reply(who, card or queue.next(who), undone=card is not None)


def _own_judgements(router: APIRouter, queue: Queue, access: Access, texts: Texts) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.get("/mine")
    def mine(
        who: Who, limit: Annotated[int, Query(ge=1, le=200)] = 20, before: float | None = None
    ) -> list[dict[str, Any]]:
        """Your own judgements, newest first; `before`: the `at` of the last one you have, for the page after it."""
        return [_line(judgement) for judgement in queue.history(who, limit=limit, before=before)]

    @router.get("/mine/{item}")
    def mine_again(item: int, who: Who) -> dict[str, Any]:
        """An item that you were given, with your answer as `previous`. Submitting it again is a new revision."""
        try:
            return shown(queue.again(who, item), texts)
        except Refused as refusal:
            raise HTTPException(404, _why(refusal, texts)) from None


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
        },
        "nothing": None,
    }


def _why(refusal: Refused, texts: Texts) -> str:
    return texts(f"refused.{refusal.why}", **refusal.values)


def _line(judgement: GivenJudgement) -> dict[str, Any]:
    shown_strength = judgement.strength
    if shown_strength is not None and judgement.swapped:
        shown_strength = -shown_strength
    return {
        "item": judgement.item,
        "prompt": judgement.last_message,
        "choice": judgement.choice,
        "strength": shown_strength,
        "at": judgement.created_at,
    }
