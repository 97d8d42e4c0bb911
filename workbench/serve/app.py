"""The HTTP API in OpenAI's form: chat, completions, models; and scores, feedback, health, metrics."""

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from workbench.run.errors import did_you_mean
from workbench.serve.bodies import BodyT, ChatBody, CompletionBody, FeedbackBody, Refusal, ScoreBody, parse
from workbench.serve.engine import Engine, Want, WantScores
from workbench.serve.keys import Keys
from workbench.serve.metrics import Metrics
from workbench.serve.records import Answers, Given, Inbox, RequestLog
from workbench.serve.writing import Answer, ClientGone, event, said_of

MOST_BODY_BYTES = 1 << 20
CLIENT_CLOSED = 499
"""Status in the metrics of a request whose client went away, as in nginx."""
Handler = Callable[["Server", Request, str], Awaitable[Response]]
"""(server, request, name of the key) → response."""


@dataclass(frozen=True)
class Model:
    """A run that is served, under the name that requests give."""

    name: str
    number: int
    """Position on the command line."""
    kind: Literal["policy", "reward"]


@dataclass
class Server:
    """What the routes share."""

    models: Mapping[str, Model]
    engine: Engine
    keys: Keys
    inbox: Inbox
    metrics: Metrics
    log: RequestLog | None
    max_new_tokens: int
    """Of an answer, if the request does not say."""
    most_per_key: int
    """Requests of one key at one time."""
    answers: Answers = field(default_factory=Answers)
    active: Counter[str] = field(default_factory=Counter)
    created: int = field(default_factory=lambda: int(time.time()))

    def model(self, name: str, kind: str) -> Model:
        """The run of this name.

        Raises:
            Refusal: there is none, or it is of the other kind.
        """
        model = self.models.get(name)
        if model is None:
            message = f"the model {name!r} is not served here ({did_you_mean(name, self.models)})"
            raise Refusal(404, message, code="model_not_found", param="model")
        if model.kind != kind:
            route = "/v1/score" if kind == "policy" else "/v1/chat/completions"
            raise Refusal(400, f"{name!r} is a {model.kind} model: use {route}", code="wrong_model", param="model")
        return model

    @contextmanager
    def place(self, who: str) -> Any:
        """Count a request of a key while it runs.

        Raises:
            Refusal: the key has too many.
        """
        if self.active[who] >= self.most_per_key:
            raise Refusal(429, f"{self.most_per_key} requests of this key are running", code="too_many_requests")
        self.active[who] += 1
        try:
            yield
        finally:
            self.active[who] -= 1

    def account(self, who: str) -> int:
        """A number for a key, by which the engine shares its time fairly."""
        return list(self.keys.plain).index(who) if self.keys.needed else 0


def create_app(server: Server) -> Starlette:
    """The application."""

    async def health(_request: Request) -> Response:
        ready = server.engine.ready
        return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)

    def route(path: str, handler: Handler, method: str) -> Route:
        return Route(path, _guarded(server, path, handler), methods=[method])

    return Starlette(
        routes=[
            Route("/health", health),
            route("/metrics", _metrics, "GET"),
            route("/v1/models", _models, "GET"),
            route("/v1/chat/completions", _chat, "POST"),
            route("/v1/completions", _completions, "POST"),
            route("/v1/score", _score, "POST"),
            route("/v1/feedback", _feedback, "POST"),
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )


async def _metrics(server: Server, _request: Request, _who: str) -> Response:
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")


async def _models(server: Server, _request: Request, _who: str) -> Response:
    listed = [
        {"id": m.name, "object": "model", "created": server.created, "owned_by": "workbench", "kind": m.kind}
        for m in server.models.values()
    ]
    return JSONResponse({"object": "list", "data": listed})


async def _chat(server: Server, request: Request, who: str) -> Response:
    body = await _read(request, ChatBody)
    most = body.max_completion_tokens or body.max_tokens
    messages = [message.model_dump() for message in body.messages]
    return await _Writing(server, request, who, body, messages, most).response()


async def _completions(server: Server, request: Request, who: str) -> Response:
    body = await _read(request, CompletionBody)
    return await _Writing(server, request, who, body, body.prompt, body.max_tokens).response()


async def _score(server: Server, request: Request, who: str) -> Response:
    body = await _read(request, ScoreBody)
    rows = [[message.model_dump() for message in messages] for messages in body.conversations]
    want = WantScores(server.model(body.model, "reward").number, rows)
    with server.place(who):
        async with aclosing(said_of(server.engine, server.account(who), want, request.is_disconnected)) as lines:
            scores = [line["scores"] async for line in lines][-1]
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
    return JSONResponse({"object": "list", "model": body.model, "data": data})


async def _feedback(server: Server, request: Request, who: str) -> Response:
    body = await _read(request, FeedbackBody)
    given = server.answers.of(body.id, who)
    if given is None:
        raise Refusal(404, f"no answer {body.id!r} of this key is remembered", code="unknown_answer", param="id")
    new = await to_thread.run_sync(_store, server.inbox, body, given)
    return JSONResponse({"id": body.id, "object": "feedback", "new": new})


def _store(inbox: Inbox, body: FeedbackBody, given: Given) -> bool:
    """Store feedback; whether any of it was new."""
    corrected = body.correction is not None and inbox.correct(given, body.correction)
    rated = body.rating is not None and inbox.rate(given, good=body.rating > 0)
    return corrected or rated


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _refused(Refusal(status, f"{request.method} {request.url.path} is not a route of this server"))


def _refused(refusal: Refusal) -> Response:
    headers = {"Retry-After": "1"} if refusal.status in (429, 503) else {}
    return JSONResponse(refusal.content(), refusal.status, headers)


def _guarded(server: Server, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A route for those who have a key; its refusals as OpenAI's error JSON."""

    async def route(request: Request) -> Response:
        try:
            who = server.keys.name_of(request.headers.get("authorization", ""))
            if who is None:
                raise Refusal(401, "the API key is missing or wrong: Authorization: Bearer KEY", code="invalid_api_key")
            response = await handler(server, request, who)
        except Refusal as refusal:
            response = _refused(refusal)
        except ClientGone:
            server.metrics.cancelled.inc()
            response = Response(status_code=CLIENT_CLOSED)
        server.metrics.requests.labels(path, str(response.status_code)).inc()
        return response

    return route


async def _read(request: Request, kind: type[BodyT]) -> BodyT:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > MOST_BODY_BYTES:
            raise Refusal(413, f"the body has more than {MOST_BODY_BYTES:,} bytes", code="body_too_large")
    return parse(kind, bytes(raw))


class _Writing:
    """A request for text."""

    def __init__(
        self,
        server: Server,
        request: Request,
        who: str,
        body: ChatBody | CompletionBody,
        prompt: list[dict[str, str]] | str,
        most: int | None,
    ) -> None:
        model, chat = server.model(body.model, "policy"), isinstance(body, ChatBody)
        self._server, self._request, self._who, self._body, self._prompt = server, request, who, body, prompt
        self._want = Want(
            model.number,
            prompt,
            secrets.randbits(31) if body.seed is None else body.seed,
            max_new_tokens=most or server.max_new_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            stop=body.stops(),
        )
        self._answer = Answer(("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12), model.name, chat)
        self._began = time.monotonic()
        self._first: float | None = None

    async def response(self) -> Response:
        """The whole answer, or a stream of it whose first piece is there: until then, a refusal is a status."""
        pieces = self._pieces()
        if not self._body.stream:
            async with aclosing(pieces):
                async for _ in pieces:
                    pass
            return JSONResponse(self._answer.whole())
        try:
            first = await anext(pieces)
        except BaseException:
            await pieces.aclose()
            raise
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(first, pieces), media_type="text/event-stream", headers=headers)

    async def _pieces(self) -> Any:
        """The texts that the answer gets, one after another; at its end it is recorded."""
        server = self._server
        said = said_of(server.engine, server.account(self._who), self._want, self._request.is_disconnected)
        with server.place(self._who):
            async with aclosing(said):
                async for line in said:
                    new = self._answer.take(line)
                    if self._first is None:
                        self._first = time.monotonic() - self._began
                        server.metrics.first_token.observe(self._first)
                    if self._answer.finish is not None:
                        await self._record()
                    yield new

    async def _events(self, first: str, pieces: Any) -> AsyncIterator[str]:
        answer = self._answer
        async with aclosing(pieces):
            try:
                yield answer.chunk(first, first=True)
                async for new in pieces:
                    if new or answer.finish:
                        yield answer.chunk(new)
            except Refusal as refusal:
                yield event(refusal.content())
                return
            except ClientGone:
                return
            finally:
                if answer.finish is None:
                    self._server.metrics.cancelled.inc()
        if self._body.stream_options is not None and self._body.stream_options.include_usage:
            yield answer.usage_chunk()
        yield "data: [DONE]\n\n"

    async def _record(self) -> None:
        """Count and log the finished answer, and remember it for feedback."""
        server, answer = self._server, self._answer
        seconds = time.monotonic() - self._began
        for kind in ("prompt", "completion"):
            server.metrics.tokens.labels(answer.model, kind).inc(answer.usage[f"{kind}_tokens"])
        server.metrics.seconds.observe(seconds)
        if isinstance(self._prompt, list):
            server.answers.add(answer.id, Given(self._who, self._prompt, answer.text))
        if server.log is not None:
            row = {"time": time.time(), "id": answer.id, "key": self._who, "model": answer.model}
            row |= {"prompt": self._prompt, "answer": answer.text, "finish": answer.finish, **answer.usage}
            row |= {"first_token_seconds": self._first, "seconds": seconds}
            await to_thread.run_sync(server.log.write, row)
