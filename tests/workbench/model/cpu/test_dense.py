"""The dense pass is the modules' pass, and stands aside where it is not."""

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from tests.reference.tolerances import SHAPES
from workbench.model.base import load_base
from workbench.model.cpu import dense
from workbench.model.cpu.dense import Dense, can_be_dense, dense_of, install
from workbench.model.masks import pad_rows, position_ids
from workbench.model.roles import lora_config

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ROWS = [[5, 6, 7, 8, 9, 4], [7], [8, 9, 5, 11], [3, 4, 5, 6, 7]]


def small(config=None, model=LlamaForCausalLM, **changes):
    """A Llama in float64 with grouped heads and one random adapter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lora = lora_config(2, 8, 0.0)
        for name, value in changes.items():
            setattr(lora, name, value)
        peft = get_peft_model(model(config or LlamaConfig(**CONFIG)), lora).double()
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.3)
    return peft


def decoder_of(peft):
    return peft.base_model.model.model


def modules_pass(decoder, ids, mask):
    return decoder(
        input_ids=ids, attention_mask=mask.long(), position_ids=position_ids(mask), use_cache=False
    ).last_hidden_state


def states_and_gradients(peft, hidden, mask):
    weights = [weight for weight in peft.parameters() if weight.requires_grad]
    direction = torch.randn(hidden.shape, dtype=hidden.dtype, generator=torch.Generator().manual_seed(3))
    return [hidden[mask], *torch.autograd.grad((hidden * direction)[mask].sum(), weights)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj", "down_proj"]])
@pytest.mark.parametrize("short", [0, dense.SHORT])
def test_states_and_gradients_are_those_of_the_modules(side, targets, short, monkeypatch):
    monkeypatch.setattr(dense, "SHORT", short)
    peft = small(target_modules=targets)
    ids, mask = pad_rows(ROWS, 0, side=side)
    expected = states_and_gradients(peft, modules_pass(decoder_of(peft), ids, mask), mask)
    found = states_and_gradients(peft, Dense(decoder_of(peft))(ids, mask), mask)
    assert len(found) == 1 + 2 * 2 * (7 if targets == "all-linear" else 3)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **SHAPES)  # the modules' norms and angles are float32


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_selected_states_are_a_selection_whatever_the_number_of_threads(side, threads):
    peft = small()
    ids, mask = pad_rows(ROWS, 0, side=side)
    at = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5)
    assert at.any()
    assert not torch.equal(at, mask)
    weights = [weight for weight in peft.parameters() if weight.requires_grad]
    expected = modules_pass(decoder_of(peft), ids, mask)[at]
    torch.set_num_threads(threads)  # one again before the next test
    found = Dense(decoder_of(peft))(ids, mask, at)
    torch.testing.assert_close(found, expected, **SHAPES)
    for mine, theirs in zip(
        torch.autograd.grad(found.sin().sum(), weights), torch.autograd.grad(expected.sin().sum(), weights), strict=True
    ):
        torch.testing.assert_close(mine, theirs, **SHAPES)


def test_gradients_reach_embeddings_that_need_them():
    peft = small()
    ids, mask = pad_rows(ROWS, 0)
    embeddings = []
    decoder_of(peft).embed_tokens.register_forward_hook(lambda _, __, x: embeddings.append(x.requires_grad_()))
    runs = modules_pass(decoder_of(peft), ids, mask), Dense(decoder_of(peft))(ids, mask)
    theirs, ours = (torch.autograd.grad(run[mask].sin().sum(), x)[0] for run, x in zip(runs, embeddings, strict=True))
    torch.testing.assert_close(ours, theirs, **SHAPES)
    assert theirs.abs().max() > 0


def test_a_fully_masked_row_gives_no_nan():
    peft = small()
    ids, mask = pad_rows([[5, 6], []], 0, side="left")
    found = states_and_gradients(peft, Dense(decoder_of(peft))(ids, mask), mask)
    assert all(tensor.isfinite().all() for tensor in found)


def test_roles_use_it_and_it_is_what_peft_computes_on_the_nf4_base(roles, batch, monkeypatch):
    if roles.device.type != "cpu":
        pytest.skip("for CPUs")
    with torch.no_grad():
        for name in roles.names:
            for weight in roles.parameters(name):
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)

    def outcomes():
        found = {}
        for name in ("policy", "reward", "policy", "reference"):
            with roles.use(name, train=True) as forward:
                hidden = forward(*batch)
                hidden[batch[1]].sin().sum().backward()
            gradients = [p.grad.clone() for p in roles.parameters(name) if p.grad is not None]
            roles.model.zero_grad()
            found[name] = [hidden.detach()[batch[1]], *gradients]
        return found

    assert dense_of(roles.causal_model.model) is not None
    ours = outcomes()
    monkeypatch.setattr("workbench.model.roles.dense_of", lambda decoder: None)
    theirs = outcomes()
    for name, tensors in ours.items():
        for mine, other in zip(tensors, theirs[name], strict=True):
            assert float((mine - other).norm()) < 1e-5 * float(other.norm())


def test_each_pass_takes_the_adapter_as_it_is(roles, batch):
    def states():
        with roles.use("policy") as forward:
            return forward(*batch)

    before = states()
    with torch.no_grad():
        for weight in roles.parameters("policy"):
            weight.data.mul_(1.5)  # which leaves no trace in the version counter, as a fused optimizer does
    assert (states() - before).abs().max() > 1e-3


def test_a_backward_pass_survives_passes_in_between():
    """As in DPO, whose reference reads the batch before the policy's backward pass."""
    peft = small()
    ids, mask = pad_rows(ROWS, 0)
    one = Dense(decoder_of(peft))
    expected = states_and_gradients(peft, one(ids, mask), mask)
    hidden = one(ids, mask)
    with torch.no_grad():
        one(ids[:2], mask[:2])
    for mine, theirs in zip(states_and_gradients(peft, hidden, mask), expected, strict=True):
        assert torch.equal(mine, theirs)


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
    assert (dense_of(decoder_of(peft)) is not None) == applies


def test_dropout_counts_in_train_mode_only_and_several_adapters_never():
    peft = small(lora_dropout=0.1).float()
    assert dense_of(decoder_of(peft.train())) is None
    assert dense_of(decoder_of(peft.eval())) is not None
    peft.add_adapter("other", lora_config(2, 8, 0.0))
    peft.base_model.set_adapter(["default", "other"])
    assert dense_of(decoder_of(peft)) is None


def test_an_adapter_in_bfloat16_is_left_to_peft():
    peft = small().float()
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.bfloat16()
    assert dense_of(decoder_of(peft)) is None


def test_dora_is_no_plain_adapter():
    assert dense_of(decoder_of(small(use_dora=True).float())) is None


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
    assert not can_be_dense(decoder_of(small(config).float()))


def test_other_bases_dtypes_and_trained_bases_are_refused(monkeypatch):
    assert not can_be_dense(decoder_of(small(MistralConfig(**CONFIG), MistralForCausalLM).float()))
    assert not can_be_dense(decoder_of(small().bfloat16()))
    decoder = decoder_of(small().float())
    decoder.layers[0].mlp.up_proj.get_base_layer().weight.requires_grad_(True)
    assert not can_be_dense(decoder)
    assert can_be_dense(decoder_of(small().float()))
    with monkeypatch.context() as environment:
        environment.setenv(dense.MODULES_ONLY, "1")
        assert not can_be_dense(decoder_of(small().float()))
    monkeypatch.setattr(dense, "COPIES", 10**12)  # more memory than any machine has
    assert not can_be_dense(decoder_of(small().float()))


def test_training_that_drops_or_recomputes_is_left_to_the_modules():
    assert Dense(decoder_of(small().float())).trains()
    assert not Dense(decoder_of(small(lora_dropout=0.1).float())).trains()
    decoder = decoder_of(small().float())
    decoder.gradient_checkpointing = True
    assert not Dense(decoder).trains()


def test_unpacking_leaves_the_nf4_base_as_it_is(spec, tokenizer):
    base = load_base(spec, tokenizer)
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    Dense(base.model)
    assert all(torch.equal(before[name], weight) for name, weight in base.named_parameters())


def installed(seen):
    """A model whose decoder has its dense form; `seen` counts the passes that took it."""
    peft = small().float()
    decoder = decoder_of(peft)
    install(decoder)
    dense = vars(decoder)["dense"] = Dense(decoder)
    dense.merged = lambda: seen.append(1) or Dense.merged(dense)
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


def test_two_cores_give_the_same_bits_each_time():
    peft, (ids, mask) = small().float(), pad_rows(ROWS, 0)
    torch.set_num_threads(2)  # one again before the next test
    first, *others = (states_and_gradients(peft, Dense(decoder_of(peft))(ids, mask), mask) for _ in range(5))
    for other in others:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(other, first, strict=True))
