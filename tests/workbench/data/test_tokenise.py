import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.workbench.data.conftest import byte_level
from workbench.data.records import Message
from workbench.data.template import ensure_template
from workbench.data.tokenise import decode_response, encode_prompt, encode_response, encode_rows

PLAIN = (Message(role="user", content="Where is my order?"),)
LONG = (
    Message(role="system", content="You help."),
    Message(role="user", content="Hi there"),
    Message(role="assistant", content="Hello!"),
    Message(role="user", content="Where is it?\nTell me."),
)
RESPONSES = [
    "It is on its way.",
    "Two lines\nand a third\n\n- a list",
    "naïve café, 東京, 🙂👩‍👩‍👧, ﷽",
    "1 + 1 = 2; x = [0, 1]",
    "...",
    "(yes)",
    "\ttabbed",
    "trailing spaces  ",
    "User: no\nAssistant: yes",
]


def whole(tokenizer: Any, prompt: Sequence[Message], response: str) -> list[int]:
    """An independent route: the full conversation, rendered and tokenised at once."""
    turns = [message.model_dump() for message in prompt] + [{"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("prompt", [PLAIN, LONG], ids=["one turn", "several turns"])
def test_prompt_and_response_are_the_whole_conversation(tokenizer: Any, prompt: tuple[Message, ...]) -> None:
    for response in RESPONSES:
        ids = encode_prompt(tokenizer, prompt) + encode_response(tokenizer, prompt, response)
        assert ids == whole(tokenizer, prompt, response), response


def test_prompt_ids_equal_those_of_a_server(tokenizer: Any) -> None:
    turns = [message.model_dump() for message in LONG]
    served = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(tokenizer, LONG) == list(served)


def test_bos_comes_first_and_eos_last_each_once(tokenizer: Any) -> None:
    prompt, response = encode_prompt(tokenizer, PLAIN), encode_response(tokenizer, PLAIN, "Yes.")
    assert prompt[0] == tokenizer.bos_token_id
    assert response[-1] == tokenizer.eos_token_id
    assert (prompt + response).count(tokenizer.bos_token_id) == 1
    assert (prompt + response).count(tokenizer.eos_token_id) == 1


def test_a_row_is_the_prompt_and_one_response(tokenizer: Any) -> None:
    first, second = (encode_response(tokenizer, LONG, text) for text in ("Yes.", ""))
    prompt = encode_prompt(tokenizer, LONG)
    assert encode_rows(tokenizer, LONG, "Yes.", "") == [prompt + first, prompt + second]


def test_decoding_undoes_encoding(tokenizer: Any) -> None:
    for response in [*RESPONSES, "", " a leading space"]:
        assert decode_response(tokenizer, encode_response(tokenizer, PLAIN, response)) == response


def test_decoding_undoes_encoding_of_random_texts(tokenizer: Any) -> None:
    rng = random.Random(0)
    alphabet = "abc XYZ\n.,!?'\"-:()0123é漢🙂"
    for _ in range(200):
        response = "".join(rng.choice(alphabet) for _ in range(rng.randrange(40)))
        ids = encode_response(tokenizer, PLAIN, response)
        assert decode_response(tokenizer, ids) == response
        assert encode_prompt(tokenizer, PLAIN) + ids == whole(tokenizer, PLAIN, response), repr(response)


def test_decoding_stops_at_the_first_end_and_keeps_an_answer_that_did_not_end(tokenizer: Any) -> None:
    ids = encode_response(tokenizer, PLAIN, "It is here.")
    assert decode_response(tokenizer, ids + ids + [tokenizer.pad_token_id] * 3) == "It is here."
    assert decode_response(tokenizer, ids[:-1]) == "It is here."
    assert decode_response(tokenizer, [tokenizer.eos_token_id]) == ""
    assert decode_response(tokenizer, []) == ""


@pytest.mark.parametrize("text", ["</s>", "a</s>b", "<s><unk></s>", "say </s> twice </s>, please"])
def test_text_that_looks_like_a_special_token_stays_text(tokenizer: Any, text: str) -> None:
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    response = encode_response(tokenizer, PLAIN, text)
    assert not special & set(response[:-1])
    assert decode_response(tokenizer, response) == text
    prompt = encode_prompt(tokenizer, (Message(role="user", content=text),))
    assert not special & set(prompt[1:])
    expected = f"<s>User: {text}\nAssistant:"
    assert tokenizer.decode(prompt).replace("<s> ", "<s>") == expected


def test_special_looking_text_changes_no_other_id(tokenizer: Any) -> None:
    """Without the disguised word, the rest is tokenised as usual."""
    marked = (*LONG[:3], Message(role="user", content="Where </s> is it?"))
    plain = (*LONG[:3], Message(role="user", content="Where is it?"))
    with_word, without = encode_prompt(tokenizer, marked), encode_prompt(tokenizer, plain)
    before = next(n for n, (a, b) in enumerate(zip(with_word, without, strict=False)) if a != b)
    after = len(without) - before
    assert with_word[:before] + with_word[-after:] == without
    assert with_word.count(tokenizer.eos_token_id) == 1, "the end of the earlier answer, which the template writes"


def test_a_bases_own_template_decides_the_text_before_a_response() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}"
        "{% endif %}{% endfor %}"
    )
    ensure_template(tokenizer)
    prompt, response = encode_prompt(tokenizer, PLAIN), encode_response(tokenizer, PLAIN, "Here.")
    assert tokenizer.decode(prompt) == "<s>[INST] Where is my order? [/INST]"
    assert tokenizer.decode(response) == " Here.</s>"
    assert decode_response(tokenizer, response) == "Here."
