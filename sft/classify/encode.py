"""Texts as token rows: a text alone for the head, a question about it for the label words. Knows no model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sft.classify.config import VerbalizerSection
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt, encode_response, encode_text
from workbench.run.errors import WorkbenchError


def fitting(encode: Callable[[str], list[int]], text: str, most: int) -> tuple[list[int], bool]:
    """The token row of the longest beginning of a text that has at most `most` tokens, and whether it was cut.

    A row is searched by characters: cutting token ids instead could cut the end of the template.
    """
    ids = encode(text)
    if len(ids) <= most:
        return ids, False
    return encode(text[: _longest(encode, text, most)]), True


def _longest(encode: Callable[[str], list[int]], text: str, most: int) -> int:
    """Characters of the longest beginning of a text with at most `most` tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(encode(text[:middle])) <= most else (low, middle - 1)
    return low


@dataclass(frozen=True)
class PlainRows:
    """Rows of a text alone: BOS, text, EOS."""

    tokenizer: Any
    max_length: int

    def __call__(self, text: str) -> tuple[list[int], bool]:
        """The row of a text, and whether its end was cut off."""
        return fitting(lambda part: encode_text(self.tokenizer, part), text, self.max_length)


class Question:
    """The prompt that asks the LM for the label of a text, and the tokens of each answer.

    Each answer is the label's words and EOS, so no answer is the beginning of another one.

    Args:
        tokenizer: of the base.
        section: the wording.
        labels: K, in the order of the answers.
        max_length: tokens of prompt and answer together.
        shots: (text, label) examples that precede the text as earlier turns, in this order.

    Raises:
        WorkbenchError: the wording alone is too long.
    """

    def __init__(
        self,
        tokenizer: Any,
        section: VerbalizerSection,
        labels: Sequence[str],
        max_length: int,
        shots: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.tokenizer, self.section = tokenizer, section
        self.words = [section.word_of(label) for label in labels]
        self._before: list[Message] = []
        for text, label in shots:
            self._before += [self._user(text), Message(role="assistant", content=section.word_of(label))]
        roles = [*self._before, self._user("")]
        self.answers = [encode_response(tokenizer, roles, word) for word in self.words]
        self.room = max_length - max(map(len, self.answers))
        least = len(self._ids(""))
        if least >= self.room:
            raise WorkbenchError(
                "data.max_length",
                f"{max_length} tokens leave no room for a text: the question has {least}, the longest label "
                f"{max_length - self.room}",
                remedy="a longer data.max_length, a shorter verbalizer.prompt, or fewer verbalizer.shots",
            )

    def __call__(self, text: str) -> tuple[list[int], bool]:
        """The prompt's ids for a text, and whether its end was cut off."""
        return fitting(self._ids, text, self.room)

    def _user(self, text: str) -> Message:
        filled = self.section.prompt.replace("{labels}", ", ".join(self.words)).replace("{text}", text)
        return Message(role="user", content=filled)

    def _ids(self, text: str) -> list[int]:
        return encode_prompt(self.tokenizer, [*self._before, self._user(text)])


def short_examples(tokenizer: Any, examples: Sequence[tuple[str, str]], max_length: int) -> list[tuple[str, str]]:
    """Few-shot examples whose texts together take at most half of a row: longer ones lose their end."""
    most = max(1, max_length // (2 * max(1, len(examples))))

    def encode(text: str) -> list[int]:
        return encode_text(tokenizer, text)

    return [(text[: _longest(encode, text, most)], label) for text, label in examples]
