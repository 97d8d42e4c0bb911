"""What the checks look at in a record of any purpose: its prompt, its answers and its labels, as texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.data.records import (
    Demonstration,
    LabelledItem,
    LabelledText,
    Message,
    Preference,
    content_id,
)


@dataclass(frozen=True)
class Entry:
    """One record as texts."""

    place: str
    split: str
    """The file, or the side that the record's own `split` names."""
    prompt: str
    """Empty: the record is a text with labels."""
    answers: tuple[str, ...]
    """The texts of the record beside the prompt, the better one first."""
    labels: tuple[str, ...] = ()
    imitated: bool = False
    """Whether the first answer is trained on."""
    decided: bool = False
    """Whether the first answer was judged better than the second."""
    record: Any = None

    @property
    def key(self) -> str:
        """The same for rows with the same prompt and answers, in any order."""
        return content_id([self.prompt, *sorted(self.answers)])

    @property
    def prompt_key(self) -> str:
        """The same for rows with the same prompt or, without a prompt, the same text."""
        return content_id([self.prompt.strip() or self.answers[0].strip()])

    @property
    def judgement(self) -> tuple[str, ...]:
        """What the row says about its content: two rows with one `key` and different judgements contradict."""
        return self.labels or (self.answers[:1] if self.decided else ())

    @property
    def text(self) -> str:
        """All of it, for near duplicates; answers in a fixed order."""
        return "\n".join(filter(None, [self.prompt, *sorted(self.answers)]))


def entries_of(path: str, records: Sequence[tuple[str, Any]]) -> list[Entry]:
    """The entries of a file's records."""
    return [_entry(path, place, record) for place, record in records]


def _entry(path: str, place: str, record: Any) -> Entry:
    if isinstance(record, LabelledText):
        return Entry(place, path, "", (record.text,), record.labels, record=record)
    if isinstance(record, LabelledItem):
        answers = tuple(response.text for response in record.item.responses)
        return Entry(place, path, _told(record.item.prompt), answers, record=record)
    prompt = _told(record.prompt)
    if isinstance(record, Preference):
        split = f"{path} ({record.split})" if record.split == "heldout" else path
        answers = (record.chosen_text, record.rejected_text)
        better = record.strength > 0
        return Entry(place, split, prompt, answers, imitated=better, decided=better, record=record)
    if isinstance(record, Demonstration):
        return Entry(place, path, prompt, (record.response,), imitated=True, record=record)
    return Entry(place, path, prompt, (), record=record)


def _told(prompt: Sequence[Message]) -> str:
    """A prompt as one text: the user's words alone if there is only one turn."""
    if len(prompt) == 1:
        return prompt[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in prompt)
