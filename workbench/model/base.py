"""The frozen base: tokenizer and Llama weights, quantised to NF4. One of the two files that know bitsandbytes.

A base comes from a local folder or the local hub cache; adapters are put on it by `roles` and by the phases.
"""

import math
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

import bitsandbytes
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from workbench.data.base_files import base_folder
from workbench.data.embedded import resolve_base
from workbench.data.template import ensure_template
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import base_fingerprint

Quantisation = Literal["nf4", "none"]
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class BaseSpec:
    """Which base, and in which form: what adapters trained on it have to agree about."""

    name: str
    """As the user wrote it: `tiny`, a folder, or a hub id."""
    revision: str | None
    quantise: Quantisation
    dtype: Dtype
    fingerprint: str = ""
    """Of the weight files; empty until `identify` has read them."""

    def as_record(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any], place: object) -> "BaseSpec":
        """From a parent's run.json."""
        if "base" not in record:
            raise WorkbenchError(place, "run.json names no base", remedy="repeat the run: it stopped too early")
        return cls(**record["base"])

    def identified(self) -> "BaseSpec":
        """The same with the fingerprint of the weights that are there now."""
        return BaseSpec(self.name, self.revision, self.quantise, self.dtype, fingerprint_of(self.name, self.revision))


def fingerprint_of(name: str, revision: str | None = None) -> str:
    """The fingerprint of a base's weight files, or an empty string where they are not on this machine yet."""
    folder = base_folder(name, revision)
    return base_fingerprint(folder) if folder else ""


def full_size(parameter: torch.nn.Parameter) -> int:
    """Elements of a weight before quantisation: an NF4 one stores two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()


def default_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def compute_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The base's tokenizer with a frozen chat template and a pad token that is not EOS."""
    path = resolve_base(name)
    with _base_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    ensure_template(tokenizer)
    tokenizer.model_max_length = 1 << 30  # lengths are checked, counted and reported where rows are encoded
    return tokenizer


def load_base(
    spec: BaseSpec, tokenizer: PreTrainedTokenizerBase, *, head: Literal["causal", "score"] = "causal"
) -> PreTrainedModel:
    """Load the weights, frozen, quantised as the spec says.

    Args:
        spec: which base, and in which form.
        tokenizer: its pad token becomes the model's.
        head: `causal` keeps the LM head; `score` has a new scalar head instead (for a reward trainer).

    Raises:
        WorkbenchError: the base is not there, is no Llama-like model, or does not fit the device.
    """
    device = default_device()
    dtype = compute_dtype(spec.dtype, device)
    options: dict[str, Any] = {
        "revision": spec.revision,
        "dtype": dtype,
        "device_map": {"": device},
        "attn_implementation": "sdpa",
    }
    if spec.quantise == "nf4":
        # The defaults are fp4, float32 and no double quantisation. `llm_int8_skip_modules` stays unset: naming one
        # module replaces the default list, and the score head would be quantised.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=True,
        )
    path = resolve_base(spec.name)
    with _base_errors(spec.name):
        if head == "score":
            model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, **options)
        else:
            model = AutoModelForCausalLM.from_pretrained(path, **options)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if device.type == "cpu":
        keep_cpu_weights_in_place(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    if head == "causal":
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def keep_cpu_weights_in_place(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from re-packing NF4 weights during an eval-mode forward on CPUs with AVX512-BF16.

    After the re-packing, LoRA gradients are silently wrong (cosine 0.74 with the right ones).
    """
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def maximum_positions(model: PreTrainedModel) -> int:
    """The longest sequence the base has positions for."""
    return int(model.config.max_position_embeddings)


class _base_errors:
    """Turns what transformers says of a missing or unusable base into one clear error."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise WorkbenchError(
                f"base {self.name}",
                "does not fit the GPU's memory",
                remedy="model.quantise=nf4, or a GPU with more free memory",
            ) from None
        if isinstance(error, OSError) and error.errno is None:
            raise WorkbenchError(
                f"base {self.name}",
                f"cannot be loaded: {str(error).splitlines()[0]}",
                expected="a folder with config.json, weights and tokenizer, or a hub id that this machine can reach",
                remedy="model.base=/path/to/folder, or model.base=tiny for the embedded default",
            ) from None
        if isinstance(error, (ValueError, KeyError, SafetensorError)):
            raise WorkbenchError(
                f"base {self.name}",
                f"cannot be loaded: {str(error).splitlines()[0]}",
                expected="a Llama-like causal language model that transformers knows",
            ) from error
