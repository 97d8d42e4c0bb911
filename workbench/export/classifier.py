"""A reward model or classifier as a plain LlamaForSequenceClassification, with its bias.

transformers' head `score` has no bias, and no constant survives the final norm, so the whole head moves into one more
decoder layer. Its attention is 0, and its second norm is the base's final norm, which gives the final state h:

    s_k  = silu(w_k·h + b_k) − silu(−w_k·h − b_k) = w_k·h + b_k          the trained logit
    y    = x + K (e_D + ε Σ_k s_k e_k)                                   residual after the layer
    y/rms(y) ≈ √D (e_D + ε Σ_k s_k e_k)                                  new final norm, weight 1
    score_k  = e_k / (ε √D)                                              gives s_k

Relative error: ε² Σ s² / 2 from the norm, |x| / (K ε) from the residual. K needs the range of float32 or bfloat16.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from workbench.export.heldout import Head
from workbench.export.merge import State
from workbench.run.errors import WorkbenchError

K = 2.0**48
EPSILON = 2.0**-13


def with_head(state: State, config: Any, head: Head) -> tuple[State, Any]:
    """Weights and configuration of the classifier.

    Args:
        state: of the merged causal model; empty: the configuration alone is wanted.
        config: of the merged causal model.
        head: of the run.

    Raises:
        WorkbenchError: the base is not a Llama, or has too few features.
    """
    labels, hidden, inner = head.labels, config.hidden_size, config.intermediate_size
    count = len(labels)
    if config.model_type != "llama":
        raise WorkbenchError(
            f"architecture {config.model_type}",
            "cannot hold the bias of a head",
            expected="a Llama",
            remedy="load adapter and head.safetensors as the run's README.md shows",
        )
    if count + 1 > hidden or 2 * count > inner:
        raise WorkbenchError("labels", f"{count} do not fit into {hidden} hidden features")
    new = _with_layer(state, config.num_hidden_layers, head) if state else {}
    config = copy.deepcopy(config)
    config.architectures = ["LlamaForSequenceClassification"]
    config.num_hidden_layers, config.mlp_bias, config.tie_word_embeddings = config.num_hidden_layers + 1, True, False
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = _problem(head)
    return new, config


def _problem(head: Head) -> str:
    """The name of the task in transformers, which chooses the loss of a further training."""
    if head.multi_label:
        return "multi_label_classification"
    return "regression" if len(head.labels) == 1 else "single_label_classification"


def _with_layer(state: State, layers: int, head: Head) -> State:
    inner, hidden = state["model.layers.0.mlp.gate_proj.weight"].shape
    new = {name: tensor for name, tensor in state.items() if name not in ("lm_head.weight", "model.norm.weight")}
    for number in range(layers):
        for name, size in (("gate_proj", inner), ("up_proj", inner), ("down_proj", hidden)):
            new.setdefault(f"model.layers.{number}.mlp.{name}.bias", torch.zeros(size))
    new |= _head_layer(state, f"model.layers.{layers}.", head.weight, head.bias)
    new["model.norm.weight"] = torch.ones(hidden)
    labels = torch.arange(len(head.labels))
    new["score.weight"] = torch.zeros(len(head.labels), hidden)
    new["score.weight"][labels, labels] = 1 / (EPSILON * hidden**0.5)
    return new


def _head_layer(state: State, place: str, weight: Tensor, bias: Tensor) -> State:
    """The last decoder layer: zeros like the first one's, and the head in its MLP."""
    layer = {
        name.replace("model.layers.0.", place): torch.zeros_like(tensor)
        for name, tensor in state.items()
        if name.startswith("model.layers.0.")
    }
    count, inner, hidden = len(bias), *layer[f"{place}mlp.gate_proj.weight"].shape
    gate, gate_bias, down = (
        layer[f"{place}mlp.gate_proj.weight"],
        torch.zeros(inner),
        layer[f"{place}mlp.down_proj.weight"],
    )
    gate[:count], gate[count : 2 * count] = weight, -weight
    gate_bias[:count], gate_bias[count : 2 * count] = bias, -bias
    labels = torch.arange(count)
    down[labels, labels], down[labels, count + labels] = K * EPSILON, -K * EPSILON
    constant = torch.zeros(hidden)
    constant[-1] = K
    return layer | {
        f"{place}input_layernorm.weight": torch.ones(hidden),
        f"{place}post_attention_layernorm.weight": state["model.norm.weight"].clone(),
        f"{place}mlp.gate_proj.bias": gate_bias,
        f"{place}mlp.up_proj.bias": torch.ones(inner),
        f"{place}mlp.down_proj.bias": constant,
    }
