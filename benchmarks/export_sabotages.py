"""Forty ways in which an export goes wrong, each made on purpose. `benchmarks.export` shows that each is refused.

Most happened somewhere: merges equal to the base, adapters folded twice, templates and end tokens left behind, query
rows in the order of the other library, shards cut off.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from workbench.export.heldout import Head
from workbench.export.llama_gguf import GgufContent, gguf_content, permuted, write_gguf
from workbench.export.merge import State, merged_state, plain_config
from workbench.export.run_export import GGUF, Request, Target, Trained, write_files, write_state

Write = Callable[[Request, Trained, Path], None]
"""Writes a wrong export into an empty folder."""


@dataclass(frozen=True)
class Sabotage:
    """One wrong export."""

    name: str
    to: Target
    write: Write


def base_state(trained: Trained) -> State:
    """The weights of the base alone."""
    model: Any = trained.roles.model
    scales = [(layer, dict(layer.scaling)) for layer in model.modules() if hasattr(layer, "lora_A")]
    for layer, _ in scales:
        layer.scaling = dict.fromkeys(layer.scaling, 0.0)
    state = merged_state(trained.roles, quiet=True)
    for layer, scale in scales:
        layer.scaling = scale
    return state


def of_state(change: Callable[[State, State, Trained], State]) -> Write:
    """An export of other weights: `change` gets the merged ones and the base's."""

    def write(request: Request, trained: Trained, folder: Path) -> None:
        state = change(merged_state(trained.roles, quiet=True), base_state(trained), trained)
        write_state(request, trained, folder, state, quiet=True)

    return write


def mixed(share: float, only: str = "") -> Write:
    """`share` of the adapter's change, in the weights whose names hold `only`; all of it in the others."""
    return of_state(
        lambda merged, base, _: {
            name: base[name] + share * (weight - base[name]) if only in name else weight
            for name, weight in merged.items()
        }
    )


def of_weight(name: str, change: Callable[[torch.Tensor, Any], torch.Tensor]) -> Write:
    """An export with one kind of weight changed: `change` gets a weight and the configuration."""
    return of_state(
        lambda merged, _, trained: {
            key: change(weight, trained.roles.causal_model.config) if name in key else weight
            for key, weight in merged.items()
        }
    )


def another_base(merged: State, base: State, trained: Trained) -> State:
    """The adapter's change on weights of the same sizes: those of the base, each row moved by one."""
    return {name: weight - base[name] + base[name].roll(1, 0) for name, weight in merged.items()}


def merged_in_nf4(merged: State, base: State, trained: Trained) -> State:
    """The merged weights quantised once more, as a merge into the NF4 base does."""

    def again(weight: torch.Tensor) -> torch.Tensor:
        packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True)
        return dequantize_4bit(packed, state)

    return {name: again(weight) if "proj" in name else weight for name, weight in merged.items()}


def swapped_layers(merged: State, base: State, trained: Trained) -> State:
    """The first two layers in each other's place."""
    places = {"model.layers.0.": "model.layers.1.", "model.layers.1.": "model.layers.0."}
    return {places.get(name[:15], name[:15]) + name[15:]: weight for name, weight in merged.items()}


def of_files(change: Callable[[Path], None]) -> Write:
    """A right export whose files are changed afterwards."""

    def write(request: Request, trained: Trained, folder: Path) -> None:
        write_files(request, trained, folder, quiet=True)
        change(folder)

    return write


def of_json(file: str, **changes: Any) -> Write:
    """Other values in a JSON file; None removes a key."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8")) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / file).write_text(json.dumps(kept), encoding="utf-8")

    return of_files(change)


def of_tensors(file: str, change: Callable[[State], State]) -> Write:
    """Other tensors in a safetensors file."""

    def apply(folder: Path) -> None:
        save_file(change(load_file(folder / file)), folder / file, {"format": "pt"})

    return of_files(apply)


def cut_off(file: str) -> Write:
    """A file without its last third."""

    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) * 2 // 3])

    return of_files(change)


def other_tokenizer(folder: Path) -> None:
    """Two tokens of the vocabulary in each other's place."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    numbers = {number: token for token, number in vocabulary.items()}
    frequent = [AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"] for text in "et"]
    one, two = (numbers[ids[-1]] for ids in frequent)
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    path.write_text(json.dumps(content), encoding="utf-8")


def lost_shard(folder: Path) -> None:
    """An index that names a second file, which is not there."""
    path = folder / "model.safetensors"
    names = list(load_file(path))
    path.rename(folder / "model-00001-of-00002.safetensors")
    half = len(names) // 2
    places = {name: f"model-0000{1 + (at >= half)}-of-00002.safetensors" for at, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def of_gguf(change: Callable[[GgufContent, State, Any], GgufContent]) -> Write:
    """A GGUF file of other content: `change` gets the right one, the weights and the configuration."""

    def write(request: Request, trained: Trained, folder: Path) -> None:
        state, config = merged_state(trained.roles, quiet=True), plain_config(trained.roles, torch.float32)
        content = gguf_content(state, config, trained.roles.tokenizer, "sabotage")
        write_gguf(folder / GGUF, change(content, state, config), request.storage, quiet=True)

    return write


def of_fields(change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Write:
    """A GGUF file with other metadata; None leaves a field out."""

    def apply(content: GgufContent, state: State, config: Any) -> GgufContent:
        fields = {**content.fields, **change(content.fields)}
        return replace(content, fields={name: value for name, value in fields.items() if value is not None})

    return of_gguf(apply)


def unpermuted(content: GgufContent, state: State, config: Any) -> GgufContent:
    """Queries and keys in the order of transformers."""
    right = {
        f"blk.{n}.attn_{k}.weight": state[f"model.layers.{n}.self_attn.{k}_proj.weight"] for n in (0, 1) for k in "qk"
    }
    return replace(content, tensors=content.tensors | right)


def twice_permuted(content: GgufContent, state: State, config: Any) -> GgufContent:
    """Keys permuted a second time."""
    heads = config.num_key_value_heads
    tensors = {name: permuted(one, heads) if "attn_k" in name else one for name, one in content.tensors.items()}
    return replace(content, tensors=tensors)


def reversed_merges(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The order in which pieces are joined, reversed."""
    if "token_scores" in fields:
        return {"token_scores": [-score for score in fields["token_scores"]]}
    return {"token_merges": fields["token_merges"][::-1]}


def of_head(change: Callable[[Head], Head]) -> Write:
    """A classifier with another head."""

    def write(request: Request, trained: Trained, folder: Path) -> None:
        assert trained.head is not None
        write_files(request, replace(trained, head=change(trained.head)), folder, quiet=True)

    return write


CONFIG, WEIGHTS, ADAPTER = "config.json", "model.safetensors", "adapter_model.safetensors"
SABOTAGES = [
    Sabotage("adapter not folded", "merged", mixed(0.0)),
    Sabotage("adapter folded twice", "merged", mixed(2.0)),
    Sabotage("half of the scale", "merged", mixed(0.5)),
    Sabotage("sign of the adapter", "merged", mixed(-1.0)),
    Sabotage("one layer not folded", "merged", mixed(0.0, "layers.0.")),
    Sabotage("query projections not folded", "merged", mixed(0.0, "q_proj")),
    Sabotage("another base", "merged", of_state(another_base)),
    Sabotage("merged into the NF4 base", "merged", of_state(merged_in_nf4)),
    Sabotage("layers in another order", "merged", of_state(swapped_layers)),
    Sabotage("final norm rescaled", "merged", of_weight("model.norm", lambda weight, _: 0.9 * weight)),
    Sabotage(
        "queries in the order of GGUF",
        "merged",
        of_weight("q_proj", lambda weight, config: permuted(weight, config.num_attention_heads)),
    ),
    Sabotage("a weight is NaN", "merged", of_weight("1.mlp.up_proj", lambda weight, _: weight / 0.0 * 0.0)),
    Sabotage("stale rope base", "merged", of_json(CONFIG, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})),
    Sabotage("stale epsilon", "merged", of_json(CONFIG, rms_norm_eps=2e-5)),
    Sabotage("stale number of positions", "merged", of_json(CONFIG, max_position_embeddings=64)),
    Sabotage("quantisation left in config.json", "merged", of_json(CONFIG, quantization_config={"load_in_4bit": True})),
    Sabotage("embeddings untied", "merged", of_json(CONFIG, tie_word_embeddings=False)),
    Sabotage("EOS missing", "merged", of_json("generation_config.json", eos_token_id=None)),
    Sabotage("padding is EOS", "merged", of_json("tokenizer_config.json", pad_token="</s>")),
    Sabotage("template missing", "merged", of_files(lambda folder: (folder / "chat_template.jinja").unlink())),
    Sabotage(
        "another template",
        "merged",
        of_files(lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}") and None),
    ),
    Sabotage("vocabulary mixed up", "merged", of_files(other_tokenizer)),
    Sabotage("weights cut off", "merged", cut_off(WEIGHTS)),
    Sabotage("a shard lost", "merged", of_files(lost_shard)),
    Sabotage("not permuted", "gguf", of_gguf(unpermuted)),
    Sabotage("keys permuted twice", "gguf", of_gguf(twice_permuted)),
    Sabotage("template missing", "gguf", of_fields(lambda _: {"chat_template": None})),
    Sabotage("EOS is BOS", "gguf", of_fields(lambda fields: {"eos_token_id": fields["bos_token_id"]})),
    Sabotage(
        "special tokens are text", "gguf", of_fields(lambda fields: {"token_types": [1] * len(fields["token_types"])})
    ),
    Sabotage("merges in another order", "gguf", of_fields(reversed_merges)),
    Sabotage("stale rope base", "gguf", of_fields(lambda fields: {"rope_freq_base": 5e5})),
    Sabotage("adapter not folded", "gguf", mixed(0.0)),
    Sabotage("file cut off", "gguf", cut_off(GGUF)),
    Sabotage("scale doubled", "adapter", of_json("adapter_config.json", lora_alpha=4096)),
    Sabotage("weights cut off", "adapter", cut_off(ADAPTER)),
    Sabotage(
        "weights are zero", "adapter", of_tensors(ADAPTER, lambda state: {k: 0 * weight for k, weight in state.items()})
    ),
    Sabotage("gain missing", "classifier", of_head(lambda head: replace(head, weight=head.weight / 2))),
    Sabotage("offset missing", "classifier", of_head(lambda head: replace(head, bias=0 * head.bias))),
    Sabotage("adapter not folded", "classifier", mixed(0.0)),
    Sabotage("another label", "classifier", of_json(CONFIG, id2label={"0": "wrong"})),
]
assert len(SABOTAGES) == 40
