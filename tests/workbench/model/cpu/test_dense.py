"""The dense pass is the modules' pass, and stands aside where it is not."""

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests.reference.tolerances import SHAPES
from workbench.model.adapters import lora_config
from workbench.model.base import load_base
from workbench.model.cpu import dense
from workbench.model.cpu.dense import Dense
from workbench.model.masks import pad_rows, position_ids

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


def test_roles_use_it_and_it_is_what_peft_computes_on_the_nf4_base(roles, batch):
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

    assert roles.cpu_kernels is not None
    ours = outcomes()
    roles.causal_model.model.kernels = "modules"
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


def test_unpacking_leaves_the_nf4_base_as_it_is(spec, tokenizer):
    base = load_base(spec, tokenizer)
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    Dense(base.model)
    assert all(torch.equal(before[name], weight) for name, weight in base.named_parameters())


def test_two_cores_give_the_same_bits_each_time():
    peft, (ids, mask) = small().float(), pad_rows(ROWS, 0)
    torch.set_num_threads(2)  # one again before the next test
    first, *others = (states_and_gradients(peft, Dense(decoder_of(peft))(ids, mask), mask) for _ in range(5))
    for other in others:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(other, first, strict=True))
