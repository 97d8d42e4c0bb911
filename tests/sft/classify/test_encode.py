"""Rows of texts and questions: lengths, cuts, and text that looks like a special token."""

import pytest

from sft.classify.config import VerbalizerSection
from sft.classify.encode import PlainRows, Question, short_examples
from workbench.data.tokenise import encode_text
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


def test_a_text_is_bos_text_eos(tokenizer):
    ids = encode_text(tokenizer, "Where is my order?")
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids[1:-1]) == "Where is my order?"
    assert tokenizer.eos_token_id not in encode_text(tokenizer, "a </s> b")[:-1]


def test_a_long_text_loses_its_end_and_keeps_its_frame(tokenizer):
    text = "Where is my order? " * 20
    ids, cut = PlainRows(tokenizer, 24)(text)
    assert cut
    assert len(ids) <= 24
    assert ids[-1] == tokenizer.eos_token_id
    assert text.startswith(tokenizer.decode(ids[1:-1]))
    assert PlainRows(tokenizer, 24)("short") == (encode_text(tokenizer, "short"), False)


def test_a_question_leaves_room_for_the_longest_answer(tokenizer):
    section = VerbalizerSection(prompt="{text} {labels}?", words=("1=not happy at all",))
    question = Question(tokenizer, section, ["0", "1"], 64)
    ids, cut = question("Where is my order? " * 20)
    assert cut
    assert len(ids) + max(map(len, question.answers)) <= 64
    assert tokenizer.decode(ids).endswith("0, not happy at all?\nAssistant:")
    assert all(answer[-1] == tokenizer.eos_token_id for answer in question.answers)
    assert len(question.answers[1]) > 2


def test_examples_precede_the_question(tokenizer):
    section = VerbalizerSection(prompt="{text}?")
    ids, _ = Question(tokenizer, section, ["a", "b"], 128, [("one", "a"), ("two", "b")])("three")
    assert tokenizer.decode(ids, skip_special_tokens=True).split("\n") == [
        *("User: one?", "Assistant: a", "User: two?", "Assistant: b", "User: three?", "Assistant:")
    ]
    long = [("word " * 50, "a"), ("b", "b")]
    shorter = short_examples(tokenizer, long, 64)
    assert len(encode_text(tokenizer, shorter[0][0])) <= 16
    assert shorter[1] == ("b", "b")


def test_wording_without_room_or_text_is_refused(tokenizer):
    with pytest.raises(WorkbenchError, match="leave no room for a text"):
        Question(tokenizer, VerbalizerSection(), ["a", "b"], 16)
    with pytest.raises(ValueError, match="a prompt that contains"):
        VerbalizerSection(prompt="Which label?")
    with pytest.raises(ValueError, match="LABEL=WORD"):
        VerbalizerSection(words=("happy",))
