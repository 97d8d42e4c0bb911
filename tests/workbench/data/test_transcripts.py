"""Texts that are transcripts, and texts that only mention a speaker."""

import pytest

from workbench.data.forms.transcripts import conversation_turns, has_marks, prompt_turns

HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: one\n\nHuman: two\n\nAssistant:"


def said(turns):
    return None if turns is None else [(turn.role, turn.content) for turn in turns]


@pytest.mark.parametrize(
    "text",
    [
        "\n\nHuman: a b\n\nAssistant: c\n\nHuman: d\n\nAssistant:",
        "Human: a b\n\nAssistant: c\n\nHuman: d\n\nAssistant:",
        "Human: a b\nAssistant: c\nHuman: d\nAssistant:",
        "Human: a b\r\n\r\nAssistant: c\r\n\r\nHuman: d\r\n\r\nAssistant:",
        "Human: a b\r\nAssistant: c\r\nHuman: d\r\nAssistant:\r\n",
        "\n\nUser: a b\n\nAssistant: c\n\nUser: d\n\nAssistant:",
        "User: a b\nAI: c\nUser: d\nAI:",
        "USER: a b\nASSISTANT: c\nUSER: d\nASSISTANT: ",
        "Human: a b\nAI: c\nHuman: d",
        "### Human: a b\n### Assistant: c\n### Human: d\n### Assistant:",
        "### Human: a b### Assistant: c### Human: d### Assistant:",
        "Human:a b\n\nAssistant:c\n\nHuman:d\n\nAssistant:",
    ],
)
def test_prompts_that_are_transcripts(text: str) -> None:
    assert said(prompt_turns(text)) == [("user", "a b"), ("assistant", "c"), ("user", "d")]


def test_turns_in_a_row_are_one_and_an_open_end_is_dropped() -> None:
    assert said(prompt_turns(HH)) == [("user", "Hi"), ("assistant", "Hello"), ("user", "one\n\ntwo")]
    assert said(prompt_turns("\n\nHuman: only")) == [("user", "only")]
    assert said(prompt_turns("\n\nHuman: q\n\nAssistant:\n\nAssistant:")) == [("user", "q")]


def test_a_preface_is_a_system_message_and_a_human_turn_never_is() -> None:
    text = "You are kind.\n\nHuman: Hi\n\nAssistant:"
    assert said(prompt_turns(text)) == [("system", "You are kind."), ("user", "Hi")]
    turns = prompt_turns("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:")
    assert turns is not None
    assert "system" not in {turn.role for turn in turns}


@pytest.mark.parametrize(
    "text",
    [
        "Explain this log:\n\nHuman: hello\nand no more",
        "What does Human: mean in a prompt?",
        "Human: a sentence that begins so",
        "User: alice\nPassword: secret",
        "User: alice\nAI: enabled\nRole: admin",
        "Complete the chat:\nUser: Where is it?\nAssistant:",
        "def f():\n    # Human: hi\n    # Assistant: yes\n    return 1",
        'print("Human: hi\\n\\nAssistant: yes")',
        "Assistant: I begin\nHuman: I follow",
        "",
        "Write a play.\n\nHuman: enters\n\nAssistant: bows\n\nThe end.",
    ],
)
def test_texts_that_are_not_transcripts(text: str) -> None:
    assert prompt_turns(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Human: q\n\nAssistant: Yes\n\nindeed \n", "Yes\n\nindeed \n"),
        ("\n\nHuman: q\n\nAssistant: A play:\nHuman: enters\nUser: bows", "A play:\nHuman: enters\nUser: bows"),
        ("Human: q\nAssistant: one\n\nUser: is no speaker here", "one\n\nUser: is no speaker here"),
        ("### Human: q### Assistant: a: b", "a: b"),
    ],
)
def test_whole_transcripts(text: str, answer: str) -> None:
    assert said(conversation_turns(text)) == [("user", "q"), ("assistant", answer)]


def test_marks_of_other_speakers_within_a_turn_stay() -> None:
    asked = "Sum up.\n\nCustomer: Hi\nAI: Hello\nCustomer: Bye"
    assert said(prompt_turns(f"\n\nHuman: {asked}\n\nAssistant:")) == [("user", asked)]


def test_incomplete_transcripts() -> None:
    assert conversation_turns("Human: q") is None
    assert conversation_turns("Human: q\n\nAssistant:") is None
    assert conversation_turns("I say:\nHuman: q\nAssistant: a") is None


def test_marks_that_are_left_over() -> None:
    assert has_marks("Explain:\nHuman: hi")
    assert has_marks("<|im_start|>user")
    assert not has_marks("The Human: a species. See User:x in the middle.")
