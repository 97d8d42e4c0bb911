"""One request's answer, from the engine's threads to the event loop, and in OpenAI's forms."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from workbench.run.errors import WorkbenchError
from workbench.serve.bodies import Refusal
from workbench.serve.engine import Engine, QueueFull, Request, Want, WantScores

LOOK_SECONDS = 0.5
"""While nothing is said, how often to look whether the client has gone."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def said_of(
    engine: Engine, account: int, want: Want | WantScores, gone: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[dict[str, Any], None]:
    """What the worker says of a job, until its last line. When the caller stops listening, the job ends.

    Raises:
        Refusal: the queue is full, the prompt is too long, or the job failed.
        ClientGone: the client has gone.
    """
    lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def said(_index: int, line: dict[str, Any]) -> None:
        with suppress(RuntimeError):  # the server is ending
            loop.call_soon_threadsafe(lines.put_nowait, line)

    request = Request(account, [want], said)
    try:
        _ask(engine, request)
        while True:
            try:
                line = await asyncio.wait_for(lines.get(), LOOK_SECONDS)
            except TimeoutError:
                if await gone():
                    raise ClientGone from None
                continue
            if line.get("too_long"):
                raise Refusal(400, line["error"], code="context_length_exceeded", param="messages")
            if "error" in line:
                raise Refusal(503, line["error"], code="engine")
            yield line
            if "add" not in line:
                return
    finally:
        engine.stop(request)


def _ask(engine: Engine, request: Request) -> None:
    try:
        engine.ask(request)
    except QueueFull as error:
        raise Refusal(429, str(error), code="queue_full") from None
    except WorkbenchError as error:
        raise Refusal(503, str(error), code="engine") from None


@dataclass
class Answer:
    """An answer on its way to the client."""

    id: str
    model: str
    chat: bool
    created: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    """What has been streamed so far; at the end, the whole text."""
    finish: str | None = None
    """`stop` or `length`, at the end."""
    usage: dict[str, int] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> str:
        """The text that a line adds. What was streamed cannot be taken back: a piece that changes it waits.

        Raises:
            Refusal: the whole text does not begin with what was streamed.
        """
        if "add" in line:
            text = self.text[: line["keep"]] + line["add"] if line["keep"] <= len(self.text) else self.text
        else:
            text, self.finish = line["text"], "stop" if line["ended"] else "length"
            used = line.get("usage", {"prompt_tokens": 0, "completion_tokens": 0})
            self.usage = {**used, "total_tokens": sum(used.values())}
        if not text.startswith(self.text):
            if self.finish is None:
                return ""
            raise Refusal(500, "the decoded text changed while it was streamed: ask again without stream")
        new, self.text = text[len(self.text) :], text
        return new

    def whole(self) -> dict[str, Any]:
        """The response without streaming."""
        content = {"message": {"role": "assistant", "content": self.text}} if self.chat else {"text": self.text}
        choice = {"index": 0, **content, "finish_reason": self.finish, "logprobs": None}
        return {**self._head(""), "choices": [choice], "usage": self.usage}

    def chunk(self, text: str, *, first: bool = False) -> str:
        """A streamed piece as a server-sent event."""
        role = {"role": "assistant"} if first else {}
        content: dict[str, Any] = {"delta": {**role, "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "finish_reason": self.finish, "logprobs": None}
        return event({**self._head(".chunk"), "choices": [choice]})

    def usage_chunk(self) -> str:
        """The numbers of tokens as a server-sent event."""
        return event({**self._head(".chunk"), "choices": [], "usage": self.usage})

    def _head(self, suffix: str) -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(content: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
