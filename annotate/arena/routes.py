"""`/api/v1/arena`: begin a battle, stream answers (server-sent events), stop them, vote.

The server keeps no conversation; see `annotate.arena.battles`. A browser that goes away ends its answers.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from annotate.arena.battles import Battles, Written
from annotate.arena.votes import save_vote
from annotate.campaign.battles import arena_item
from annotate.people.access import IN_OPENAPI, Access
from annotate.queue.submission import Refused, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web.render import as_markdown
from annotate.web.texts import Texts
from workbench.data.records import Message, Response
from workbench.run.errors import WorkbenchError
from workbench.serve.engine import Engine, Request, Want

QUIET_SECONDS = 2.0
"""Without a piece of text for so long, the place in the queue is sent; this also notices a browser that went away."""
Side = Annotated[int, Field(ge=0, le=1)]
BattleId = Annotated[str, Field(max_length=100)]
Text = Annotated[str, Field(max_length=200_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    battle: BattleId


class Conversation(_Body):
    """A battle with all turns up to the last one of the user."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=1000)]


class AskBody(Conversation):
    """Asks for the answers of a turn."""

    sides: Annotated[tuple[Side, ...], Field(min_length=1, max_length=2)] = (0, 1)
    """0 left, 1 right."""
    attempt: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Another number gives another answer."""


class StopBody(_Body):
    """Stops answers of a battle that are being written."""

    side: Side | None = None
    """None: both."""


class AnswerBody(BaseModel):
    """An answer as the stream gave it."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    ended: bool
    seal: Annotated[str, Field(max_length=64)]


class VoteBody(Conversation):
    """A vote on the answers of the last turn; see `annotate.queue.submission.Submission`."""

    answers: tuple[AnswerBody, AnswerBody]
    """Left, right."""
    choice: Literal["compared", "both_bad"]
    client_key: Annotated[str, Field(min_length=8, max_length=64)]
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    comment: Annotated[str, Field(max_length=50_000)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None


class Arena:
    """What the routes share."""

    def __init__(self, store: Store, battles: Battles, engine: Engine, texts: Texts, temperature: float) -> None:
        self.store, self.battles, self.engine, self.texts, self.temperature = store, battles, engine, texts, temperature
        self._streams: dict[tuple[int, str], list[tuple[Request, tuple[int, ...]]]] = {}
        """The requests at work, with their sides, by account and battle."""

    def check(self, body: Conversation) -> None:
        """End the request unless battle and messages are good."""
        self.check_battle(body)
        last = body.messages[-1]
        if last.role != "user" or not last.content.strip():
            raise HTTPException(422, self.texts("arena.refused.message"))
        if any("\x00" in message.content for message in body.messages):
            raise HTTPException(422, self.texts("refused.characters", name="the message"))

    def check_battle(self, body: _Body) -> None:
        """End the request unless this store has begun the battle."""
        if not self.battles.genuine(body.battle):
            raise HTTPException(409, self.texts("arena.refused.battle"))

    def stop(self, who: Annotator, battle: str, side: int | None = None) -> None:
        """Stop the answers of a battle, or of one side."""
        for request, sides in self._streams.get((who.id, battle), []):
            if side is None:
                self.engine.stop(request)
            elif side in sides:
                self.engine.stop(request, sides.index(side))

    async def stream(self, who: Annotator, body: AskBody) -> AsyncIterator[str]:
        """The events of a turn: `waiting` (place in the queue), pieces and ends of answers, or one `error`."""
        lines: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        loop, key = asyncio.get_running_loop(), (who.id, body.battle)

        def said(index: int, line: dict[str, Any]) -> None:
            with suppress(RuntimeError):  # the server is ending
                loop.call_soon_threadsafe(lines.put_nowait, (index, line))

        request = Request(who.id, self._wants(body), said)
        entry = (request, body.sides)
        try:
            self._streams.setdefault(key, []).append(entry)
            self.engine.ask(request)
            left = set(range(len(body.sides)))
            while left:
                try:
                    index, line = await asyncio.wait_for(lines.get(), QUIET_SECONDS)
                except TimeoutError:
                    yield _event({"waiting": self.engine.place(request)})
                    continue
                if "error" in line:
                    yield _event({"error": line["error"]})
                    return
                if "add" not in line:
                    left.discard(index)
                    line = await to_thread.run_sync(partial(self._ended, body, body.sides[index], line))
                yield _event({"side": body.sides[index], **line})
        except WorkbenchError as error:
            yield _event({"error": str(error)})
        finally:
            self.engine.stop(request)
            self._streams[key].remove(entry)
            if not self._streams[key]:
                del self._streams[key]

    def _wants(self, body: AskBody) -> list[Want]:
        prompt = [message.model_dump() for message in body.messages]
        runs = self.battles.sides(body.battle)
        return [
            Want(runs[side], prompt, self.battles.draw_seed(body.battle, body.messages, side, body.attempt))
            for side in body.sides
        ]

    def _ended(self, body: AskBody, side: int, line: dict[str, Any]) -> dict[str, Any]:
        written = self.battles.seal(body.battle, body.messages, side, line["text"], ended=line["ended"])
        return {"end": {**asdict(written), "formatted": as_markdown(written.text)}}

    def vote(self, who: Annotator, body: VoteBody) -> list[str]:
        """Store a vote; returns the names of the runs, left first."""
        runs = [self.battles.runs[run] for run in self.battles.sides(body.battle)]
        answers = [Written(**answer.model_dump()) for answer in body.answers]
        if len(runs) != 2 or not all(
            self.battles.wrote(body.battle, body.messages, side, answer) for side, answer in enumerate(answers)
        ):
            raise HTTPException(409, self.texts("arena.refused.answers"))
        responses = [
            Response(id=str(side), text=answer.text, run=run, temperature=self.temperature, ended=answer.ended)
            for side, (answer, run) in enumerate(zip(answers, runs, strict=True))
        ]
        given = body.model_dump(include={"choice", "client_key", "strength", "comment", "seconds"})
        item = arena_item(body.battle.partition(".")[0], body.messages, responses)
        save_vote(self.store, who, item, Submission(item=0, **given))
        return runs


def arena_routes(arena: Arena, access: Access) -> APIRouter:
    """The routes of everybody who has an account."""
    router = APIRouter(prefix="/api/v1/arena", tags=["label"], dependencies=IN_OPENAPI)
    _answering(router, arena, access)
    _voting(router, arena, access)
    return router


def _answering(router: APIRouter, arena: Arena, access: Access) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.post("/battle")
    def battle(who: Who) -> dict[str, Any]:
        """Begin a battle. Its id says nothing about its runs."""
        if not who.active:
            raise HTTPException(409, arena.texts("nothing.paused"))
        return {"battle": arena.battles.new(), "name": who.name, "login": access.local is None}

    @router.post("/answers", response_class=StreamingResponse)
    async def answers(body: AskBody, who: Who) -> StreamingResponse:
        """Stream the answers of a turn: `data: {…}` lines."""
        arena.check(body)
        if max(body.sides) >= len(arena.battles.sides(body.battle)):
            raise HTTPException(422, arena.texts("arena.refused.side"))
        # Proxies such as nginx would hold the pieces back otherwise.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(arena.stream(who, body), media_type="text/event-stream", headers=headers)

    @router.post("/stop")
    def stop(body: StopBody, who: Who) -> dict[str, Any]:
        """Stop answers that are being written for you; the stream still gives what there is of them."""
        arena.check_battle(body)
        arena.stop(who, body.battle, body.side)
        return {}


def _voting(router: APIRouter, arena: Arena, access: Access) -> None:
    Who = Annotated[Annotator, Depends(access.required)]

    @router.post("/vote")
    def vote(body: VoteBody, who: Who) -> dict[str, Any]:
        """Store a vote, which ends the battle, and reveal the runs. The same `client_key` again stores nothing more."""
        arena.check(body)
        try:
            return {"runs": arena.vote(who, body)}
        except Refused as refusal:
            raise HTTPException(409, arena.texts(f"refused.{refusal.why}", **refusal.values)) from None


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
