"""Columns that no form reads: named once, or an error if text or a judgement in them would be lost."""

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import Form
from workbench.data.forms.fields import short
from workbench.data.forms.judgements import SIGNED, WINNERS

TEXTS = (
    *("system", "system_prompt", "system_message", "input", "context", "history", "instruction", "prompt"),
    *("question", "query", "messages", "conversations", "conversation", "document", "passage", "tools", "functions"),
)
"""Columns that usually hold text of the prompt: without it, the model would be trained on another prompt."""
JUDGEMENTS = (*SIGNED, *WINNERS, "winner_model_a", "winner_model_b", "winner_tie")
"""Columns that judge answers: if they are not read, bad answers would be imitated."""
_OF_A_MESSAGE = ("role", "content", "from", "value", "weight")


class UnusedColumns:
    """The columns of one file that its form does not read."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def see(self, row: Row, form: Form, texts: Iterable[str], *, imitated: bool) -> None:
        """Add the unused columns of one row.

        Args:
            row: with canonical names.
            form: the row's form.
            texts: all text that is used of the row; a column that repeats it is not lost.
            imitated: whether the row's answer is trained on.

        Raises:
            WorkbenchError: an unused column holds text of the prompt, or a judgement of an imitated answer.
        """
        used = {*form.uses(row), "id"}  # every record takes the id of its row
        for name, value in row.fields.items():
            if name in used:
                self._see_messages(name, value)
            elif not _blank(value) and name not in self.names:
                self._see_unused(row, form, name, value, texts, imitated)

    def _see_unused(self, row: Row, form: Form, name: str, value: Any, texts: Iterable[str], imitated: bool) -> None:
        skip = f"data.ignore=[{name}] (a verb: --ignore {name}) skips the column"
        if name in TEXTS:
            if _repeats(value, "\n".join(texts)):
                return
            raise row.fail(
                f"the column {name!r} holds text that no form with {form.name} reads: {short(value)}",
                expected=f"{form.name}; it may have: {', '.join(form.may_have) or 'nothing else'}",
                remedy=f"write the text into {form.needs[0]!r}, or {skip}",
            )
        if name in JUDGEMENTS and imitated:
            raise row.fail(
                f"the column {name!r} judges answers ({short(value)}), and sft would imitate good and bad ones alike",
                expected=form.name,
                remedy=f"keep the rows with a good answer; {skip}",
            )
        self.names[name] = None

    def _see_messages(self, name: str, value: Any) -> None:
        """Add keys of messages beyond role and content, such as a name."""
        for turn in value if isinstance(value, list | tuple) else ():
            if isinstance(turn, Mapping) and ("role" in turn or "from" in turn):
                unused = (key for key, held in turn.items() if key not in _OF_A_MESSAGE and not _blank(held))
                self.names.update(dict.fromkeys(f"{name}[].{key}" for key in unused))


def leaves(value: Any) -> list[str]:
    """All text in a nested value."""
    if isinstance(value, str):
        return [value]
    nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for entry in nested for text in leaves(entry)]


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "[]")) or value in ([], {}, ())


def _repeats(value: Any, used: str) -> bool:
    """Whether all text in a value is part of the used text; names of speakers do not count."""
    if isinstance(value, Mapping):
        value = {key: entry for key, entry in value.items() if key not in ("role", "from")}
        return all(_repeats(entry, used) for entry in value.values())
    if isinstance(value, list | tuple):
        return all(_repeats(entry, used) for entry in value)
    return not isinstance(value, str) or value.strip() in used
