"""Transcripts: a conversation in one text, with the mark of the speaker before each turn.

A mark is at the start of a line (`Human:`, `User:`, `Assistant:`, `AI:` …) or a heading (`### Human:`). One mark does
not make a transcript: a text that only mentions a speaker stays whole.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.data.records import Message

HUMANS = ("human", "user", "prompter")
ASSISTANTS = ("assistant", "ai", "bot", "chatbot", "chatgpt", "gpt", "ai assistant")
_WORDS = "|".join(f"{word.title()}|{word.upper()}" for word in (*HUMANS, *ASSISTANTS))
_WORDS += "|AI|AI Assistant|ChatGPT|GPT"
_MARK = re.compile(rf"(?:^|(?=### ))(?P<mark>(?:### )?(?:{_WORDS})) ?:", re.MULTILINE)
_LEFT_OVER = re.compile(
    r"(?:^|### )(?:Human|User|Assistant|HUMAN|USER|ASSISTANT):|<\|im_start\|>|\[/INST\]", re.MULTILINE
)
_OF_HH = "\n\nHuman:"
"""A text that begins with this is a transcript, whatever follows."""


@dataclass(frozen=True)
class Transcript:
    """A text that was cut at its marks."""

    preface: str
    """The text before the first turn."""
    turns: tuple[Message, ...]
    """Consecutive turns of one speaker are one message; an open turn at the end is left out."""
    spaced: bool
    """Whether there is a blank line before each mark."""
    answered: bool
    """Whether the assistant has a mark."""
    open: bool
    """Whether it ends with a mark of the assistant and nothing after it."""


def has_marks(text: str) -> bool:
    """Whether a text contains a mark of a speaker or of a chat template."""
    return (":" in text or "<|" in text or "[/" in text) and bool(_LEFT_OVER.search(text))


def prompt_turns(text: str) -> tuple[Message, ...] | None:
    """The messages of a prompt that is a transcript, or None.

    It begins with a human's mark and ends with the human's turn or an open mark of the assistant. A preface becomes a
    system message, but only if blank lines separate the turns and the end is open.
    """
    found = _cut(text)
    if found is None or not (found.answered or text.startswith(_OF_HH)):
        return None
    if found.preface and not (found.spaced and found.open):
        return None
    ends_well = found.open or (bool(found.turns) and found.turns[-1].role == "user") or text.startswith(_OF_HH)
    return _with_preface(found) if ends_well else None


def conversation_turns(text: str) -> tuple[Message, ...] | None:
    """The messages of a whole transcript that ends with an answer, or None."""
    found = _cut(text)
    if found is None or not found.answered or (found.preface and not found.spaced):
        return None
    return _with_preface(found) if found.turns[-1:] and found.turns[-1].role == "assistant" else None


def _with_preface(found: Transcript) -> tuple[Message, ...]:
    return ((Message(role="system", content=found.preface),) if found.preface else ()) + found.turns


def _cut(text: str) -> Transcript | None:
    """A text cut at the marks of one human and one assistant; None if the first mark is not the human's."""
    marks = list(_MARK.finditer(text))
    apart = [mark for mark in marks if _blank_before(text, mark.start()) or mark["mark"].startswith("###")]
    spaced = {_role(mark["mark"]) for mark in apart} == {"user", "assistant"} or len(marks) == len(apart)
    marks = apart if spaced else marks
    human, assistant = _speaker(marks, "user"), _speaker(marks, "assistant")
    marks = [mark for mark in marks if mark["mark"] in (human, assistant)]
    if human is None or marks[0]["mark"] != human:
        return None
    turns: list[tuple[Literal["user", "assistant"], str]] = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        content = text[mark.end() : following.start() if following else None].removeprefix(" ")
        if following is not None and mark["mark"].startswith("###"):
            content = content.rstrip()
        elif following is not None:
            content = re.sub(r"(?:\r?\n){1,2}\Z" if spaced else r"\r?\n\Z", "", content)
        role = _role(mark["mark"])
        if turns and turns[-1][0] == role:
            content = "\n\n".join(part for part in (turns.pop()[1], content) if part.strip())
        turns.append((role, content))
    if not turns:
        return None
    is_open = turns[-1][0] == "assistant" and not turns[-1][1].strip()
    messages = tuple(Message(role=role, content=content) for role, content in (turns[:-1] if is_open else turns))
    preface = text[: marks[0].start()].strip()
    return Transcript(preface, messages, spaced, assistant is not None, is_open)


def _speaker(marks: Sequence[re.Match[str]], role: str) -> str | None:
    """The mark that a transcript uses for a role: the usual word if it occurs, else the first."""
    words = [mark["mark"] for mark in marks if _role(mark["mark"]) == role]
    usual = [word for word in words if word.removeprefix("### ").lower() in ("human", "user", "assistant")]
    return next(iter(usual or words), None)


def _role(mark: str) -> Literal["user", "assistant"]:
    return "user" if mark.removeprefix("### ").lower() in HUMANS else "assistant"


def _blank_before(text: str, position: int) -> bool:
    before = text[:position].replace("\r\n", "\n")
    return not before.strip() or before.endswith("\n\n")
