"""Conversations that a base's chat template refuses. Mistral's requires alternating turns, Gemma's no system message.

Such a row is a bad row: `data.bad_rows` decides whether it is left out. The template is rendered here without a
tokenizer, so that a refusal is reported before a model library is loaded.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workbench.data.base_files import BaseFiles
from workbench.data.readers import places_of
from workbench.data.records import Demonstration, Message, Preference, Prompt
from workbench.data.rules import RowRules
from workbench.data.stored import StoredRecords
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
Render = Callable[[list[dict[str, str]]], object]
"""Renders a conversation, or raises jinja2's TemplateError."""
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""A tag that only transformers knows; it changes no text."""


def check_template(files: BaseFiles | None, records: Sequence[Prompt], *, source: Path, rules: RowRules) -> None:
    """Check that the base's own template accepts the conversations of a file.

    Raises:
        WorkbenchError: it refuses more than the rules leave out.
    """
    render = own_template(files) if files is not None else None
    if render is not None:
        accepted(render, records, source=source, rules=RowRules(rules.ignore, rules.bad_rows), quiet=True)


def own_template(files: BaseFiles) -> Render | None:
    """The base's own template, rendered as transformers does; None if there is none, or jinja2 cannot parse it."""
    text = _template_text(files)
    if text is None:
        return None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda _: "26 Jul 2024"}
    try:
        template = environment.from_string(_GENERATION.sub("", text))
    except TemplateError:
        return None  # the tokenizer reports the error
    tokens = {key: _token(files.tokenizer.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}

    def render(turns: list[dict[str, str]]) -> str:
        ends_with_user = turns[-1]["role"] == "user"
        return template.render(
            messages=turns, add_generation_prompt=ends_with_user, tools=None, documents=None, **tokens
        )

    return render


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _token(given: Any) -> str:
    return str(given.get("content", "")) if isinstance(given, Mapping) else str(given or "")


def _template_text(files: BaseFiles) -> str | None:
    apart = files.folder / "chat_template.jinja"
    if apart.is_file():
        return apart.read_text(encoding="utf-8")
    own: Any = files.tokenizer.get("chat_template")
    if isinstance(own, list):
        own = next((entry.get("template") for entry in own if entry.get("name") == "default"), None)
    return own if isinstance(own, str) else None


def accepted(
    render: Render, records: Sequence[Prompt], *, source: object, rules: RowRules | None = None, quiet: bool = False
) -> Sequence[int]:
    """The indices of the records whose conversation a template accepts; the others are bad rows.

    Args:
        render: the template.
        records: demonstrations or preferences with their answer, or prompts.
        source: their file.
        rules: how many may be left out; they are added to its list.
        quiet: no warning.

    Raises:
        WorkbenchError: it refuses more; the message has the first row and the template's reason.
    """
    reasons = refusals(render, records)
    if not reasons:
        return range(len(records))
    rules = rules or RowRules()
    first = min(reasons)
    if isinstance(records, StoredRecords):
        places = [records.place(index) for index in reasons]
    else:
        places = places_of(str(source), [records[index] for index in reasons])
    roles = ", ".join(message.role for message in conversation(records[first]))
    problem = f"the chat template of the base refuses this conversation ({roles}): {reasons[first]}"
    if not rules.drops(len(reasons), len(records)) or len(reasons) == len(records):
        more = f" (so are {len(reasons):,} of {len(records):,} rows)" if len(reasons) > 1 else ""
        raise WorkbenchError(places[0], problem + more, remedy=_remedy(records[first]))
    rules.left_out.extend(
        {"place": place, "problem": f"refused by the chat template: {reason}"}
        for place, reason in zip(places, reasons.values(), strict=True)
    )
    if not quiet:
        _log.warning(
            "%s: left out %d of %d rows; the first: %s: %s",
            *(source, len(reasons), len(records), places[0], problem),
        )
    return [index for index in range(len(records)) if index not in reasons]


def refusals(render: Render, records: Sequence[Prompt]) -> dict[int, str]:
    """Index of a refused record → the template's reason.

    A template only looks at roles, their order, and empty messages, so one conversation of each kind is rendered.
    """
    known: dict[tuple[tuple[str, bool], ...], str | None] = {}
    found: dict[int, str] = {}
    for index, record in enumerate(records):
        turns = conversation(record)
        kind = tuple((str(turn.role), bool(turn.content.strip())) for turn in turns)
        if kind not in known:
            known[kind] = _reason(render, turns)
        if (reason := known[kind]) is not None:
            found[index] = reason
    return found


def conversation(record: Prompt) -> list[Message]:
    """A record's messages, with its answer if it has one."""
    answer = record.response if isinstance(record, Demonstration) else None
    if isinstance(record, Preference):
        answer = record.chosen_text
    return [*record.prompt, *([] if answer is None else [Message(role="assistant", content=answer)])]


def _reason(render: Render, turns: Sequence[Message]) -> str | None:
    try:
        render([turn.model_dump() for turn in turns])
    except TemplateError as error:
        return str(error) or type(error).__name__
    return None


def _remedy(record: Prompt) -> str:
    roles = [message.role for message in conversation(record)]
    spoken = [role for role in roles if role != "system"]
    ways = []
    if any(a == b for a, b in pairwise(spoken)) or spoken[0] != "user":
        ways.append("begin with the user, and join consecutive turns of one speaker")
    if "system" in roles:
        ways.append("put the text of the system message in front of the first user turn")
    return "; ".join([*ways, "data.bad_rows=skip leaves out such rows"])
