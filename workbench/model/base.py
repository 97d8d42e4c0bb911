"""The frozen base: tokenizer and Llama weights, quantised to NF4. One of the two files that know bitsandbytes.

A base comes from a local folder or the local hub cache; adapters are put on it by `roles` and by the phases.
"""

import math
import os
import sys
from dataclasses import asdict, dataclass, replace
from pickle import UnpicklingError
from typing import Any, Literal

import bitsandbytes
import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GenericForSequenceClassification

from workbench.data.base_files import BaseFiles, base_folder, check_quantisation, quantisation_name, read_base_files
from workbench.data.embedded import TINY_BASE, resolve_base
from workbench.data.template import end_ids, ensure_template
from workbench.model.weights import check_complete, check_finite, check_logits, fold_logit_scale
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import base_fingerprint
from workbench.run.out_of_memory import memory_hint
from workbench.run.sections import Kernels

Quantisation = Literal["nf4", "none"]
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class BaseSpec:
    """Which base, and in which form. Adapters can be combined only if all of this is equal."""

    name: str
    """As the user wrote it: `tiny`, a folder, or a hub id."""
    revision: str | None
    quantise: Quantisation
    dtype: Dtype
    fingerprint: str = ""
    """Hash of the weight files; empty until `identified` has read them."""
    pad_token: str | None = None
    """Padding token, if the user names one."""
    kernels: Kernels = "auto"
    """As asked for; run.json's `opened` holds which were used."""

    def as_record(self) -> dict[str, Any]:
        """As run.json stores it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any], place: object) -> "BaseSpec":
        """Read it from a parent's run.json."""
        if "base" not in record:
            raise WorkbenchError(place, "run.json names no base", remedy="repeat the run: it stopped too early")
        return cls(**record["base"])

    def identified(self) -> "BaseSpec":
        """A copy with the fingerprint of the weights now on disk."""
        return replace(self, fingerprint=fingerprint_of(self.name, self.revision))

    def opened(self) -> dict[str, str]:
        """For run.json: a description of the base, how its files store it, and the dtype that `auto` resolves to.

        A name that only the workbench knows comes with its `folder`.
        """
        files = read_base_files(self.name, self.revision)
        own = files.quantisation if files is not None else None
        return {
            "description": files.describe() if files is not None else self.name,
            "stored": quantisation_name(own) if own else "unquantised",
            "dtype": str(compute_dtype(self.dtype, default_device())).removeprefix("torch."),
            **({"folder": resolve_base(self.name)} if self.name == TINY_BASE else {}),
        }


def fingerprint_of(name: str, revision: str | None = None) -> str:
    """The fingerprint of a base's weight files, or an empty string if they are not on this machine yet."""
    folder = base_folder(name, revision)
    return base_fingerprint(folder) if folder else ""


def full_size(parameter: torch.nn.Parameter) -> int:
    """Elements of a weight before quantisation: NF4 packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()


def default_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def compute_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_tokenizer(name: str, revision: str | None = None, pad_token: str | None = None) -> PreTrainedTokenizerBase:
    """The base's tokenizer with a frozen chat template, its end tokens, and a pad token that ends no response.

    Says once which end tokens count and which settings of its generation_config.json do not.

    Raises:
        WorkbenchError: the base is missing, its architecture is not supported, or tokenizer and embeddings do not fit.
    """
    path = resolve_base(name)
    with _base_errors(name):
        config = AutoConfig.from_pretrained(path, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    files = read_base_files(name, revision)
    assert files is not None, "transformers has just read its config.json"
    _check_architecture(files, config)
    ensure_template(tokenizer, rows=files.rows, pad_token=pad_token, ends=files.stated_ends)
    tokenizer.model_max_length = files.positions or 1 << 30
    _introduce(files, tokenizer)
    return tokenizer


def _check_architecture(files: BaseFiles, config: Any) -> None:
    """Refuse an architecture that is not a decoder with a trunk called `model`, before anything is written.

    Raises:
        WorkbenchError: names the architecture.
    """
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None or kind.base_model_prefix != "model" or config.is_encoder_decoder:
        raise WorkbenchError(
            f"base {files.name}",
            f"its architecture is {files.architecture}, which is not supported",
            expected="a decoder whose trunk is called `model`, such as Llama, Mistral, Qwen2, Gemma or OPT",
        )
    if files.config.get("final_logit_softcapping"):
        raise WorkbenchError(
            f"base {files.name}",
            f"{files.architecture} caps its logits (final_logit_softcapping="
            f"{files.config['final_logit_softcapping']}), and log-probabilities are computed without that",
            expected="logits that are LM head × hidden state, scaled or not",
        )


_introduced: set[str] = set()


def _introduce(files: BaseFiles, tokenizer: PreTrainedTokenizerBase) -> None:
    """Print once per process what may surprise: several end tokens, settings of the base that are ignored."""
    if files.name in _introduced or os.environ.get("RANK", "0") != "0":
        return
    _introduced.add(files.name)
    ends = [f"{end} ({tokenizer.convert_ids_to_tokens(end)!r})" for end in end_ids(tokenizer)]
    lines = []
    if len(ends) > 1:
        lines.append(f"answers end at any of {', '.join(ends)}; they are trained with the first")
    unused = [end for end in files.stated_ends if end not in end_ids(tokenizer)]
    if unused:
        lines.append(f"ignored as ends, because they are not special tokens: {', '.join(map(str, unused))}")
    if files.ignored_sampling:
        settings = ", ".join(f"{key}={value}" for key, value in files.ignored_sampling.items())
        lines.append(f"ignored in its generation_config.json: {settings}; sampling follows the configuration alone")
    for line in lines:
        print(f"base {files.name}: {line}", file=sys.stderr)


@memory_hint(
    "while loading the base",
    "a device with more free memory; or an sft run with model.quantise=nf4, whose base takes a quarter of the memory",
)
def load_base(
    spec: BaseSpec, tokenizer: PreTrainedTokenizerBase, *, head: Literal["causal", "score"] = "causal"
) -> PreTrainedModel:
    """Load the weights, frozen, quantised as the spec says.

    Args:
        spec: which base, and in which form.
        tokenizer: its pad token becomes the model's.
        head: `causal` keeps the LM head; `score` has a new scalar head instead (for a reward trainer).

    Raises:
        WorkbenchError: the base is missing, is not a Llama-like model, or does not fit the device.
    """
    device = default_device()
    dtype = compute_dtype(spec.dtype, device)
    options: dict[str, Any] = {
        "revision": spec.revision,
        "dtype": dtype,
        "device_map": {"": device},
        "attn_implementation": "sdpa",
        "output_loading_info": True,
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
    files = read_base_files(spec.name, spec.revision)
    check_quantisation(files, spec.quantise)
    if files is not None and files.quantisation:
        options.pop("quantization_config", None)  # the folder is quantised already, by its own settings
    with _base_errors(spec.name):
        if files is not None and not spec.fingerprint:  # a fingerprint means that the weights were checked before
            check_finite(spec.name, files.folder)
        if head == "score":
            kind = _score_class(AutoConfig.from_pretrained(path, revision=spec.revision))
            loaded: Any = kind.from_pretrained(path, num_labels=1, **options)
        else:
            loaded = AutoModelForCausalLM.from_pretrained(path, **options)
    model, info = loaded
    check_complete(spec.name, (key for key in info["missing_keys"] if not key.startswith("score.")))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype = dtype  # an already quantised folder brings its own
    if device.type == "cpu":
        keep_cpu_weights_in_place(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    model.model.kernels = spec.kernels  # read by workbench.model.cpu.entrance
    if head == "causal":
        # A new one: the base's would add its own sampling settings, and the sampled policy would not be the scored one.
        model.generation_config = GenerationConfig(
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=[*end_ids(tokenizer)]
        )
        fold_logit_scale(model)
        check_logits(spec.name, model.eval())
    return model


def _score_class(config: Any) -> Any:
    """The architecture's class with a score head; built on its trunk if transformers has none, as for Cohere."""
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return AutoModelForSequenceClassification
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    trunk = next(base for base in causal.__mro__ if base.__name__.endswith("PreTrainedModel"))
    name = causal.__name__.replace("ForCausalLM", "ForSequenceClassification")
    return type(name, (GenericForSequenceClassification, trunk), {})


def keep_cpu_weights_in_place(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from re-packing NF4 weights during an eval-mode forward on CPUs with AVX512-BF16.

    After the re-packing, LoRA gradients are silently wrong (cosine 0.74 with the right ones).
    """
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


class _base_errors:
    """Turns transformers' errors about a missing or unusable base into one clear error."""

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
        mismatch = isinstance(error, RuntimeError) and "mismatch" in str(error)
        if mismatch or isinstance(error, (ValueError, KeyError, SafetensorError, UnpicklingError)):
            raise WorkbenchError(
                f"base {self.name}",
                f"cannot be loaded: {str(error).splitlines()[0]}",
                expected="a Llama-like causal language model that transformers knows",
            ) from error
