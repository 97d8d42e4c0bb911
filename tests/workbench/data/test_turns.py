"""`data.loss_on: all`: the loss mask on every turn of the assistant, exactly its tokens."""

from collections.abc import Sequence
from typing import Any

import pytest

from workbench.data.batching import earlier_turns, encode_demonstrations
from workbench.data.records import Demonstration, Message
from workbench.data.template import TEMPLATE
from workbench.data.tokenise import encode_prompt, encode_response

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FORGETFUL = TEMPLATE.replace(
    "' ' + message['content'] + eos_token", "' ' + (message['content'] if loop.last else '(said)') + eos_token"
)
"""Writes an earlier answer differently from the last one, like templates that leave out reasoning."""


def conversation(*contents: str) -> Demonstration:
    """Turns of user and assistant, the last one the response."""
    roles = ("user", "assistant")
    turns = tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(contents[:-1]))  # type: ignore[arg-type]
    return Demonstration(id="c", prompt=turns, response=contents[-1])


TALKS = [
    conversation("Where is it?", "On its way."),
    conversation("Hi", "Hello!", "Where is it?\nTell me.", "It is on its way.", "Thanks", "You are welcome."),
    conversation("a", "trailing  ", "b", "two\nlines", "c", "naïve 東京"),
]


def trained(row: dict[str, list[int]]) -> list[list[int]]:
    """The spans of tokens that the loss is on."""
    found: list[list[int]] = []
    for place, (token, counts) in enumerate(zip(row["input_ids"], row["completion_mask"], strict=True)):
        if counts and (not place or not row["completion_mask"][place - 1]):
            found.append([])
        if counts:
            found[-1].append(token)
    return found


def responses(tokenizer: Any, record: Demonstration) -> list[list[int]]:
    """An independent route: each answer as `encode_response` encodes it after the turns before it."""
    turns: Sequence[Message] = [*record.prompt, Message(role="assistant", content=record.response)]
    return [
        encode_response(tokenizer, turns[:place], turn.content)
        for place, turn in enumerate(turns)
        if turn.role == "assistant"
    ]


@pytest.mark.parametrize("template", [TEMPLATE, CHATML], ids=["ours", "chatml"])
@pytest.mark.parametrize("record", TALKS, ids=["one", "three", "odd"])
def test_each_turn_s_tokens_with_its_end_are_trained_and_nothing_else(
    tokenizer: Any, template: str, record: Demonstration
) -> None:
    tokenizer.chat_template = template
    (row,) = encode_demonstrations(tokenizer, [record], max_length=500, source="f", loss_on="all").rows
    assert trained(row) == responses(tokenizer, record)
    assert all(turn[-1] == tokenizer.eos_token_id for turn in trained(row))


@pytest.mark.parametrize("record", TALKS, ids=["one", "three", "odd"])
def test_both_ways_have_the_same_tokens_and_last_trains_the_last_turn(tokenizer: Any, record: Demonstration) -> None:
    (last,) = encode_demonstrations(tokenizer, [record], max_length=500, source="f").rows
    (every,) = encode_demonstrations(tokenizer, [record], max_length=500, source="f", loss_on="all").rows
    assert last["input_ids"] == every["input_ids"]
    assert trained(last) == responses(tokenizer, record)[-1:]
    assert sum(last["completion_mask"]) == len(last["input_ids"]) - len(encode_prompt(tokenizer, record.prompt))


def test_an_earlier_turn_that_the_template_writes_in_another_way_is_not_trained(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    (row,) = encode_demonstrations(tokenizer, TALKS[1:2], max_length=500, source="f", loss_on="all").rows
    assert trained(row) == responses(tokenizer, TALKS[1])[-1:]


def test_earlier_turns_are_counted() -> None:
    assert earlier_turns(TALKS) == (4, 2)
    assert earlier_turns(TALKS[:1]) == (0, 0)
