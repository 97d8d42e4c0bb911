"""The forms of records that people have, each with what makes our record of a row. Knows no file format."""

import json
from collections.abc import Callable, Mapping, Sequence
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
CATEGORIES = ("category", "subset", "source")
"""Columns of public pair files that say what kind of pair it is, the finest first."""
_ITEM_EXTRAS = ("round", "priority", "known_strength")


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
        category=_category(row),
    )


def _category(row: Row) -> str:
    """The first of the columns that pair files use for the kind of a pair."""
    given = (row.fields.get(name) for name in CATEGORIES)
    return next((value.strip() for value in given if isinstance(value, str) and value.strip()), "")


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


def _item(row: Row, texts: Sequence[str]) -> Item:
    """An item of plain texts; what the file does not say is made from the contents."""
    prompt = prompt_of(row, "prompt")
    group = str(row.fields.get("group") or prompt_id(prompt))
    fields: dict[str, Any] = {name: row.fields[name] for name in _ITEM_EXTRAS if str(row.fields.get(name, "")).strip()}
    fields |= {"id": _id(row, content_id([prompt_id(prompt), *texts])), "group": group, "prompt": prompt}
    fields["responses"] = tuple({"id": str(number), "text": text} for number, text in enumerate(texts))
    return _validated(Row(row.place, fields), Item)


def _listed_responses(row: Row) -> list[str]:
    """`responses` as a list of texts, or of objects with a `text`; in CSV the list may be written as JSON."""
    listed = row.fields["responses"]
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except json.JSONDecodeError:
            raise row.fail(f"'responses' is text: {listed[:60]!r}", expected="a list of texts") from None
    if isinstance(listed, list | tuple):
        texts = [entry.get("text") if isinstance(entry, Mapping) else entry for entry in listed]
        if len(texts) >= 2 and all(isinstance(text, str) for text in texts):
            return [str(text) for text in texts]
    raise row.fail(f"'responses' is {str(listed)[:60]!r}", expected="a list of at least two texts")


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


def _own_item(row: Row) -> Item:
    """An item as our own programs write it; texts alone are taken too."""
    listed = row.fields["responses"]
    ours = isinstance(listed, list | tuple) and all(isinstance(entry, Mapping) and "id" in entry for entry in listed)
    if ours and not isinstance(row.fields["prompt"], str):
        return _validated(row, Item)
    return _item(row, _listed_responses(row))


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
    Form(("chosen", "rejected", "prompt"), _preference, ("id", "group", *CATEGORIES)),
    Form(("chosen", "rejected"), _preference, ("id", "prompt", *CATEGORIES)),
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
    Form(("prompt", "responses", "id", "group"), _own_item, ("round", "priority", "known_strength")),
    Form(
        ("prompt", "response_a", "response_b"),
        lambda row: _item(row, [text_of(row, "response_a"), text_of(row, "response_b")]),
        ("id", "group", *_ITEM_EXTRAS),
    ),
    Form(("prompt", "responses"), lambda row: _item(row, _listed_responses(row)), ("id", "group", *_ITEM_EXTRAS)),
)

TEXT_FORMS: tuple[Form[LabelledText], ...] = (
    Form(("text",), lambda row: LabelledText(id="text", text=answer_of(row, "text"), label="text"), ("label",)),
)
