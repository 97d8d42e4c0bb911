"""An exported folder as its users read it: by transformers alone, every weight there, nothing stale."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from workbench.data.base_files import header_of, weight_files
from workbench.data.template import end_ids
from workbench.export.trained import batches
from workbench.model.base import keep_cpu_weights_in_place
from workbench.model.weights import check_finite
from workbench.run.errors import WorkbenchError

VOLATILE = {"_name_or_path", "transformers_version", "label2id"}
"""Keys of config.json that say nothing about the model; `id2label` says what `label2id` says."""
IN_GGUF = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"),
    *("bos_token_id", "pad_token_id"),
)
"""Keys of a configuration that a GGUF file holds."""
CHAT = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Here."}]
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def refusal(folder: Path, problem: str, expected: str | None = None) -> WorkbenchError:
    """The error of an export that is not what was trained."""
    published = folder.with_name(folder.name.removeprefix(".").removesuffix(".writing"))  # its name while it is written
    return WorkbenchError(
        published,
        f"the export is not the trained model: {problem}",
        expected=expected,
        remedy="nothing was published, and the run is unchanged; --dtype float32 and --type f16 round less",
    )


def load(folder: Path, kind: str, **options: Any) -> Any:
    """The model in a folder, in float32 and eval mode.

    Args:
        folder: to read.
        kind: `causal` or `classifier`.
        options: of `from_pretrained`.

    Raises:
        WorkbenchError: it cannot be read, or weights are missing or left over.
    """
    cls: Any = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    try:
        model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:  # a damaged file fails anywhere in the readers, with any kind of error
        raise refusal(folder, f"it cannot be loaded: {str(error).splitlines()[0][:200]}") from error
    wrong = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    found = "; ".join(f"{key}: {', '.join(names[:3])}" for key, names in wrong.items() if names)
    if found:
        raise refusal(folder, found, "every weight of the model, and no other")
    keep_cpu_weights_in_place(model)  # an adapter's NF4 base in float32, on every CPU
    return model.eval()


def check_weights(folder: Path, dtype: torch.dtype) -> None:
    """Check that the stored weights are whole, finite and of the stated dtype.

    Raises:
        WorkbenchError: they are not.
    """
    files = weight_files(folder)
    kinds = {str(tensor["dtype"]) for path in files for tensor in header_of(path).values()}
    if kinds != {DTYPES[dtype]}:
        raise refusal(folder, f"its weights are stored as {', '.join(sorted(kinds)) or 'nothing'}", DTYPES[dtype])
    try:
        check_finite(str(folder), folder)
    except WorkbenchError:
        raise
    except Exception as error:  # of safetensors, at a file that is cut off
        raise refusal(folder, f"its weights cannot be read: {error}") from error


def same_weights(folder: Path, model: Any, expected: Mapping[str, tuple[Tensor, float]]) -> None:
    """Check every weight of a model that was read: rows of tokens outside the held-out rows change no logit there.

    Args:
        folder: that was read.
        model: from it.
        expected: name → the weight, and the largest difference relative to the largest value of its row.

    Raises:
        WorkbenchError: names the first weight that differs.
    """
    found = model.state_dict()
    for name, (weight, tolerance) in expected.items():
        if found[name].shape != weight.shape:
            raise refusal(folder, f"{name} has shape {tuple(found[name].shape)}", str(tuple(weight.shape)))
        difference = (found[name].float().cpu() - weight).abs()
        if not bool((difference <= tolerance * weight.abs().amax(dim=-1, keepdim=True)).all()):
            raise refusal(folder, f"{name} differs by up to {float(difference.max()):.2g}")


def check_config(folder: Path, config: Any) -> None:
    """Check every key of config.json, and the ends in generation_config.json.

    Raises:
        WorkbenchError: one differs from what the trained model needs.
    """
    try:
        found = AutoConfig.from_pretrained(folder).to_dict()
    except (OSError, ValueError) as error:
        raise refusal(folder, f"config.json: {error}") from error
    expected = type(config).from_dict(config.to_dict()).to_dict()
    differences(folder, found, expected, sorted((expected.keys() | found.keys()) - VOLATILE))
    if config.architectures[0].endswith("ForCausalLM"):
        ends = GenerationConfig.from_pretrained(folder).to_dict()
        wanted = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
        differences(folder, ends, wanted, list(wanted))


def differences(folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Compare the values of these keys.

    Raises:
        WorkbenchError: names the first that differs.
    """
    for key in keys:
        ours, theirs = expected.get(key), found.get(key)
        close = isinstance(ours, float) and isinstance(theirs, float) and abs(ours - theirs) <= 1e-6 * abs(ours)
        if ours != theirs and not close:
            raise refusal(folder, f"{key} is {theirs!r}", repr(ours))


def check_tokenizer(
    folder: Path, ours: Any, texts: Sequence[str], *, with_specials: bool = True, **options: Any
) -> None:
    """Check that the folder's tokenizer gives the ids, the rendered chats and the special tokens of the trained one.

    Args:
        folder: to read.
        ours: the tokenizer in training.
        texts: to encode.
        with_specials: also encode text around special tokens, which a GGUF file cannot say how to split.
        options: of `from_pretrained`.

    Raises:
        WorkbenchError: something differs.
    """
    try:
        theirs = AutoTokenizer.from_pretrained(folder, **options)
        rendered = theirs.apply_chat_template(CHAT, tokenize=False) if theirs.chat_template else None
    except Exception as error:  # damaged files and templates
        raise refusal(folder, f"its tokenizer cannot be loaded: {str(error)[:200]}") from error
    if rendered != ours.apply_chat_template(CHAT, tokenize=False):
        raise refusal(folder, "its chat template is missing or different", "the template of training")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        if getattr(theirs, name) != getattr(ours, name):
            raise refusal(folder, f"{name} is {getattr(theirs, name)}", str(getattr(ours, name)))
    vocabulary = theirs.get_vocab()
    moved = [token for token, number in ours.get_vocab().items() if vocabulary.get(token, number) != number]
    if moved:
        raise refusal(folder, f"{len(moved)} tokens have different ids, among them {moved[0]!r}")
    for token in filter(None, {ours.bos_token, ours.eos_token}):
        if theirs(token, add_special_tokens=False)["input_ids"] != [ours.convert_tokens_to_ids(token)]:
            raise refusal(folder, f"its tokenizer splits the special token {token}")
    ends = [f"{ours.bos_token or ''}{text}{ours.eos_token}{text}" for text in texts] if with_specials else []
    for text in [*texts, *ends]:
        if theirs(text)["input_ids"] != ours(text)["input_ids"]:
            raise refusal(folder, f"its tokenizer gives different ids for {text[:40]!r}", "the ids of training")


def check_ends(folder: Path, config: Any, tokenizer: Any) -> None:
    """Check the end token of a configuration that has room for one only (GGUF).

    Raises:
        WorkbenchError: it is not the one of training.
    """
    if config.eos_token_id != end_ids(tokenizer)[0]:
        raise refusal(folder, f"eos_token_id is {config.eos_token_id}", str(end_ids(tokenizer)[0]))


def token_logits(model: Any, rows: list[list[int]], pad_id: int) -> Iterator[Tensor]:
    """(T, V) logits of each row's tokens; the rows are sorted by length."""
    for _, ids, mask in batches(rows, pad_id, model.device):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
        for one, real in zip(logits, mask, strict=True):
            yield one[real].float().cpu()


def row_logits(model: Any, rows: list[list[int]], pad_id: int) -> Tensor:
    """(N, K) logits of a classifier."""
    found = torch.zeros(len(rows), model.config.num_labels)
    for batch, ids, mask in batches(rows, pad_id, model.device):
        with torch.no_grad():
            found[batch] = model(input_ids=ids, attention_mask=mask.long()).logits.float().cpu()
    return found
