"""Characters without a token: counted, named, refused if they are many, shown in answers."""

import logging
import string
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.workbench.data.conftest import byte_level, first_word_spaced
from workbench.data.batching import encode_demonstrations, encode_pairs, encode_prompts
from workbench.data.records import Demonstration, Message, Preference, Prompt
from workbench.data.template import ensure_template
from workbench.data.tokenise import (
    UNKNOWN,
    decode_response,
    encode_prompt,
    encode_response,
    knows_all_characters,
    unknown_characters,
    unknown_id,
)

LETTERS = [*string.ascii_letters, *string.digits, *" .,:;!?'\"()-+=/"]


def letters(*, unk: str | None = "<unk>", extra: str = "") -> Any:
    """A vocabulary of single characters, no line break among them, without byte fallback."""
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", *LETTERS, *extra]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges=[], unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token=unk, pad_token="<unk>"
    )
    ensure_template(made)
    return made


def demonstration(question: str, answer: str) -> Demonstration:
    return Demonstration(id=question, prompt=(Message(role="user", content=question),), response=answer)


def test_only_vocabularies_with_holes_count() -> None:
    assert not knows_all_characters(letters())
    assert not knows_all_characters(letters(unk=None))
    for known in (byte_level(), first_word_spaced()):
        assert knows_all_characters(known)
        assert unknown_characters(known, ["naïve 東京\n🙂"]) == {}


def test_an_unk_token_that_ends_answers_does_not_count() -> None:
    tokenizer = letters()
    tokenizer.unk_token = "</s>"
    assert unknown_id(tokenizer) is None


def test_the_characters_are_named_the_most_frequent_first() -> None:
    assert unknown_characters(letters(), ["a é\né", "é\n", "東"]) == {"é": 3, "\n": 2, "東": 1}
    assert unknown_characters(letters(unk=None), ["é b", "é東"]) == {"é": 2, "東": 1}


def test_rows_and_tokens_are_counted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = letters(extra="\n")
    records = [demonstration("a" * 60, "fine"), demonstration("b" * 60, "café"), demonstration("c" * 60, "東京")]
    with caplog.at_level(logging.WARNING):
        rows = encode_demonstrations(tokenizer, records, max_length=500, source="data.jsonl")
    assert rows.unknown == 3
    tokens = sum(len(row["input_ids"]) for row in rows.rows)
    (message,) = caplog.messages
    assert f"2 of 3 demonstrations have no token in the base's vocabulary: 3 of {tokens} tokens" in message
    assert all(repr(character) in message for character in "é東京")
    caplog.clear()
    encode_demonstrations(tokenizer, records[:1], max_length=500, source="data.jsonl")
    assert caplog.messages == []


def test_the_template_s_own_characters_count_too(caplog: pytest.LogCaptureFixture) -> None:
    rows = encode_prompts(
        letters(), [Prompt(id="p", prompt=(Message(role="user", content="a" * 60),))], max_length=500, source="f"
    )
    assert rows.unknown == 1  # the line break before `Assistant:`
    assert repr("\n") in caplog.messages[0]


def test_characters_that_a_vocabulary_without_unk_leaves_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = encode_demonstrations(
        letters(unk=None, extra="\n"), [demonstration("a" * 60, "café 東")], max_length=500, source="data.jsonl"
    )
    assert rows.unknown == 2
    assert "are left out" in caplog.messages[0]


def test_many_unknown_characters_are_an_error() -> None:
    tokenizer, answer = letters(extra="\n"), "東京は日本の首都です。"
    from workbench.run.errors import WorkbenchError

    with pytest.raises(
        WorkbenchError, match=r"data\.jsonl: characters of 1 of 1 demonstrations(.|\n)*at most 5%(.|\n)*byte"
    ):
        encode_demonstrations(tokenizer, [demonstration("Where?", answer)], max_length=500, source="data.jsonl")
    pair = Preference(
        id="p",
        group="p",
        prompt=(Message(role="user", content="Where?"),),
        chosen=(Message(role="assistant", content=answer),),
        rejected=(Message(role="assistant", content="No."),),
    )
    with pytest.raises(WorkbenchError, match=r"1 of 1 pairs"):
        encode_pairs(tokenizer, [pair], max_length=500, source="pairs.jsonl")


@pytest.mark.parametrize("text", ["café", "é", "éa", "aéé b", "x é"])
def test_an_answer_shows_where_the_model_wrote_the_unknown_token(text: str) -> None:
    tokenizer = letters(extra="\n")
    prompt = (Message(role="user", content="a"),)
    ids = encode_response(tokenizer, prompt, text)
    shown = decode_response(tokenizer, ids)
    assert shown == text.replace("é", UNKNOWN)
    assert encode_prompt(tokenizer, prompt).count(unknown_id(tokenizer)) == 0


def test_a_text_that_spells_the_unknown_token_stays_as_it_is() -> None:
    tokenizer = letters(extra="\n<>")
    prompt = (Message(role="user", content="a"),)
    ids = encode_response(tokenizer, prompt, "is <unk> é")
    assert ids.count(unknown_id(tokenizer)) == 1
    assert decode_response(tokenizer, ids) == f"is <unk> {UNKNOWN}"
