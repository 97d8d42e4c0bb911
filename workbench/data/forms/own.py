"""Records that our own programs wrote, and the check that values make a record."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example, Form
from workbench.data.forms.fields import empty_row, messages_of, not_blank, prompt_of
from workbench.data.records import Item, Preference, RatedAnswer
from workbench.run.errors import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)


def record_of(row: Row, model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """A record of these values, or an error at the row that names the first wrong value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or model.__name__.lower()
        raise row.fail(f"{field!r}: {first['msg']}, found {str(first['input'])[:60]!r}") from None


def own_record(row: Row, model: type[ModelT]) -> ModelT:
    """The record that a row of our own form holds; unknown columns are left out, unless one looks misspelt."""
    known = set(model.model_fields)
    absent = known - set(row.fields)
    for name in set(row.fields) - known:
        close = nearest(name, absent)
        if close and (sorted(name) == sorted(close) or abs(len(name) - len(close)) == 1):
            raise row.fail(f"unknown field {name!r}", remedy=f"did you mean {close!r}?")
    return record_of(row, model, {name: value for name, value in row.fields.items() if name in known})


def _preference(row: Row) -> Example:
    chosen, rejected = (messages_of(row, name)[-1].content for name in ("chosen", "rejected"))
    not_blank(row, "chosen", chosen)
    if chosen == rejected:
        raise empty_row(row, f"'chosen' and 'rejected' are the same: {chosen[:60]!r}", "two different responses")
    record = own_record(row, Preference)
    texts = (record.chosen_text, record.rejected_text)
    return Example(record.prompt, texts, record.strength, record=record)


def _item(row: Row) -> Example:
    record = own_record(row, Item)
    return Example(record.prompt, tuple(response.text for response in record.responses), record=record)


def _rated_answer(row: Row) -> Example:
    fields: dict[str, Any] = {
        name: row.fields[name] for name in ("id", "prompt", "group", "weight", "split") if name in row.fields
    }
    (answer,) = messages_of(row, "completion")
    fields |= {"response": answer.content, "desirable": row.fields["label"]}
    record = record_of(row, RatedAnswer, fields)
    return Example(record.prompt, (record.response,), good=record.desirable, record=record)


def _holds_one_answer(row: Row) -> bool:
    lists = all(isinstance(row.fields[name], list | tuple) for name in ("prompt", "completion"))
    return lists and len(row.fields["completion"]) == 1 and isinstance(row.fields["label"], bool)


def _holds_objects(row: Row) -> bool:
    listed = row.fields["responses"]
    ours = isinstance(listed, list | tuple) and all(isinstance(entry, Mapping) and "id" in entry for entry in listed)
    return ours and not isinstance(row.fields["prompt"], str)


PREFERENCE = Form(
    ("prompt", "chosen", "rejected", "group"),
    when=lambda row: isinstance(row.fields["chosen"], list | tuple),
    prompt=lambda row: prompt_of(row, "prompt"),
    example=_preference,
    may_have=(*Preference.model_fields, *CATEGORIES),
)
ITEM = Form(
    ("prompt", "responses", "id", "group"),
    when=_holds_objects,
    prompt=lambda row: prompt_of(row, "prompt"),
    example=_item,
    may_have=tuple(Item.model_fields),
)
RATED_ANSWER = Form(
    ("prompt", "completion", "label", "group", "id"),
    when=_holds_one_answer,
    prompt=lambda row: prompt_of(row, "prompt"),
    example=_rated_answer,
    may_have=("weight", "split"),
)
"""The columns that TRL's `KTOTrainer` reads, with ours beside them."""
