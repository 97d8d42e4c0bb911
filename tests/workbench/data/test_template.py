from typing import Any

import pytest

from tests.workbench.data.conftest import byte_level
from workbench.data.template import TEMPLATE, ensure_template, template_hash
from workbench.run.errors import WorkbenchError

TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def rendered(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def test_the_text_of_a_conversation(tokenizer: Any) -> None:
    assert rendered(tokenizer, TURNS) == "<s>Be kind.\n\nUser: Hi\nAssistant: Hello</s>\nUser: Bye\nAssistant:"
    assert rendered(tokenizer, TURNS[1:3]) == "<s>User: Hi\nAssistant: Hello</s>"


def test_generation_marks_cover_the_response_and_its_end_only() -> None:
    tokenizer = byte_level()
    ensure_template(tokenizer)
    encoded = tokenizer.apply_chat_template(TURNS, return_dict=True, return_assistant_tokens_mask=True)
    marked = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(marked) == " Hello</s>"


def test_padding_is_unk_and_no_token_is_added(bare_tokenizer: Any) -> None:
    size = len(bare_tokenizer)
    ensure_template(bare_tokenizer)
    assert bare_tokenizer.pad_token == "<unk>"
    assert bare_tokenizer.pad_token_id == 0
    assert len(bare_tokenizer) == size


def test_padding_is_never_the_end_token() -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = tokenizer.eos_token
    ensure_template(tokenizer)
    assert tokenizer.pad_token == "<unk>"


def test_a_base_that_has_nothing_to_pad_with_is_named() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(vocab={"a": 0, "</s>": 1}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="</s>")
    tokenizer.name_or_path = "bases/no-unk"
    with pytest.raises(WorkbenchError, match=r"bases/no-unk.*no padding token(.|\n)*pad_token"):
        ensure_template(tokenizer)


def test_a_base_without_an_end_token_is_named() -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    tokenizer.name_or_path = "bases/endless"
    with pytest.raises(WorkbenchError, match=r"bases/endless.*end-of-sequence"):
        ensure_template(tokenizer)


def test_a_bases_own_template_is_kept_with_its_clock_stopped() -> None:
    tokenizer = byte_level()
    own = "{{ strftime_now('%d %B %Y %f') }}|{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    tokenizer.chat_template = own
    assert rendered(tokenizer, TURNS) != rendered(tokenizer, TURNS), "the clock does not run: nothing is tested"
    ensure_template(tokenizer)
    first, once = rendered(tokenizer, TURNS), tokenizer.chat_template
    assert first == rendered(tokenizer, TURNS)
    assert first.endswith("|[Be kind.][Hi][Hello][Bye]")
    ensure_template(tokenizer)
    assert tokenizer.chat_template == once, "freezing twice changes nothing"


def test_our_template_reads_no_clock_and_no_outside_state() -> None:
    assert "strftime" not in TEMPLATE
    assert "date" not in TEMPLATE


def test_a_template_without_a_clock_stays_as_it_is() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ensure_template(tokenizer)
    assert tokenizer.chat_template == "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_the_hash_tells_templates_and_end_tokens_apart() -> None:
    one, two, three = byte_level(), byte_level(), byte_level()
    three.chat_template = "{{ messages }}"
    for tokenizer in (one, two, three):
        ensure_template(tokenizer)
    assert template_hash(one) == template_hash(two)
    assert template_hash(one) != template_hash(three)
    two.eos_token = "<unk>"
    assert template_hash(one) != template_hash(two)
    assert len(template_hash(one)) == 64


def test_the_frozen_template_survives_saving(tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = byte_level()
    ensure_template(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert template_hash(again) == template_hash(tokenizer)
