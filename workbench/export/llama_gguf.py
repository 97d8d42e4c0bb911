"""A merged Llama as one GGUF file, written with the official `gguf` library. F16, or Q8_0 where rows allow it.

Llama's attention in GGUF rotates neighbouring features, in transformers the two halves of a head: the rows of the q
and k projections are permuted accordingly. Source: llama.cpp, convert_hf_to_gguf.py (LlamaModel.permute).
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from workbench.export.gguf_tokenizer import CONTROL, UNKNOWN, Fields, tokenizer_fields
from workbench.export.merge import State
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress

Storage = Literal["f16", "q8_0"]
BLOCK = 32
"""Values of a row that share a scale in Q8_0."""
EMBEDDINGS = ("token_embd.weight", "output.weight", "model.embed_tokens.weight", "lm_head.weight")
"""Stored in F16: a fifth of the first choices that Q8_0 changes in a small Llama come from rounding these."""
MARKED = (CONTROL, UNKNOWN)
"""Types of special tokens."""


@dataclass(frozen=True)
class GgufContent:
    """What a file will hold."""

    fields: Fields
    """Arguments of the `add_*` methods of gguf.GGUFWriter, by their names without `add_`."""
    tensors: State
    """Name in GGUF → float32, q and k permuted."""


def require_gguf() -> None:
    """Check that the library is installed.

    Raises:
        WorkbenchError: it is not.
    """
    if importlib.util.find_spec("gguf") is None:
        raise WorkbenchError("--to gguf", "needs the package gguf", remedy="pip install 'alignment-workbench[export]'")


def check_llama(config: Any) -> None:
    """Refuse a model that is more than a plain Llama.

    Raises:
        WorkbenchError: another architecture, biases, or a scaled rotary embedding.
    """
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    for wrong, problem in (
        (config.model_type != "llama", f"architecture {config.model_type}"),
        (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False), "biases in its layers"),
        (rope != "default", f"rotary embeddings of type {rope}"),
        (getattr(config, "hidden_act", "silu") != "silu", f"activation {getattr(config, 'hidden_act', '')}"),
    ):
        if wrong:
            raise WorkbenchError("base", f"has {problem}", expected="a plain Llama for GGUF", remedy="--to merged")


def gguf_content(state: State, config: Any, tokenizer: Any, name: str) -> GgufContent:
    """Metadata and tensors.

    Args:
        state: of the merged model.
        config: of the merged model.
        tokenizer: of the base.
        name: of the model.

    Raises:
        WorkbenchError: the model or its tokenizer has no equivalent in GGUF.
    """
    require_gguf()
    check_llama(config)
    fields = {
        "name": name,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads,
        "head_count_kv": config.num_key_value_heads,
        "key_length": config.head_dim,
        "value_length": config.head_dim,
        "rope_dimension_count": config.head_dim,
        "rope_freq_base": float(config.rope_parameters["rope_theta"]),
        "layer_norm_rms_eps": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
    }
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return GgufContent(fields | tokenizer_fields(tokenizer, config.vocab_size), dict(_renamed(state, config, heads)))


def _renamed(state: State, config: Any, heads: dict[str, int]) -> Iterator[tuple[str, Tensor]]:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in state.items():
        new = names.get_name(name, try_suffixes=(".weight",))
        if new is None:
            raise WorkbenchError(name, "has no name in GGUF", expected="the weights of a plain Llama")
        kind = name.split(".")[-2]
        yield new, permuted(tensor, heads[kind]) if kind in heads else tensor


def permuted(weight: Tensor, heads: int) -> Tensor:
    """The rows (H·d, D) of a projection in the order of GGUF: of each head, features i and i + d/2 side by side."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def plain_text_specials(path: Path, tokenizer: Any) -> list[str]:
    """The special tokens that a file marks as ordinary text, which other engines would cut into pieces."""
    import gguf

    kinds = gguf.GGUFReader(path).get_field("tokenizer.ggml.token_type")
    types = kinds.contents() if kinds is not None else []
    special = {number: token for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [str(token) for number, token in special.items() if number < len(types) and types[number] not in MARKED]


def write_gguf(path: Path, content: GgufContent, storage: Storage, *, quiet: bool = False) -> None:
    """Write the file, one tensor at a time.

    Raises:
        WorkbenchError: a weight is too large for float16.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for name, value in content.fields.items():
        getattr(writer, f"add_{name}")(value)
    kinds = {name: _kind(name, tensor, storage) for name, tensor in content.tensors.items()}
    file_type = gguf.LlamaFileType.MOSTLY_Q8_0 if storage == "q8_0" else gguf.LlamaFileType.MOSTLY_F16
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, tensor in content.tensors.items():
        kind = gguf.GGMLQuantizationType[kinds[name]]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        dtype = np.dtype({"F32": "float32", "F16": "float16"}.get(kinds[name], "int8"))
        writer.add_tensor_info(name, tuple(tensor.shape), dtype, tensor.numel() // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in progress(content.tensors.items(), description="gguf", unit="tensor", quiet=quiet):
        if kinds[name] == "F16" and float(tensor.abs().max()) > float(np.finfo(np.float16).max):
            raise WorkbenchError(name, "holds a value beyond 65504, the largest float16", remedy="--to merged")
        writer.write_tensor_data(gguf.quantize(tensor.numpy(), gguf.GGMLQuantizationType[kinds[name]]))
    writer.close()


def stored_in(name: str, weight: Tensor, storage: Storage) -> tuple[Tensor, float]:
    """A weight as the file gives it back, and how far each value may lie from that, relative to its row's largest."""
    kind = _kind(name, weight, storage)
    if kind == "Q8_0":
        return weight, 0.6 / 127  # half a step, and the rounding of the scale to float16
    return (weight.half().float() if kind == "F16" else weight), 0.0


def _kind(name: str, tensor: Tensor, storage: Storage) -> str:
    """How a tensor is stored: vectors in F32; embeddings, and rows that no block divides, in F16."""
    if tensor.ndim == 1:
        return "F32"
    fits = tensor.shape[1] % BLOCK == 0 and name not in EMBEDDINGS
    return "Q8_0" if storage == "q8_0" and fits else "F16"
