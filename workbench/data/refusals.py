"""Conversations that a base's chat template refuses: Mistral's wants turns that alternate, Gemma's no system message.

They are bad rows like others: named, counted, and left out or an error by `data.bad_rows`. The template is rendered
here without a tokenizer, so that a refusal is known before a model library is loaded.
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
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
Render = Callable[[list[dict[str, str]]], object]
"""Renders a conversation, or raises jinja2's TemplateError."""
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""A tag of transformers alone; it changes no text."""


def check_template(files: BaseFiles | None, records: Sequence[Prompt], *, source: Path, rules: RowRules) -> None:
    """The base's own template takes the conversations of a file, but for as many as may be left out.

    Raises:
        WorkbenchError: it refuses more.
    """
    render = own_template(files) if files is not None else None
    if render is not None:
        accepted(render, records, source=source, rules=RowRules(rules.ignore, rules.bad_rows), quiet=True)


def own_template(files: BaseFiles) -> Render | None:
    """The template that a base brings, as transformers renders it; None for a base without, or one that is odd."""
    text = _template_text(files)
    if text is None:
        return None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda _: "26 Jul 2024"}
    try:
        template = environment.from_string(_GENERATION.sub("", text))
    except TemplateError:
        return None  # the tokenizer will say what is wrong with it
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
) -> list[int]:
    """Indices of the records whose conversation a template takes; the others are left out as bad rows.

    Args:
        render: the template.
        records: demonstrations and preferences with their answer, or prompts.
        source: their file.
        rules: how many may be left out; those that were are added to its list.
        quiet: no warning.

    Raises:
        WorkbenchError: more are refused than may be left out; it names the first row and what the template said.
    """
    said = refusals(render, records)
    if not said:
        return list(range(len(records)))
    rules = rules or RowRules()
    first, where = min(said), places_of(str(source), [records[index] for index in said])
    roles = ", ".join(message.role for message in conversation(records[first]))
    problem = f"the chat template of the base refuses this conversation ({roles}): {said[first]}"
    if not rules.drops(len(said), len(records)) or len(said) == len(records):
        more = f" (so are {len(said):,} of {len(records):,} rows)" if len(said) > 1 else ""
        raise WorkbenchError(where[0], problem + more, remedy=_remedy(records[first]))
    rules.left_out.extend(
        {"place": row, "problem": f"refused by the chat template: {said[i]}"}
        for row, i in zip(where, said, strict=True)
    )
    if not quiet:
        _log.warning(
            "%s: left out %d of %d rows; the first: %s", source, len(said), len(records), f"{where[0]}: {problem}"
        )
    return [index for index in range(len(records)) if index not in said]


def refusals(render: Render, records: Sequence[Prompt]) -> dict[int, str]:
    """Index of a refused record → what the template said.

    A template looks at roles, their order, and whether a message is empty: one conversation of each kind is rendered.
    """
    known: dict[tuple[tuple[str, bool], ...], str | None] = {}
    found: dict[int, str] = {}
    for index, record in enumerate(records):
        turns = conversation(record)
        kind = tuple((str(turn.role), bool(turn.content.strip())) for turn in turns)
        if kind not in known:
            known[kind] = _said(render, turns)
        if (reason := known[kind]) is not None:
            found[index] = reason
    return found


def conversation(record: Prompt) -> list[Message]:
    """A record's messages, with its answer where it has one."""
    answer = record.response if isinstance(record, Demonstration) else None
    if isinstance(record, Preference):
        answer = record.chosen_text
    return [*record.prompt, *([] if answer is None else [Message(role="assistant", content=answer)])]


def _said(render: Render, turns: Sequence[Message]) -> str | None:
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
        ways.append("begin with the user, and join turns of one speaker in a row into one")
    if "system" in roles:
        ways.append("put the text of the system message in front of the first user turn")
    return "; ".join([*ways, "data.bad_rows=skip leaves such rows out"])
