"""The records that the phases exchange. Knows no file format and no model."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NonEmpty = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def with_last(prompt: Sequence[Message], text: str) -> tuple[Message, ...]:
    """A prompt with another text in its last message, which is the user's."""
    return (*prompt[:-1], Message(role="user", content=text))


def prompt_id(prompt: Sequence[Message]) -> str:
    """The id of a prompt: the same messages have the same id in every file."""
    return content_id([[message.role, message.content] for message in prompt])


def content_id(content: object) -> str:
    """16 hex digits of the SHA-256 of any JSON value."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]


class Prompt(_Record):
    """Messages that end with a turn of the user."""

    id: NonEmpty
    prompt: Annotated[tuple[Message, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ends_with_user(self) -> "Prompt":
        if self.prompt[-1].role != "user":
            raise ValueError(f"prompt must end with a user message, ends with {self.prompt[-1].role!r}")
        return self


class LabelledText(_Record):
    """A text with its classes (classification): one, or any number if the task is multi-label."""

    id: NonEmpty
    text: NonEmpty
    labels: tuple[NonEmpty, ...]


class Demonstration(Prompt):
    """A prompt with a response to imitate (supervised fine-tuning)."""

    response: NonEmpty


class RatedAnswer(Demonstration):
    """An answer that is marked as good or bad by itself (KTO); `group` is the prompt's id."""

    response: str
    group: NonEmpty
    desirable: bool
    weight: Annotated[float, Field(ge=0)] = 1.0
    split: Literal["train", "heldout"] | None = None
    """As in a preference."""

    def certainty(self, *, soft: bool) -> tuple[float, float]:
        """As of a preference, of which a mark is one side: certain, at the record's weight."""
        return 1.0, self.weight


class Response(_Record):
    """One sampled answer: its `run`, its sampling `temperature`, and whether it `ended` with EOS."""

    id: NonEmpty
    text: str
    run: str = ""
    temperature: float | None = None
    ended: bool = True


class Item(Prompt):
    """A prompt with two or more responses to label; `group` is the prompt's id."""

    group: NonEmpty
    responses: Annotated[tuple[Response, ...], Field(min_length=2)]
    round: int = 0
    priority: float | None = None
    """Items with a higher priority are labelled first; None: no priority of its own."""
    known_strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    """The right answer of an item that tests annotators, from -3 (the first response is much better) to 3."""
    kind: Literal["training"] | None = None
    """`training`: annotators get the item first, and see `known_strength` and `why` after their answer."""
    why: str = ""
    """Why the known answer of a training item is right."""

    @model_validator(mode="after")
    def _taught(self) -> "Item":
        if self.kind == "training" and (self.known_strength is None or not self.why.strip()):
            raise ValueError("an item of the kind training needs known_strength and why")
        if self.why and self.kind != "training":
            raise ValueError("why belongs to items of the kind training")
        return self

    @model_validator(mode="after")
    def _known_of_two(self) -> "Item":
        if self.known_strength is not None and len(self.responses) != 2:
            raise ValueError(f"known_strength is for 2 responses, not {len(self.responses)}")
        return self


class ItemLabel(_Record):
    """A judgement of an item that somebody made elsewhere; exactly one of `strength`, `ranking`, `both_bad` is set."""

    annotator: str = ""
    """Their name in the file; empty: the file does not say."""
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    """For two responses: from -3 (the first is much better) to 3."""
    ranking: tuple[int, ...] | None = None
    """For more responses: a rank per response; 1 is best, equal ones share a rank."""
    both_bad: bool = False
    comment: str = ""


class LabelledItem(_Record):
    """An item and the judgements of it in the same file."""

    item: Item
    labels: tuple[ItemLabel, ...] = ()

    @property
    def id(self) -> str:
        """The item's id."""
        return self.item.id


class LabelsOf(_Record):
    """Judgements of an item whose texts are in another file."""

    id: NonEmpty
    """The item's id."""
    labels: tuple[ItemLabel, ...]


class Span(_Record):
    """A passage of an answer that an annotator marked."""

    answer: Literal["chosen", "rejected"]
    start: Annotated[int, Field(ge=0)]
    """First character, in code points of the answer's text."""
    end: int
    """Character after the last one."""
    label: NonEmpty


class Preference(Prompt):
    """A resolved comparison; `chosen` and `rejected` are one assistant message each, as TRL reads them."""

    group: NonEmpty
    chosen: Annotated[tuple[Message, ...], Field(min_length=1, max_length=1)]
    rejected: Annotated[tuple[Message, ...], Field(min_length=1, max_length=1)]
    strength: Annotated[float, Field(ge=0, le=3)] = 1.0
    """0 tie, 1 slightly better, 2 better, 3 much better."""
    annotators: tuple[str, ...] = ()
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the judgements for `chosen`, a tie counting ½; None: only one judgement."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability that `chosen` is the better one, a tie counting ½: the target of a soft label. None: unknown."""
    resolution: str = ""
    """How the judgements were resolved: majority, dawid-skene, single, adjudicated, edited."""
    category: str = ""
    """The kind of pair, if the file names it: accuracy is then also reported per category."""
    chosen_run: str = ""
    rejected_run: str = ""
    round: int = 0
    difficulty: Annotated[float, Field(ge=0, le=1)] | None = None
    """How hard the pair is to tell apart, 0 easy; None where nobody measured it."""
    split: Literal["train", "heldout"] | None = None
    """None: the file does not say, and the phase splits by group."""
    reasons: tuple[str, ...] = ()
    """Why the annotators judged so: each label as often as annotators gave it."""
    spans: tuple[Span, ...] = ()
    """Marked passages of both answers; one that several annotators marked occurs several times."""

    @model_validator(mode="after")
    def _spans_are_in_the_text(self) -> "Preference":
        for span in self.spans:
            length = len(self.chosen_text if span.answer == "chosen" else self.rejected_text)
            if not span.start < span.end <= length:
                raise ValueError(
                    f"span {span.start} … {span.end} of the {span.answer} answer, which has {length} characters"
                )
        return self

    @model_validator(mode="after")
    def _differ(self) -> "Preference":
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same text")
        return self

    def certainty(self, *, soft: bool) -> tuple[float, float]:
        """The probability that the chosen response is the better one, and the weight of saying so.

        Dawid-Skene's weight is |2 probability − 1| if nothing speaks for a tie: to use both would discount doubt twice.

        Args:
            soft: the record's `probability`, if it has one, at weight 1; else a certain label at the record's weight.
        """
        if soft and self.probability is not None:
            return self.probability, 1.0
        return 1.0, self.weight if self.strength > 0 else 1.0  # exports give a tie no weight

    @property
    def chosen_text(self) -> str:
        """The preferred response."""
        return self.chosen[0].content

    @property
    def rejected_text(self) -> str:
        """The other response."""
        return self.rejected[0].content
