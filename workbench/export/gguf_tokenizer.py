"""The tokenizer of a Llama in the terms of GGUF: SentencePiece with scores, or byte-level BPE with merges.

Reads the serialised tokenizer of the `tokenizers` library. Knows neither weights nor the GGUF library.
"""

import json
import re
from typing import Any

from workbench.run.errors import WorkbenchError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens, as in gguf.TokenType."""
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
SPLITS = {_LLAMA3: "llama-bpe"}
"""Regular expression of a pre-tokenizer → its name in llama.cpp."""
_TRAINING_MARK = re.compile(r"{% (?:end)?generation %}")
"""Tags that mark the assistant's turns for training; they render to nothing, and other engines do not know them."""
Fields = dict[str, Any]


def tokenizer_fields(tokenizer: Any, rows: int) -> Fields:
    """Arguments of the `add_*` methods of gguf.GGUFWriter, by their names without `add_`.

    Args:
        tokenizer: with a fast backend.
        rows: of the embedding table; ids without a token become unused ones.

    Raises:
        WorkbenchError: the tokenizer has no equivalent in GGUF.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    fields = _byte_level(backend) if _has(backend["pre_tokenizer"], "ByteLevel") else _sentencepiece(tokenizer, backend)
    names = {number: token for token, number in tokenizer.get_vocab().items() if number < rows}
    fields["token_list"] = [names.get(number, f"[PAD{number}]") for number in range(rows)]
    fields["token_types"] = _types(tokenizer, fields["token_list"], names, byte_fallback="token_scores" in fields)
    if "token_scores" in fields:
        scores = fields["token_scores"]
        fields["token_scores"] = [scores.get(token, -1e6) for token in fields["token_list"]]
    for name, number in (
        ("bos_token_id", tokenizer.bos_token_id),
        ("eos_token_id", tokenizer.eos_token_id),
        ("unk_token_id", tokenizer.unk_token_id),
        ("pad_token_id", tokenizer.pad_token_id),
    ):
        if number is not None:
            fields[name] = int(number)
    ids = tokenizer("a")["input_ids"]
    fields["add_bos_token"], fields["add_eos_token"] = (
        ids[0] == tokenizer.bos_token_id,
        ids[-1] == tokenizer.eos_token_id,
    )
    fields["chat_template"] = _TRAINING_MARK.sub("", tokenizer.chat_template)
    return fields


def _has(part: Any, kind: str) -> bool:
    """Whether a part of the serialised tokenizer is of this type, or holds a part that is."""
    return bool(part) and (part["type"] == kind or any(_has(one, kind) for one in part.get("pretokenizers", ())))


def _merges(backend: Fields) -> list[tuple[str, str]]:
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in backend["model"]["merges"]]


def _byte_level(backend: Fields) -> Fields:
    splitters = backend["pre_tokenizer"].get("pretokenizers", [backend["pre_tokenizer"]])
    pattern = next((one["pattern"].get("Regex") for one in splitters if one["type"] == "Split"), None)
    by_itself = any(one["type"] == "ByteLevel" and one.get("use_regex") for one in splitters)
    known = "gpt-2" if pattern is None and by_itself else SPLITS.get(pattern or "")
    if known is None or backend["normalizer"] or any(one.get("add_prefix_space") for one in splitters):
        raise WorkbenchError(
            "tokenizer",
            f"splits text in a way that cannot be written to GGUF: {json.dumps(backend['pre_tokenizer'])[:200]}",
            expected="byte-level BPE as in GPT-2 or Llama 3, or SentencePiece as in Llama 2",
            remedy="--to merged",
        )
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": known,
        "token_merges": [" ".join(merge) for merge in _merges(backend)],
    }


def _sentencepiece(tokenizer: Any, backend: Fields) -> Fields:
    """Scores in the order of the merges: engines join the pair of pieces whose union scores highest."""
    if backend["model"]["type"] != "BPE" or not backend["model"].get("byte_fallback"):
        raise WorkbenchError(
            "tokenizer", "is neither byte-level BPE nor SentencePiece BPE with bytes", remedy="--to merged"
        )
    scores: dict[str, float] = {}
    for rank, merge in enumerate(_merges(backend)):
        scores.setdefault("".join(merge), -float(rank))
    return {
        "tokenizer_model": "llama",
        "tokenizer_pre": "default",
        "token_scores": scores,
        "add_space_prefix": tokenizer.tokenize("a")[0].startswith("▁"),
    }


def _types(tokenizer: Any, tokens: list[str], names: dict[int, str], *, byte_fallback: bool) -> list[int]:
    added = {number: token.special for number, token in tokenizer.added_tokens_decoder.items()}
    types = []
    for number, token in enumerate(tokens):
        if number not in names:
            kind = UNUSED
        elif byte_fallback and number == tokenizer.unk_token_id:
            kind = UNKNOWN
        elif number in added:
            kind = CONTROL if added[number] else USER_DEFINED
        elif byte_fallback and re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            kind = BYTE
        else:
            kind = NORMAL
        types.append(kind)
    return types
