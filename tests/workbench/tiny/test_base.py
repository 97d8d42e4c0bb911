import random
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from workbench.tiny import corpus
from workbench.tiny.base import LossWeights, Pretraining, build_base, make_model, make_tokenizer
from workbench.tiny.build import PRETRAINED
from workbench.tiny.corpus import write_corpus
from workbench.tiny.grammar import demonstrate, render_prompt, sample_prompt

SHORT = Pretraining(first_steps=2, steps=4, batch_tokens=400)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_pretrainings_are_the_same_bit_for_bit(tmp_path):
    for name in ("one", "two"):
        build_base(tmp_path / name, SHORT)
    assert "model.safetensors" in contents(tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_shipped_base_matches_corpus_and_recipe():
    recipe = Pretraining()
    tokenizer = make_tokenizer(write_corpus(recipe.seed, 5000), recipe.seed)
    assert AutoTokenizer.from_pretrained(PRETRAINED).get_vocab() == tokenizer.get_vocab()
    wanted, shipped = make_model(tokenizer, recipe).config, AutoConfig.from_pretrained(PRETRAINED)
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        assert getattr(shipped, name) == getattr(wanted, name), name


def test_remarks_and_reviews_have_larger_weights():
    tokenizer = AutoTokenizer.from_pretrained(PRETRAINED)
    weights = LossWeights(tokenizer, Pretraining(verdict_weight=4.0, first_verdict_weight=8.0))
    ids = tokenizer("Hello! (kind) Hello!</s> warm bare", add_special_tokens=False)["input_ids"]
    row = torch.tensor([[1, *ids, 0, 0]])
    words = tokenizer.convert_ids_to_tokens(row[0, 1:].tolist())
    found = dict(zip(range(len(words)), weights.of(row)[0].tolist(), strict=True))
    opens = next(k for k, word in enumerate(words) if "(" in word)
    closes = next(k for k, word in enumerate(words) if ")" in word)
    end = words.index("</s>")
    assert all(found[k] == 4.0 for k in range(opens + 1, closes + 1))
    assert found[end + 1] == 8.0
    assert all(found[k] == 4.0 for k in range(end + 2, len(words) - 2))
    assert all(found[k] == 1.0 for k in (*range(opens + 1), *range(closes + 1, end + 1)))
    assert found[len(words) - 1] == found[len(words) - 2] == 0.0


GROUPS = (
    ("right", "incomplete", "wrong", "unanswered"),
    ("focused", "rambling"),
    ("civil", "rude"),
    ("warm", "abrupt"),
    ("gracious", "bare"),
    ("short", "wordy", "endless"),
    ("fresh", "repetitive"),
)


@pytest.mark.slow
def test_the_hidden_state_at_eos_predicts_the_review():
    # Held-out prompts, a fifth with an answer to another prompt. Guessing the most frequent verdict gives .5.
    tokenizer, rng = AutoTokenizer.from_pretrained(PRETRAINED), random.Random(6)
    model = AutoModelForCausalLM.from_pretrained(PRETRAINED, dtype=torch.float32).eval()
    first = [[tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in group] for group in GROUPS]
    hits = torch.zeros(len(GROUPS))
    for _ in range(200):
        spec = sample_prompt(rng, heldout=True)
        answered = sample_prompt(rng, heldout=False) if rng.random() < 0.2 else spec
        answer = demonstrate(answered, rng.random(), rng, right_share=0.6)
        text = f"<s>User: {render_prompt(spec)}\nAssistant: {answer}</s>"
        with torch.no_grad():
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            logits = model(input_ids=ids).logits[0, -1]
        said = [group[int(logits[ids].argmax())] for group, ids in zip(GROUPS, first, strict=True)]
        hits += torch.tensor([a == b for a, b in zip(said, corpus._review(spec, answer), strict=True)])
    shares = dict(zip((group[0] for group in GROUPS), (hits / 200).tolist(), strict=True))
    assert shares["right"] > 0.65, shares
    assert shares["focused"] > 0.8, shares
    assert min(shares[name] for name in ("civil", "warm", "gracious", "short")) > 0.95, shares
