"""The requests of the API, in OpenAI's form. What is not supported is refused by name, never ignored."""

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workbench.run.errors import did_you_mean

NEUTRAL: dict[str, Any] = {
    **{"n": 1, "best_of": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "tools": []},
    **{"logprobs": False, "top_logprobs": 0, "echo": False, "suffix": "", "store": False, "response_format": None},
    **{"parallel_tool_calls": True, "service_tier": "auto", "modalities": ["text"]},
}
"""Parameters of OpenAI's that have no effect at these values; at any other value they are refused."""


class Refusal(Exception):
    """A request that is refused, as OpenAI's error JSON says it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def content(self) -> dict[str, Any]:
        """The JSON."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _text(content: object) -> object:
    """The text of a message's content: a string, or a list of parts of the type text."""
    if not isinstance(content, list):
        return content
    parts = [part if isinstance(part, dict) else {} for part in content]
    if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in parts):
        raise ValueError("only parts of the type 'text' are supported")
    return "".join(part["text"] for part in parts)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChatMessage(_Body):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text)]


Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
StopText = Annotated[str, Field(min_length=1, max_length=200)]


def _is_neutral(name: str, value: object) -> bool:
    """Whether a value has no effect; `logprobs: 0` has one, unlike `false`: it asks for those of the chosen tokens."""
    neutral = NEUTRAL[name]
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


class _StreamOptions(_Body):
    include_usage: bool = False


class _Writing(_Body):
    """What both forms of asking for text share."""

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        wrong = [name for name in NEUTRAL if given.get(name) is not None and not _is_neutral(name, given[name])]
        if wrong:
            raise ValueError("; ".join(f"{name} is supported only as {json.dumps(NEUTRAL[name])}" for name in wrong))
        return {name: value for name, value in given.items() if name not in NEUTRAL}

    @model_validator(mode="after")
    def _streamed(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    def stops(self) -> list[str]:
        """The texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])


class ChatBody(_Writing):
    """`/v1/chat/completions`."""

    messages: Conversation
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _user_last(self) -> "ChatBody":
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; expected: one of them")
        if self.messages[-1].role != "user":
            raise ValueError(f"messages end with a message of the {self.messages[-1].role}; expected: of the user")
        return self


class CompletionBody(_Writing):
    """`/v1/completions`: continues a text, without the chat template."""

    prompt: str


class ScoreBody(_Body):
    """`/v1/score`: the scores of conversations that end with an answer."""

    model: str
    conversations: Annotated[list[Conversation], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _answered(self) -> "ScoreBody":
        for number, messages in enumerate(self.conversations):
            if [message.role for message in messages[-2:]] != ["user", "assistant"]:
                raise ValueError(f"conversation {number} must end with a message of the user and one of the assistant")
        return self


class FeedbackBody(_Body):
    """`/v1/feedback`: a thumb, a correction, or both, for an answer that this server gave."""

    id: str
    """Of the answer."""
    rating: Literal[1, -1] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=200_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackBody":
        if self.rating is None and self.correction is None:
            raise ValueError("rating (1 or -1) or correction (a text) is missing")
        return self


BodyT = TypeVar("BodyT", bound=_Body)


def parse(kind: type[BodyT], raw: bytes) -> BodyT:
    """A request's body.

    Raises:
        Refusal: it is not JSON, or a parameter is unknown, unsupported or wrong; all problems in one message.
    """
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    first = ".".join(_place(problems[0])) or None
    raise Refusal(400, "; ".join(_problem(kind, problem) for problem in problems), code="invalid_value", param=first)


def _place(problem: Any) -> list[str]:
    """Where a problem is; `stop` has two forms, whose names are pydantic's own."""
    loc = [str(part) for part in problem["loc"]]
    return [*loc[:1], *loc[2:]] if loc[:1] == ["stop"] else loc


def _problem(kind: type[BaseModel], problem: Any) -> str:
    place = ".".join(_place(problem))
    if problem["type"] == "extra_forbidden":
        known = did_you_mean(place, kind.model_fields) if len(problem["loc"]) == 1 else "remove it"
        return f"{place} is not supported here ({known})"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
