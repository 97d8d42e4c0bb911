"""What the writers compute, without a run: the head's layer, the order of GGUF's rows, names and kinds of tokens."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from workbench.export.classifier import with_head
from workbench.export.heldout import Head
from workbench.export.llama_gguf import check_llama, permuted
from workbench.run.errors import WorkbenchError


def small(**changes) -> LlamaConfig:
    values = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    values |= {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "architectures": ["LlamaForCausalLM"],
    }
    return LlamaConfig(**values | changes)


@pytest.mark.parametrize("labels", [["score"], ["a", "b", "c"]])
def test_the_layer_of_the_head_gives_its_logits_and_bias(labels):
    torch.manual_seed(0)
    model = LlamaForCausalLM(small()).eval()
    for layer in model.model.layers:  # states as large as a trained model's
        layer.mlp.down_proj.weight.data *= 30
    model.model.norm.weight.data.uniform_(0.5, 2)
    head = Head(torch.randn(len(labels), 32), torch.linspace(-3, 8, len(labels)), labels, False)
    state, config = with_head(dict(model.state_dict()), model.config, head)
    classifier = LlamaForSequenceClassification(config).eval()
    missing, unexpected = classifier.load_state_dict(state, strict=False)
    assert (missing, unexpected) == ([], [])
    ids = torch.randint(1, 40, (6, 9))
    with torch.no_grad():
        states = model.model(input_ids=ids).last_hidden_state[:, -1]
        expected = states @ head.weight.T + head.bias
        torch.testing.assert_close(classifier(input_ids=ids).logits, expected, atol=2e-4, rtol=2e-5)
    assert config.num_labels == len(labels)
    assert not model.config.mlp_bias, "the configuration of the model is not changed"


def test_other_architectures_have_no_place_for_the_bias():
    config = small()
    config.model_type = "mistral"
    with pytest.raises(WorkbenchError, match="bias of a head"):
        with_head({}, config, Head(torch.zeros(1, 32), torch.zeros(1), ["score"], False))


def test_rows_in_the_order_of_gguf():
    """Two heads of four features: 0 1 | 2 3 become 0 2 1 3, so that a rotated pair lies side by side."""
    rows = torch.arange(8.0).unsqueeze(1)
    assert permuted(rows, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    ],
)
def test_more_than_a_plain_llama_is_refused(changes):
    check_llama(small())
    with pytest.raises(WorkbenchError, match="plain Llama"):
        check_llama(small(**changes))
