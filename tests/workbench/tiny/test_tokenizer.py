import random

import pytest

from workbench.tiny.base import make_tokenizer
from workbench.tiny.corpus import write_corpus
from workbench.tiny.grammar import demonstrate, render_prompt, sample_prompts
from workbench.tiny.tokenizer import VOCABULARY


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(write_corpus(1, 5000), 1)


def test_special_tokens_have_the_ids_of_llama(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len(tokenizer) <= VOCABULARY


def test_any_text_comes_out_unchanged(tokenizer):
    rng = random.Random(0)
    letters = [chr(code) for code in (*range(1, 0x3000), *range(0x1F300, 0x1FA00))]
    texts = ["", "  two  spaces \n\t and , marks .", "Grüße, 你好, 😀!", *write_corpus(9, 50)]
    texts += ["".join(rng.choices(letters, k=80)) for _ in range(50)]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert 0 not in ids


def test_training_is_deterministic(tokenizer):
    again = make_tokenizer(write_corpus(1, 5000), 1)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_sequences_are_short(tokenizer):
    rng = random.Random(3)
    specs = sample_prompts(rng, 500, heldout=True)
    asks = [len(tokenizer(f"User: {render_prompt(spec)}\nAssistant:")["input_ids"]) for spec in specs]
    answers = [len(tokenizer(" " + demonstrate(spec, 0.2, rng))["input_ids"]) for spec in specs]
    assert max(asks) <= 48
    assert sum(asks) / 500 <= 30
    assert max(answers) <= 64
    assert sum(answers) / 500 <= 35
