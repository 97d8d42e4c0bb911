"""The forms of records that people have, each with what makes our record of a row. Knows no file format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from workbench.data.fields import (
    answer_of,
    ends_with_user,
    last_answer,
    messages_of,
    not_blank,
    part_conversations,
    part_transcripts,
    prompt_of,
    text_of,
    worthless,
)
from workbench.data.records import (
    Demonstration,
    Item,
    LabelledText,
    Message,
    Preference,
    Prompt,
    content_id,
    prompt_id,
)
from workbench.data.sources import Row
from workbench.run.errors import nearest

RecordT = TypeVar("RecordT", bound=BaseModel)
ModelT = TypeVar("ModelT", bound=BaseModel)
Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Form(Generic[RecordT]):
    """A way to write a record: the fields it needs, and how to read them."""

    needs: tuple[str, ...]
    read: Callable[[Row], RecordT]
    may_have: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The form as its fields."""
        return ", ".join(self.needs)

    def shape(self, row: Row) -> str:
        """The form with the shape of its first field: text and messages are not mixed in one file."""
        value = row.fields[self.needs[0]]
        return f"{self.name} ({'messages' if isinstance(value, list | tuple) else 'text'})"

    def fits(self, row: Row) -> bool:
        """Whether the row has all that the form needs."""
        return all(name in row.fields for name in self.needs)


def _id(row: Row, otherwise: str) -> str:
    given = row.fields.get("id")
    return str(given) if isinstance(given, str | int) and str(given) else otherwise


def _prompt(row: Row, prompt: Messages) -> Prompt:
    return Prompt(id=_id(row, prompt_id(prompt)), prompt=prompt)


def _demonstration(row: Row, prompt: Messages, response: str) -> Demonstration:
    return Demonstration(id=_id(row, prompt_id(prompt)), prompt=prompt, response=response)


def _instruction(row: Row) -> Messages:
    """Alpaca: the instruction, a blank line, the input; a `system` column becomes a system message."""
    parts = [answer_of(row, "instruction")]
    if "input" in row.fields and text_of(row, "input").strip():
        parts.append(text_of(row, "input"))
    user = Message(role="user", content="\n\n".join(parts))
    if "system" in row.fields and text_of(row, "system").strip():
        return (Message(role="system", content=text_of(row, "system")), user)
    return (user,)


def _conversation(row: Row) -> tuple[Messages, str]:
    messages = messages_of(row, "messages")
    response = last_answer(row, "messages", messages[-1:])
    return ends_with_user(row, "messages", messages[:-1]), not_blank(row, "messages", response)


def _conversation_prompt(row: Row) -> Messages:
    messages = messages_of(row, "messages")
    last = max((index for index, turn in enumerate(messages) if turn.role == "user"), default=-1)
    return ends_with_user(row, "messages", messages[: last + 1])


def _completion(row: Row) -> str:
    if isinstance(row.fields["completion"], list | tuple):
        return not_blank(row, "completion", last_answer(row, "completion", messages_of(row, "completion")))
    return answer_of(row, "completion").removeprefix(" ")


def _pair(row: Row) -> tuple[Messages, str, str]:
    """Prompt, chosen and rejected of a pair in any of its shapes."""
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    if isinstance(chosen, list | tuple) or isinstance(rejected, list | tuple):
        return _conversational_pair(row)
    if "prompt" in row.fields:
        prompt, first, second = prompt_of(row, "prompt"), text_of(row, "chosen"), text_of(row, "rejected")
    else:
        opening, first, second = part_transcripts(row, text_of(row, "chosen"), text_of(row, "rejected"))
        opened = Row(row.place, {"chosen": opening})
        prompt = prompt_of(opened, "chosen")
    return prompt, first.removeprefix(" "), second.removeprefix(" ")


def _conversational_pair(row: Row) -> tuple[Messages, str, str]:
    chosen, rejected = messages_of(row, "chosen"), messages_of(row, "rejected")
    if len(chosen) > 1 or "prompt" not in row.fields:
        return part_conversations(row, chosen, rejected)
    prompt = prompt_of(row, "prompt")
    return prompt, last_answer(row, "chosen", chosen), last_answer(row, "rejected", rejected)


def _preference(row: Row) -> Preference:
    prompt, chosen, rejected = _pair(row)
    not_blank(row, "chosen", chosen)
    if chosen == rejected:
        problem = f"'chosen' and 'rejected' are the same: {chosen[:60]!r}"
        raise worthless(row, problem, "two different responses")
    if "group" in row.fields:
        return _validated(row, Preference)
    return Preference(
        id=_id(row, content_id([prompt_id(prompt), chosen, rejected])),
        group=prompt_id(prompt),
        prompt=prompt,
        chosen=(Message(role="assistant", content=chosen),),
        rejected=(Message(role="assistant", content=rejected),),
    )


def _pair_prompt(row: Row) -> Prompt:
    if "prompt" in row.fields:
        return _prompt(row, prompt_of(row, "prompt"))
    return _prompt(row, _pair(row)[0])


def _labelled(row: Row) -> LabelledText:
    label = row.fields["label"]
    if not isinstance(label, str | int) or not str(label).strip():
        raise row.fail(f"'label' is {label!r}", expected="a class, as text or a whole number")
    text = answer_of(row, "text")
    return LabelledText(id=_id(row, content_id([text])), text=text, label=str(label))


def _validated(row: Row, model: type[ModelT]) -> ModelT:
    """A record of our own form; columns it does not know are left out, unless one looks misspelt."""
    known = set(model.model_fields)
    absent = known - set(row.fields)
    for name in set(row.fields) - known:
        close = nearest(name, absent)
        if (close and sorted(name) == sorted(close)) or (close and abs(len(name) - len(close)) == 1):
            raise row.fail(f"unknown field {name!r}", remedy=f"did you mean {close!r}?")
    try:
        return model.model_validate({name: value for name, value in row.fields.items() if name in known})
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or model.__name__.lower()
        raise row.fail(f"{place!r}: {first['msg']}, found {str(first['input'])[:60]!r}") from None


DEMONSTRATION_FORMS: tuple[Form[Demonstration], ...] = (
    Form(
        ("prompt", "response"),
        lambda row: _demonstration(row, prompt_of(row, "prompt"), answer_of(row, "response")),
        ("id",),
    ),
    Form(
        ("prompt", "completion"), lambda row: _demonstration(row, prompt_of(row, "prompt"), _completion(row)), ("id",)
    ),
    Form(
        ("instruction", "output"),
        lambda row: _demonstration(row, _instruction(row), answer_of(row, "output")),
        ("input", "system", "id"),
    ),
    Form(("messages",), lambda row: _demonstration(row, *_conversation(row)), ("id",)),
)

PREFERENCE_FORMS: tuple[Form[Preference], ...] = (
    Form(("chosen", "rejected", "prompt"), _preference, ("id", "group")),
    Form(("chosen", "rejected"), _preference, ("id", "prompt")),
)

PROMPT_FORMS: tuple[Form[Prompt], ...] = (
    Form(("chosen", "rejected"), _pair_prompt, ("prompt", "id")),
    Form(("prompt",), lambda row: _prompt(row, prompt_of(row, "prompt")), ("id",)),
    Form(("instruction",), lambda row: _prompt(row, _instruction(row)), ("input", "system", "id")),
    Form(("messages",), lambda row: _prompt(row, _conversation_prompt(row)), ("id",)),
    Form(("text",), lambda row: _prompt(row, prompt_of(row, "text")), ("label", "id")),
)

LABELLED_FORMS: tuple[Form[LabelledText], ...] = (Form(("text", "label"), _labelled, ("id",)),)

ITEM_FORMS: tuple[Form[Item], ...] = (
    Form(("prompt", "responses", "id", "group"), lambda row: _validated(row, Item), ("round",)),
)

TEXT_FORMS: tuple[Form[LabelledText], ...] = (
    Form(("text",), lambda row: LabelledText(id="text", text=answer_of(row, "text"), label="text"), ("label",)),
)
