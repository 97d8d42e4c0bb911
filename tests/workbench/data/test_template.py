from typing import Any

import pytest

from tests.workbench.data.conftest import byte_level
from workbench.data.template import TEMPLATE, end_ids, ensure_template, template_hash
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


def test_our_template_depends_on_nothing_but_the_messages() -> None:
    assert "strftime" not in TEMPLATE
    assert "date" not in TEMPLATE


def test_a_template_without_a_clock_stays_as_it_is() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ensure_template(tokenizer)
    assert tokenizer.chat_template == "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_the_hash_distinguishes_templates_and_end_tokens() -> None:
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


def special(*tokens: str, eos: str = "<|end|>", bos: str | None = None, template: str | None = None) -> Any:
    """A tokenizer with the words `a` and `b` and these special tokens, in the order of their ids from 2 on."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    words.add_special_tokens(list(tokens))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=eos, bos_token=bos)
    tokenizer.name_or_path = "bases/special"
    tokenizer.chat_template = template
    return tokenizer


CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("tokenizer", "ends", "padding"),
    [
        # Llama 3: a reserved token, not the start of a turn, which an own template may write.
        (special("<|begin|>", "<|end|>", "<|header|>", "<|reserved_special_token_0|>", bos="<|begin|>"), (), 5),
        (special("<|end|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>"), (), 3),
        # SmolLM: no reserved token, but special ones that the template does not use.
        (special("<|end|>", "<|im_start|>", "<repo_name>", template=CHATML), (), 4),
        # Qwen2: every other special token is the template's; the one that ends turns is an end.
        (special("<|end|>", "<|im_start|>", "<|im_end|>", template=CHATML), (4,), 3),
        (special("<|begin|>", "<|end|>", bos="<|begin|>"), (), 2),
    ],
    ids=["llama3", "llama3.1", "smollm", "qwen2", "bos alone"],
)
def test_padding_is_a_special_token_that_does_not_end_a_response(
    tokenizer: Any, ends: tuple[int, ...], padding: int
) -> None:
    size = len(tokenizer)
    ensure_template(tokenizer, ends=ends, rows=size)
    assert tokenizer.pad_token_id == padding
    assert tokenizer.pad_token_id not in end_ids(tokenizer)
    assert len(tokenizer) == size


def test_the_user_names_the_token_to_pad_with() -> None:
    tokenizer = special("<|begin|>", "<|end|>", "<|reserved_special_token_0|>", bos="<|begin|>")
    ensure_template(tokenizer, pad_token="<|begin|>")
    assert tokenizer.pad_token == "<|begin|>"
    only_the_end = special("<|end|>")
    with pytest.raises(WorkbenchError, match=r"model\.pad_token=TOKEN"):
        ensure_template(only_the_end)
    ensure_template(only_the_end, pad_token="b")
    assert only_the_end.pad_token_id == 1
    for wanted, rows in (("<|end|>", None), ("nothing", None), ("<|begin|>", 2)):
        with pytest.raises(WorkbenchError, match=r"model\.pad_token"):
            ensure_template(special("<|begin|>", "<|end|>"), pad_token=wanted, rows=rows)


def test_an_id_without_a_row_is_named_with_both_numbers() -> None:
    tokenizer = special("<|end|>", "<|pad|>", "<|im_start|>", "<|im_end|>", template=CHATML)
    with pytest.raises(WorkbenchError) as caught:
        ensure_template(tokenizer, rows=4)
    assert "6 tokens, among them '<|im_start|>' with token id 4, but its embeddings have 4 rows" in caught.value.problem
    assert "resize_token_embeddings" in str(caught.value.remedy)
    ordinary = special("<|end|>", "<|pad|>")
    ordinary.add_tokens(["word"])
    with pytest.raises(WorkbenchError, match=r"'word' with token id 4"):
        ensure_template(ordinary, rows=4)
    with pytest.raises(WorkbenchError, match=r"'<\|end\|>' with token id 2"):
        ensure_template(special("<|end|>", bos="a"), rows=2)


def test_a_pad_token_without_a_row_is_replaced_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Llama 2 with an added [PAD]: padding is never read, so another token serves as well."""
    tokenizer = special("<|begin|>", "<|end|>", "<|reserved_special_token_0|>", "[PAD]", bos="<|begin|>")
    tokenizer.pad_token = "[PAD]"
    ensure_template(tokenizer, rows=5)
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    assert "'[PAD]' has token id 5, and its embeddings have 5 rows" in caplog.text


def test_special_tokens_that_are_never_written_need_no_row() -> None:
    tokenizer = special("<|end|>", "<|pad|>", "<|vision|>")
    ensure_template(tokenizer, rows=4)
    assert tokenizer.pad_token == "<|pad|>"


def test_ordinary_tokens_and_ids_without_a_row_do_not_end_responses() -> None:
    tokenizer = special("<|end|>", "<|eot|>", "<|pad|>", "<|far|>")
    ensure_template(tokenizer, ends=(0, 3, 2, 5), rows=5)
    assert end_ids(tokenizer) == (2, 3)
