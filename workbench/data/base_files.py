"""The description of a base from its small files: architecture, positions, end tokens, quantisation.

Reads JSON and the headers of safetensors files; knows neither torch nor transformers.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.data.embedded import resolve_base
from workbench.run.errors import WorkbenchError

POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""Keys of config.json that hold the number of positions; architectures differ."""

SAMPLING_KEYS = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "max_time": None,
    "stop_strings": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "guidance_scale": 1.0,
    "exponential_decay_length_penalty": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "num_beams": 1,
    "penalty_alpha": None,
}
"""Keys of generation_config.json that change sampling, each with its neutral value."""

PACKED = ("absmax", "quant_map", "quant_state", "nested_absmax", "nested_quant_map", "weight_format", "SCB")
"""Last parts of the names of tensors that bitsandbytes stores with a packed weight."""


@dataclass(frozen=True)
class BaseFiles:
    """The small files of a base."""

    name: str
    """As the user wrote it."""
    folder: Path
    config: Mapping[str, Any]
    """config.json; for a multimodal model, its text part overrides the rest."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """generation_config.json, or empty."""
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """tokenizer_config.json, or empty."""

    @property
    def architecture(self) -> str:
        """For example `Llama`."""
        named = self.config.get("architectures") or [self.config.get("model_type", "unknown")]
        return str(named[0]).removesuffix("ForCausalLM").removesuffix("LMHeadModel")

    @property
    def positions(self) -> int | None:
        """The longest sequence in tokens, including rope scaling; None if the architecture has no limit."""
        return positions_of(self.config)

    @property
    def rows(self) -> int | None:
        """Rows of the embedding table."""
        rows = self.config.get("vocab_size")
        return int(rows) if isinstance(rows, int) else None

    @property
    def stated_ends(self) -> tuple[int, ...]:
        """The end token ids of generation_config.json, then of config.json."""
        stated: list[int] = []
        for source in (self.generation, self.config):
            given = source.get("eos_token_id")
            stated += given if isinstance(given, list) else [] if given is None else [given]
        return tuple(dict.fromkeys(int(end) for end in stated))

    @property
    def ignored_sampling(self) -> dict[str, Any]:
        """Settings of generation_config.json that would change sampling."""
        return {
            key: self.generation[key]
            for key, neutral in SAMPLING_KEYS.items()
            if self.generation.get(key) is not None and self.generation[key] != neutral
        }

    @property
    def quantisation(self) -> Mapping[str, Any] | None:
        """The quantization_config of config.json, if the weights are already quantised."""
        own = self.config.get("quantization_config")
        return own if isinstance(own, dict) and own else None

    @property
    def has_template(self) -> bool:
        """Whether the base has a chat template."""
        files = ("chat_template.jinja", "chat_template.json")
        return bool(self.tokenizer.get("chat_template")) or any((self.folder / file).is_file() for file in files)

    @cached_property
    def parameters(self) -> int | None:
        """Parameters in the safetensors files, counted from their headers; None for other weight files."""
        files = [path for path in weight_files(self.folder) if path.suffix == ".safetensors"]
        return sum(map(_parameters_in, files)) if files else None

    @cached_property
    def special_ids(self) -> dict[int, str]:
        """Id → text, for the special tokens of tokenizer.json and tokenizer_config.json."""
        added = _json_object(self.folder / "tokenizer.json").get("added_tokens") or []
        special = {int(token["id"]): str(token["content"]) for token in added if token.get("special")}
        for number, token in (self.tokenizer.get("added_tokens_decoder") or {}).items():
            if token.get("special"):
                special[int(number)] = str(token["content"])
        return special

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokenizer's EOS, then those of `stated_ends` that are special tokens."""
        eos = self.tokenizer.get("eos_token")
        text = eos.get("content") if isinstance(eos, dict) else eos
        own = [number for number, content in self.special_ids.items() if content == text]
        stated = [end for end in self.stated_ends if not self.special_ids or end in self.special_ids]
        return tuple(dict.fromkeys([*own, *stated]))

    def describe(self) -> str:
        """For example `Llama, 6.74 B, 4096 positions, EOS 2; template: the base's own`."""
        size = [] if self.parameters is None else [in_words(self.parameters)]
        quantised = [quantisation_name(self.quantisation)] if self.quantisation else []
        positions = f"{self.positions} positions" if self.positions else "no limit of positions"
        ends = "EOS " + (", ".join(map(str, self.end_ids)) or "of the tokenizer")
        template = "the base's own" if self.has_template else "the workbench's"
        return ", ".join([self.architecture, *size, *quantised, positions, ends]) + f"; template: {template}"


def base_folder(name: str, revision: str | None = None) -> Path | None:
    """The local folder of a base's files; None for a hub id that is not cached.

    Raises:
        WorkbenchError: from `resolve_base`.
    """
    path = Path(resolve_base(name))
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def read_base_files(name: str, revision: str | None = None) -> BaseFiles | None:
    """Read a base's small files; None for a hub id that is not cached.

    Raises:
        WorkbenchError: no such base, or one of its files is not JSON.
    """
    folder = base_folder(name, revision)
    if folder is None:
        return None
    config = _json_object(folder / "config.json")
    text = config.get("text_config")
    return BaseFiles(
        name,
        folder,
        {**config, **text} if isinstance(text, dict) else config,
        _json_object(folder / "generation_config.json"),
        _json_object(folder / "tokenizer_config.json"),
    )


def positions_of(config: Mapping[str, Any]) -> int | None:
    """The longest sequence that a config.json allows, in tokens; None if it names no limit.

    `linear` and `dynamic` rope scaling multiply the stated positions; `yarn` multiplies the original ones; `llama3` and
    `longrope` state the extended length. Source: transformers' modeling_rope_utils, and vLLM's handling of it.
    """
    stated = next((config[key] for key in POSITION_KEYS if isinstance(config.get(key), int) and config[key] > 0), None)
    if stated is None:
        return None
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    factor = scaling.get("factor")
    if not isinstance(factor, (int, float)) or factor <= 1:
        return int(stated)
    original = scaling.get("original_max_position_embeddings")
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "dynamic", "yarn"):
        return max(int(stated), int((original or stated) * factor))
    return int(stated)


def fit_positions(positions: int | None, lengths: Mapping[str, int]) -> None:
    """Check that rows of a configured length fit into the base's positions.

    Args:
        positions: of the base; None: no limit.
        lengths: configuration key → tokens; together they are one row, such as a prompt and its response.

    Raises:
        WorkbenchError: they are longer; the remedy is a value that fits.
    """
    total = sum(lengths.values())
    if positions is None or total <= positions:
        return
    *others, last = lengths
    room = positions - sum(lengths[key] for key in others)
    raise WorkbenchError(
        last,
        " + ".join(f"{key}={value}" for key, value in lengths.items())
        + (f" are {total}" if others else "")
        + f" tokens, but the base has {positions} positions",
        expected=f"rows of at most {positions} tokens",
        remedy=f"{last}={room}" if room > 0 else f"lower {' and '.join(lengths)} to at most {positions} together",
    )


def quantisation_name(own: Mapping[str, Any]) -> str:
    """For example `nf4 (bitsandbytes)`, `int8 (bitsandbytes)` or `gptq`."""
    method = str(own.get("quant_method") or "bitsandbytes")
    if method != "bitsandbytes":
        return method
    if own.get("load_in_8bit") or own.get("_load_in_8bit"):
        return "int8 (bitsandbytes)"
    return f"{own.get('bnb_4bit_quant_type', 'fp4')} (bitsandbytes)"


def check_quantisation(files: BaseFiles | None, quantise: str) -> None:
    """Check that the base's own quantisation is supported and agrees with `model.quantise`.

    Raises:
        WorkbenchError: it is not, or does not.
    """
    if files is None or files.quantisation is None:
        return
    name = quantisation_name(files.quantisation)
    if name != "nf4 (bitsandbytes)":
        raise WorkbenchError(
            f"base {files.name}",
            f"its weights are quantised already: {name}",
            expected="unquantised weights, or NF4 of bitsandbytes",
            remedy="model.base=the unquantised original: model.quantise=nf4 quantises it while loading",
        )
    if quantise == "none":
        raise WorkbenchError(
            "model.quantise",
            f"none, but the weights of base {files.name} are stored in NF4 and stay so",
            expected="nf4 for this base",
            remedy="model.quantise=nf4, or model.base=the unquantised original",
        )


def in_words(count: int) -> str:
    """A number of parameters, for example `6.74 B` or `260 K`."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkbenchError(path, f"is not JSON: {error}", remedy="fetch the file again") from None
    if not isinstance(content, dict):
        raise WorkbenchError(path, "is not a JSON object", remedy="fetch the file again")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers loads: safetensors before .bin, the parts of an index before one file.

    Raises:
        WorkbenchError: an index names a missing file.
    """
    for whole in ("model.safetensors", "pytorch_model.bin"):
        parts = _json_object(folder / f"{whole}.index.json").get("weight_map") or {}
        files = [folder / name for name in sorted(set(parts.values()))] or [folder / whole]
        missing = [path.name for path in files if not path.is_file()]
        if parts and missing:
            raise WorkbenchError(
                folder,
                f"{len(missing)} of its {len(files)} weight files are missing: {', '.join(missing[:3])}",
                remedy="fetch them again",
            )
        if not missing:
            return files
    return []


def header_of(path: Path) -> dict[str, Any]:
    """Name → dtype and shape, for the tensors of a safetensors file.

    Raises:
        WorkbenchError: the file is cut off, or not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = json.loads(file.read(length))
    except (struct.error, ValueError) as error:
        raise WorkbenchError(path, f"is not a safetensors file: {error}", remedy="fetch the file again") from None
    header.pop("__metadata__", None)
    return header


def _parameters_in(path: Path) -> int:
    """The parameters of a file; a packed 4-bit weight has two per byte, and its scales do not count."""
    count = 0
    for name, tensor in header_of(path).items():
        if not any(part in PACKED for part in name.split(".")[-2:]):
            count += math.prod(tensor["shape"]) * (2 if tensor["dtype"] == "U8" else 1)
    return count
