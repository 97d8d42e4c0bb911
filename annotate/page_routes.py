"""Routes that only the page uses: the card ahead, one's own earlier answers, the guidelines."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from annotate.contents import PageContents
from annotate.queue import Queue, Refused
from annotate.render import as_markdown
from annotate.shown import shown_card
from annotate.statements import Annotator

_SHOWN_OF_A_PROMPT = 160


class Page(BaseModel):
    """Which part of the history."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: float | None = None
    """Answers given before this time (seconds since 1970)."""


class Earlier(BaseModel):
    """An item that was judged."""

    model_config = ConfigDict(extra="forbid")

    item: int


def page_routes(queue: Queue, contents: PageContents, required: Callable[[Request], Annotator]) -> APIRouter:
    """The routes, under /page."""
    router = APIRouter(prefix="/page", include_in_schema=False)
    Who = Annotated[Annotator, Depends(required)]
    guidelines = as_markdown(contents.guidelines or "")

    @router.post("/ahead")
    def ahead(who: Who) -> dict[str, Any]:
        """The card after the open one, leased already."""
        return shown_card(queue.ahead(who))

    @router.post("/history")
    def history(page: Page, who: Who) -> list[dict[str, Any]]:
        """Own answers, newest first."""
        return [
            {
                "item": given.item,
                "prompt": _beginning(given.prompt),
                "choice": given.choice,
                "strength": -given.strength if given.swapped and given.strength is not None else given.strength,
                "at": given.created_at,
            }
            for given in queue.history(who, limit=page.limit, before=page.before)
        ]

    @router.post("/again")
    def again(earlier: Earlier, who: Who) -> dict[str, Any]:
        """The card of an earlier answer, to change it."""
        try:
            return shown_card(queue.again(who, earlier.item))
        except Refused as refusal:
            raise HTTPException(409, str(refusal)) from None

    @router.post("/guidelines")
    def read_guidelines(who: Who) -> dict[str, Any]:
        """Their text and version."""
        return {"version": contents.guidelines_version, "text": guidelines}

    return router


def _beginning(prompt: str) -> str:
    last = json.loads(prompt)[-1]["content"]
    return last if len(last) <= _SHOWN_OF_A_PROMPT else last[:_SHOWN_OF_A_PROMPT] + " …"
