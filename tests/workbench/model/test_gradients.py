"""Gradients of both forward passes against a private float64 copy of the weights, with other work in between.

bitsandbytes keeps the packed weight on `ctx`, outside autograd's check for tensors that were changed in place: a buffer
that is written between forward and backward gives wrong gradients without an error. The last tests do so on purpose.
"""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch.func import functional_call
from transformers import LlamaForCausalLM

from ppo.sampler import MergedCopy
from workbench.model.cpu import dense
from workbench.model.cpu.dense import active_adapter, unpacked
from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.masks import position_ids

KERNELS = ("modules", "cpu")
TOLERANCE = 1e-5
"""Norm of the error over the norm of the gradient: float32 through two layers. Largest measured: 9e-7."""


@pytest.fixture(params=KERNELS)
def adapted(request, roles):
    """Roles with random adapters, on either forward pass."""
    roles.causal_model.model.kernels = request.param
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in roles.names:
            for weight in roles.parameters(name):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    assert (roles.cpu_kernels is not None) == (request.param == "cpu")
    return roles


class PrivateCopy:
    """The policy in float64, W + s·B·A written out, in tensors that nothing else can write to."""

    def __init__(self, roles):
        with roles.use("policy"):
            layers = {n: m for n, m in roles.causal_model.model.named_modules() if isinstance(m, LoraLayer)}
            self.base = {name: unpacked(layer).double().clone() for name, layer in layers.items()}
            self.scales = {name: active_adapter(layer)[2] for name, layer in layers.items()}
        self.model = LlamaForCausalLM(roles.causal_model.config).double()
        own = {n: p for n, p in roles.causal_model.named_parameters() if "proj" not in n}
        for name, weight in self.model.named_parameters():
            if "proj" not in name:
                weight.data = own[name].detach().double().clone()
        self.lm_head = roles.lm_head.double().clone()

    def gradient(self, roles, ids, mask):
        """Gradients of the mean log-probability in the policy adapter's weights, in the order of `parameters`."""
        weights = [weight.detach().double().clone().requires_grad_() for weight in roles.parameters("policy")]
        pairs = zip(self.base.items(), weights[::2], weights[1::2], strict=True)
        effective = {f"{name}.weight": base + self.scales[name] * b @ a for (name, base), a, b in pairs}
        given = {"input_ids": ids, "attention_mask": mask.long(), "position_ids": position_ids(mask)}
        hidden = functional_call(self.model.model, effective, kwargs={**given, "use_cache": False}).last_hidden_state
        logprobs = torch.log_softmax(hidden[:, :-1] @ self.lm_head.T, dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        logprobs[mask[:, 1:]].mean().backward()
        return torch.cat([weight.grad.flatten() for weight in weights])


def predicting(mask):
    return torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)


def gradient(roles, batch, between=lambda roles: None):
    """The policy's gradient by the project's own passes, with something in between forward and backward."""
    ids, mask = batch
    roles.model.zero_grad()
    with roles.use("policy", train=True) as forward:
        hidden = forward(ids, mask, predicting(mask))
        between(roles)
        logprobs, _ = token_logprobs(hidden, roles.lm_head, ids[:, 1:][mask[:, 1:]])
        logprobs.mean().backward()
    return torch.cat([weight.grad.flatten() for weight in roles.parameters("policy")]).double()


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def everything_that_reuses_memory(roles):
    """Another adapter's pass, as DPO's reference; log-probabilities; a merged copy that is written anew."""
    ids = torch.arange(3, 27).view(4, 6)
    with torch.no_grad():
        roles._switch("reward", train=False)
        theirs = roles._forward(ids, torch.ones_like(ids, dtype=torch.bool)).flatten(0, 1)
        roles._switch("policy", train=True)
        ours = roles._forward(ids, torch.ones_like(ids, dtype=torch.bool)).flatten(0, 1)
        token_kl(ours, theirs, roles.lm_head, chunk=7)
        token_logprobs(ours, roles.lm_head, ids.flatten(), chunk=7)
        copy = MergedCopy(roles, "policy", dtype=torch.float32)
        copy.refresh()
        copy.model(input_ids=ids)


def test_gradients_are_those_of_a_private_copy(adapted, batch):
    copy = PrivateCopy(adapted)
    optimizer = torch.optim.SGD(adapted.parameters("policy"), lr=0.5)
    for _ in range(2):  # the second time with other adapter weights: a stale merged weight would show
        expected = copy.gradient(adapted, *batch)
        assert error(gradient(adapted, batch), expected) < TOLERANCE
        assert error(gradient(adapted, batch, everything_that_reuses_memory), expected) < TOLERANCE
        optimizer.step()


def test_a_packed_weight_that_is_overwritten_is_seen(adapted, batch):
    """Without an error from torch on the modules; the CPU kernels read the packed weights once, before."""
    expected = PrivateCopy(adapted).gradient(adapted, *batch)
    packed = adapted.causal_model.model.layers[1].mlp.down_proj.get_base_layer().weight

    def overwrite(_):
        packed.data.bitwise_not_()

    wrong = error(gradient(adapted, batch, overwrite), expected)
    packed.data.bitwise_not_()
    assert (wrong > 0.1) == (adapted.cpu_kernels is None)
    assert error(gradient(adapted, batch), expected) < TOLERANCE


@pytest.mark.parametrize("adapted", ["cpu"], indirect=True)  # the modules merge nothing
def test_a_merged_weight_in_a_reused_buffer_is_seen(adapted, batch, monkeypatch):
    """If the CPU kernels merged every adapter into one buffer, another role's pass would overwrite it."""
    expected = PrivateCopy(adapted).gradient(adapted, *batch)
    merge, buffers = dense.merge_adapters, {}

    def reused(weight, adapters):
        buffer = buffers.setdefault(weight.data_ptr(), torch.empty_like(weight))
        buffer.data.copy_(merge(weight, adapters))
        return buffer

    monkeypatch.setattr(dense, "merge_adapters", reused)
    assert error(gradient(adapted, batch), expected) < TOLERANCE
    assert error(gradient(adapted, batch, everything_that_reuses_memory), expected) < TOLERANCE  # own pass came last

    def other_role_last(roles):
        everything_that_reuses_memory(roles)
        with torch.no_grad():
            roles._switch("reward", train=False)
            roles._forward(*batch)
            roles._switch("policy", train=True)

    assert error(gradient(adapted, batch, other_role_last), expected) > 0.01
