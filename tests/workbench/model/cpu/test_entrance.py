"""When the CPU kernels are used, and that the modules run whenever they would compute something else."""

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, MistralForCausalLM

from tests.reference.tolerances import SHAPES
from tests.workbench.model.cpu.test_dense import CONFIG, ROWS, decoder_of, modules_pass, small
from workbench.model.adapters import lora_config
from workbench.model.cpu import entrance
from workbench.model.cpu.dense import Dense
from workbench.model.cpu.entrance import accelerate, cpu_kernels, reason_for_modules, why_not
from workbench.model.masks import pad_rows


@pytest.mark.parametrize(
    ("change", "applies"),
    [
        (lambda peft: peft.eval(), True),
        (lambda peft: peft.train(), True),
        (lambda peft: peft.base_model.disable_adapter_layers(), False),
        (lambda peft: peft.merge_adapter(), False),
        (lambda peft: decoder_of(peft).layers[0].mlp.register_forward_hook(lambda *_: None), False),
        (lambda peft: decoder_of(peft).layers[1].self_attn.q_proj.register_forward_pre_hook(lambda *_: None), False),
        (lambda peft: peft.base_model.model.gradient_checkpointing_enable() or peft.train(), False),
        (lambda peft: peft.base_model.model.gradient_checkpointing_enable() or peft.eval(), True),
    ],
)
def test_it_stands_aside_where_modules_would_do_something_else(change, applies):
    peft = small().float()
    change(peft)
    assert (cpu_kernels(decoder_of(peft)) is not None) == applies


def test_dropout_counts_in_train_mode_only_and_several_adapters_never():
    peft = small(lora_dropout=0.1).float()
    assert cpu_kernels(decoder_of(peft.train())) is None
    assert cpu_kernels(decoder_of(peft.eval())) is not None
    peft.add_adapter("other", lora_config(2, 8, 0.0))
    peft.base_model.set_adapter(["default", "other"])
    assert cpu_kernels(decoder_of(peft)) is None


def test_an_adapter_in_bfloat16_is_left_to_peft():
    peft = small().float()
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.bfloat16()
    assert cpu_kernels(decoder_of(peft)) is None


def test_dora_is_no_plain_adapter():
    assert cpu_kernels(decoder_of(small(use_dora=True).float())) is None


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**CONFIG, attention_bias=True),
        LlamaConfig(**CONFIG, mlp_bias=True),
        LlamaConfig(**CONFIG, hidden_act="gelu"),
        LlamaConfig(**CONFIG, attention_dropout=0.1),
        LlamaConfig(**CONFIG, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
    ],
)
def test_another_llama_is_refused(config):
    assert why_not(decoder_of(small(config).float())) is not None


def test_other_bases_dtypes_and_trained_bases_are_refused(monkeypatch):
    assert "not a Llama" in why_not(decoder_of(small(MistralConfig(**CONFIG), MistralForCausalLM).float()))
    assert why_not(decoder_of(small().bfloat16())) == "the base is in bfloat16"
    decoder = decoder_of(small().float())
    decoder.layers[0].mlp.up_proj.get_base_layer().weight.requires_grad_(True)
    assert "is trained" in why_not(decoder)
    assert why_not(decoder_of(small().float())) is None
    monkeypatch.setattr(entrance, "COPIES", 10**12)  # more memory than any machine has
    assert "free memory" in why_not(decoder_of(small().float()))


def test_the_choice_of_modules_is_kept_at_every_pass():
    decoder = decoder_of(small().float())
    assert cpu_kernels(decoder) is not None
    decoder.kernels = "modules"
    assert cpu_kernels(decoder) is None
    assert reason_for_modules(decoder, recomputes=False) == "model.kernels"


def test_training_that_drops_or_recomputes_is_left_to_the_modules():
    assert reason_for_modules(decoder_of(small().float()), recomputes=False) is None
    assert "dropout" in reason_for_modules(decoder_of(small(lora_dropout=0.1).float()), recomputes=False)
    assert "checkpointing" in reason_for_modules(decoder_of(small().float()), recomputes=True)


def installed(seen):
    """A model whose decoder has its dense form; `seen` counts the passes that took it."""
    peft = small().float()
    decoder = decoder_of(peft)
    accelerate(decoder)
    dense = vars(decoder)["dense"] = Dense(decoder)
    dense.merge = lambda: seen.append(1) or Dense.merge(dense)
    return peft


def test_a_trainer_that_calls_the_model_has_it_too():
    seen = []
    peft, (ids, mask) = installed(seen), pad_rows(ROWS, 0)
    found = []
    for model in (peft, small().float()):
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        found.append([logits[mask], *torch.autograd.grad(logits[mask].sin().sum(), weights)])
    assert len(seen) == 1
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).norm() < 1e-4 * theirs.norm()  # float32, and a sine of large numbers


@pytest.mark.parametrize(
    "given",
    [
        {"use_cache": True},
        {"position_ids": torch.arange(6).expand(4, 6)},
        {"output_hidden_states": True},
        {"inputs_embeds": torch.zeros(4, 6, 32), "input_ids": None},
        {"attention_mask": torch.ones(4, 1, 6, 6, dtype=torch.bool).tril()},
    ],
)
def test_a_caller_who_wants_something_else_gets_the_modules(given):
    seen = []
    peft, (ids, mask) = installed(seen), pad_rows(ROWS, 0)
    given = {"input_ids": ids, "attention_mask": mask.long(), **given}
    found, expected = (decoder_of(model)(**given) for model in (peft, small().float()))
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
    assert (found.past_key_values is None) == (expected.past_key_values is None)
    assert (found.hidden_states is None) == (expected.hidden_states is None)
    assert not seen


def test_a_caller_without_a_mask_has_no_padding():
    seen = []
    peft, ids = installed(seen), torch.tensor([[5, 6, 7]])
    found = decoder_of(peft)(ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, modules_pass(decoder_of(small().float()), ids, torch.ones_like(ids)), **SHAPES)
    assert seen
