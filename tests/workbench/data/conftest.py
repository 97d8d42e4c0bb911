"""Four tokenizers: two kinds of BPE trained here, and two real SentencePiece ones if their files are present."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SHARED = (Path(__file__).parents[3] / "../shared/data").resolve()
TEXTS = ["User: Where is my order?\nAssistant: It is on its way to you.", "Thanks for asking! It arrives on Monday."]


def byte_level() -> Any:
    """A byte-level BPE with `<unk>`, `<s>`, `</s>` and no pad token, no template."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=None
    )


def first_word_spaced() -> Any:
    """A BPE with byte fallback that puts a space before the first word of a text, but not after a special token."""
    from transformers import PreTrainedTokenizerFast

    spaced = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = spaced
    trained.train_from_iterator(TEXTS * 5, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    found = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *found["vocab"]]
    merges = [tuple(merge) for merge in found["merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = spaced
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=None
    )


def load(folder: Path) -> Any:
    """A tokenizer from a folder; skips where the folder, or the library it needs, is absent."""
    from transformers import AutoTokenizer

    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ValueError as error:
        pytest.skip(f"transformers cannot load it here: {error}")


MAKERS = {"byte-level": byte_level, "first-word-spaced": first_word_spaced}


@pytest.fixture(params=[*MAKERS, "stories260K", "llama2"])
def bare_tokenizer(request: pytest.FixtureRequest) -> Any:
    """A tokenizer as its base ships it, without template and padding."""
    if request.param in MAKERS:
        return MAKERS[request.param]()
    return load(SHARED / {"stories260K": "models/stories260K", "llama2": "tokenizers/llama2"}[request.param])


@pytest.fixture
def tokenizer(bare_tokenizer: Any) -> Any:
    """The same after `ensure_template`."""
    from workbench.data.template import ensure_template

    ensure_template(bare_tokenizer)
    return bare_tokenizer
