"""Records as our own programs write them. Each reader is pure."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example, Form
from workbench.data.forms.fields import messages_of, not_blank, prompt_of, worthless
from workbench.data.records import Item, Preference
from workbench.run.errors import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(row: Row, model: type[ModelT]) -> ModelT:
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


def _preference(row: Row) -> Example:
    chosen, rejected = (messages_of(row, name)[-1].content for name in ("chosen", "rejected"))
    not_blank(row, "chosen", chosen)
    if chosen == rejected:
        raise worthless(row, f"'chosen' and 'rejected' are the same: {chosen[:60]!r}", "two different responses")
    record = validated(row, Preference)
    texts = (record.chosen_text, record.rejected_text)
    return Example(record.prompt, texts, record.strength, record=record)


def _item(row: Row) -> Example:
    record = validated(row, Item)
    return Example(record.prompt, tuple(response.text for response in record.responses), record=record)


def _holds_objects(row: Row) -> bool:
    listed = row.fields["responses"]
    ours = isinstance(listed, list | tuple) and all(isinstance(entry, Mapping) and "id" in entry for entry in listed)
    return ours and not isinstance(row.fields["prompt"], str)


OWN: tuple[Form, ...] = (
    Form(
        ("prompt", "chosen", "rejected", "group"),
        lambda row: prompt_of(row, "prompt"),
        _preference,
        (*Preference.model_fields, *CATEGORIES),
        when=lambda row: isinstance(row.fields["chosen"], list | tuple),
    ),
    Form(
        ("prompt", "responses", "id", "group"),
        lambda row: prompt_of(row, "prompt"),
        _item,
        tuple(Item.model_fields),
        when=_holds_objects,
    ),
)
