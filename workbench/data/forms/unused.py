"""Every column of a file is read or named: what no form reads is said once, and text that would be lost is an error."""

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import Form
from workbench.data.forms.fields import short
from workbench.data.forms.judgements import SIGNED, WINNERS
from workbench.data.records import Message

TEXTS = (
    *("system", "system_prompt", "system_message", "input", "context", "history", "instruction", "prompt"),
    *("question", "query", "messages", "conversations", "conversation", "document", "passage", "tools", "functions"),
)
"""Columns that usually carry text of the prompt: left unread, the model would be trained on another prompt."""
JUDGEMENTS = (*SIGNED, *WINNERS, "winner_model_a", "winner_model_b", "winner_tie")
"""Columns that say which answer is better: left unread beside one answer, a worse one would be imitated."""
_OF_A_MESSAGE = ("role", "content", "from", "value", "weight")


class Columns:
    """The columns of one file that its form does not read."""

    def __init__(self) -> None:
        self.unread: dict[str, None] = {}

    def see(self, row: Row, form: Form, texts: Iterable[str], *, imitated: bool) -> None:
        """Take in one row.

        Args:
            row: with canonical names.
            form: the row's form.
            texts: what is used of the row; a column that repeats it is not lost.
            imitated: whether the row's one answer is trained on.

        Raises:
            WorkbenchError: a column with text of the prompt, or with a judgement of what is imitated, is not read.
        """
        used = {*form.uses(row), "id"}  # every record takes its row's id
        for name, value in row.fields.items():
            if name in used:
                self._see_messages(name, value)
            elif not _blank(value) and name not in self.unread:
                self._see_unread(row, form, name, value, texts, imitated)

    def _see_unread(self, row: Row, form: Form, name: str, value: Any, texts: Iterable[str], imitated: bool) -> None:
        way_out = f"data.ignore=[{name}] (a verb: --ignore {name}) leaves the column unread"
        if name in TEXTS:
            if _repeats(value, "\n".join(texts)):
                return
            raise row.fail(
                f"the column {name!r} holds text that no form with {form.name} reads: {short(value)}",
                expected=f"{form.name}; it may have: {', '.join(form.may_have) or 'nothing else'}",
                remedy=f"write the text into {form.needs[0]!r}, or {way_out}",
            )
        if name in JUDGEMENTS and imitated:
            raise row.fail(
                f"the column {name!r} judges answers ({short(value)}), and sft would imitate good and bad ones alike",
                expected=form.name,
                remedy=f"keep the rows with a good answer; {way_out}",
            )
        self.unread[name] = None

    def _see_messages(self, name: str, value: Any) -> None:
        """Keys of messages beyond role and content, such as a name."""
        turns = value if isinstance(value, list | tuple) else ()
        for turn in turns:
            if isinstance(turn, Mapping) and ("role" in turn or "from" in turn):
                for key, content in turn.items():
                    if key not in _OF_A_MESSAGE and not _blank(content):
                        self.unread[f"{name}[].{key}"] = None


def texts_of(prompt: Iterable[Message], responses: Iterable[str] = ()) -> list[str]:
    """All text that is used of a row."""
    return [*(message.content for message in prompt), *responses]


def leaves(value: Any) -> list[str]:
    """All text in a value, however nested."""
    if isinstance(value, str):
        return [value]
    nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for entry in nested for text in leaves(entry)]


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "[]")) or value in ([], {}, ())


def _repeats(value: Any, used: str) -> bool:
    """Whether all text in a value stands in what is used."""
    if isinstance(value, str):
        return value.strip() in used
    if isinstance(value, Mapping):
        return all(_repeats(entry, used) for key, entry in value.items() if key not in ("role", "from"))
    if isinstance(value, list | tuple):
        return all(_repeats(entry, used) for entry in value)
    return True
