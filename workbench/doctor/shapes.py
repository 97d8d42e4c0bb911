"""Shapes of bases: from a config.json on this machine, or of well-known Llamas by name. Loads no weights."""

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from workbench.data.embedded import TINY_BASE, resolve_base
from workbench.doctor.memory import Shape
from workbench.run.errors import WorkbenchError, did_you_mean

KNOWN = {
    "llama-7b": Shape(32_000, 4096, 11_008, 32, 32, 32, 128, False),
    "llama-13b": Shape(32_000, 5120, 13_824, 40, 40, 40, 128, False),
    "llama-3-8b": Shape(128_256, 4096, 14_336, 32, 32, 8, 128, False),
}
"""Published configurations, by a short name."""

BASES = {
    "meta-llama/Llama-2-7b-hf": "llama-7b",
    "meta-llama/Llama-2-7b-chat-hf": "llama-7b",
    "huggyllama/llama-7b": "llama-7b",
    "meta-llama/Llama-2-13b-hf": "llama-13b",
    "meta-llama/Meta-Llama-3-8B": "llama-3-8b",
    "meta-llama/Llama-3.1-8B": "llama-3-8b",
}
"""Hub ids whose shape is known without asking the hub."""


def shape_named(name: str) -> Shape:
    """A well-known shape.

    Raises:
        WorkbenchError: an unknown name.
    """
    if name not in KNOWN:
        raise WorkbenchError("--shape", f"{name!r} is unknown", remedy=did_you_mean(name, KNOWN))
    return KNOWN[name]


def shape_of(base: str, revision: str | None = None) -> tuple[Shape, str]:
    """A base's shape, and where it was read.

    Raises:
        WorkbenchError: its config.json is not on this machine and its shape not known by name.
    """
    if base == TINY_BASE or Path(base).expanduser().exists():
        config = Path(resolve_base(base)) / "config.json"
        return read_shape(config), str(config)
    try:
        cached = try_to_load_from_cache(base, "config.json", revision=revision)
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return read_shape(Path(cached)), "config.json in the hub cache"
    if base in BASES:
        return KNOWN[BASES[base]], f"known shape {BASES[base]}"
    raise WorkbenchError(
        f"base {base}",
        "its config.json is not on this machine, and nothing is downloaded here",
        expected="a folder with config.json, a cached hub id, or one of " + ", ".join(sorted(BASES)),
        remedy=f"--shape NAME with one of {', '.join(KNOWN)}, or model.base=/path/to/folder",
    )


def read_shape(path: Path) -> Shape:
    """The shape that a config.json describes.

    Raises:
        WorkbenchError: it is no Llama-like configuration.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Shape(
            vocabulary=int(config["vocab_size"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(
            path,
            f"describes no Llama-like model ({type(error).__name__}: {error})",
            expected="hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, vocab_size",
        ) from None
