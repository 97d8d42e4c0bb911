"""Roles: switching, whose gradients, adapters in and out. Mostly against what peft does silently."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests.reference.tolerances import FLOAT32, SHAPES
from workbench.model.adapters import adapters_equal, lora_config, start_training_adapter
from workbench.model.base import load_base
from workbench.model.masks import pad_rows
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError


def states(roles, role, batch):
    with roles.use(role) as forward:
        return forward(*batch)


def snapshot(roles):
    return {role: {n: t.clone() for n, t in roles.adapter_state(role).items()} for role in roles.names}


def gradient(roles, role, batch):
    """Gradient of a fixed loss for the role's adapter, as one vector."""
    for name in roles.names:
        for parameter in roles.parameters(name):
            parameter.grad = None
    with roles.use(role, train=True) as forward:
        forward(*batch)[batch[1]].square().mean().backward()
    return torch.cat([p.grad.flatten() for p in roles.parameters(role) if p.grad is not None])


def test_switching_changes_the_output_and_back(roles, batch):
    real = batch[1]
    reference, reward = (states(roles, role, batch)[real] for role in ("reference", "reward"))
    assert (reference - reward).abs().max() > 1e-3
    assert torch.equal(states(roles, "reference", batch)[real], reference)
    with torch.no_grad(), roles.model.disable_adapter():
        bare = roles.model.base_model.model.model(input_ids=batch[0], attention_mask=batch[1].long())
    assert (bare.last_hidden_state[real] - reference).abs().max() > 1e-3


@pytest.mark.parametrize("train", [True, False])
def test_a_switch_leaves_what_pefts_own_leaves(roles, train):
    def state():
        active = [module.active_adapters for module in roles.model.modules() if hasattr(module, "active_adapters")]
        return active, roles.model.active_adapter, [p.requires_grad for p in roles.model.parameters()]

    with roles.use("reward", train=True) as forward:
        forward(torch.tensor([[5, 6]]), torch.ones(1, 2)).sum().backward()
    with roles.use("policy", train=train):
        ours = state()
    assert "policy" in ours[0][0]
    assert any(ours[2]) == train
    with roles.use("reference"):
        pass
    roles.model.set_adapter("policy", inference_mode=not train)
    assert ours == state()


def test_a_copy_is_exact_and_independent(roles, batch):
    assert adapters_equal(roles.adapter_state("policy"), roles.adapter_state("reference"))
    assert torch.equal(states(roles, "policy", batch), states(roles, "reference", batch))
    with torch.no_grad():
        roles.parameters("policy")[0].add_(1.0)
    assert not adapters_equal(roles.adapter_state("policy"), roles.adapter_state("reference"))


def test_nested_use_is_refused(roles):
    with roles.use("reference"), pytest.raises(RuntimeError, match="'reference' is in use"), roles.use("policy"):
        pass
    with roles.use("policy"):
        pass


def test_leaving_before_the_backward_pass_is_refused(roles, batch):
    with pytest.raises(RuntimeError, match="before its backward pass"), roles.use("policy", train=True) as forward:
        forward(*batch)
    assert roles.names  # and the roles go on
    assert gradient(roles, "policy", batch).abs().sum() > 0


def test_each_forward_pass_owes_a_backward_pass(roles, batch):
    def one_backward_for_two():
        with roles.use("policy", train=True) as forward:
            forward(*batch).sum().backward()
            forward(*batch)

    with pytest.raises(RuntimeError, match="before its backward pass"):
        one_backward_for_two()


def test_an_error_in_the_body_comes_out_as_it_is_and_frees_the_role(roles, batch):
    def fail_within():
        with roles.use("policy", train=True) as forward:
            forward(*batch)
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    states(roles, "reference", batch)


def test_evaluation_owes_nothing_and_has_no_gradient(roles, batch):
    assert not states(roles, "policy", batch).requires_grad


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_into_the_asked_role_only(roles, batch, checkpointing):
    if checkpointing:
        roles.checkpoint_activations()
    for role in ("policy", "reference", "policy"):
        assert gradient(roles, role, batch).abs().max() > 0
        for other in set(roles.names) - {role}:
            assert all(p.grad is None or not p.grad.any() for p in roles.parameters(other)), f"{role} moved {other}"


def test_training_one_role_moves_its_adapter_only(roles, batch):
    before = snapshot(roles)
    optimizer = torch.optim.SGD(roles.parameters("policy"), lr=1.0)
    gradient(roles, "policy", batch)
    optimizer.step()
    states(roles, "reward", batch)
    after = snapshot(roles)
    assert not adapters_equal(before["policy"], after["policy"])
    assert adapters_equal(before["reference"], after["reference"])
    assert adapters_equal(before["reward"], after["reward"])


def test_activation_checkpointing_gives_the_same_gradients(roles, batch):
    plain = gradient(roles, "policy", batch)
    roles.checkpoint_activations()
    calls = []
    layer = roles.model.base_model.model.model.layers[0].mlp
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(gradient(roles, "policy", batch), plain, **FLOAT32)
    assert len(calls) == 2, "nothing was recomputed"


def test_adapters_are_float32_and_frozen_outside_of_use(roles, batch):
    with roles.use("policy", train=True) as forward:
        assert all(p.requires_grad for p in roles.parameters("policy"))
        assert not any(p.requires_grad for p in roles.parameters("reference"))
        forward(*batch).sum().backward()
    with roles.use("reference"):
        assert not any(p.requires_grad for p in roles.model.parameters())
    assert not roles.model.training
    for role in roles.names:
        assert {p.dtype for p in roles.parameters(role)} == {torch.float32}


def test_every_linear_layer_but_the_head_has_an_adapter(roles):
    adapted = {name.split(".lora_")[0] for name in roles.adapter_state("policy")}
    assert len(adapted) == 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in adapted)
    # r (in + out): q, k, v, o of 64 × 64; gate, up of 64 → 128; down of 128 → 64; r = 4, two layers.
    assert roles.parameter_counts()["policy"] == 2 * 4 * (4 * 128 + 3 * 192)


def test_an_adapter_that_a_trainer_owns_stays_trainable(spec, tokenizer, batch):
    model = start_training_adapter(load_base(spec, tokenizer), lora_config(4, 8, 0.0))
    roles = Roles(model, tokenizer)
    states(roles, "default", batch)
    assert all(p.requires_grad for p in roles.parameters("default"))
    model.train()
    model(input_ids=batch[0], attention_mask=batch[1].long()).logits.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in roles.parameters("default"))


def test_a_saved_adapter_is_loaded_by_plain_peft_with_the_same_logits(roles, spec, tokenizer, batch, tmp_path):
    ids, mask = batch
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.add_(0.01)
    roles.save_adapter("policy", tmp_path / "adapter")
    assert not (tmp_path / "adapter/policy").exists()
    plain = PeftModel.from_pretrained(load_base(spec, tokenizer), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        theirs = plain(input_ids=ids, attention_mask=mask.long()).logits
    ours = states(roles, "policy", batch) @ roles.lm_head.T
    torch.testing.assert_close(ours[mask], theirs[mask], **FLOAT32)
    other = states(roles, "reference", batch) @ roles.lm_head.T
    assert not torch.allclose(other[mask], theirs[mask], **FLOAT32)


def test_saving_and_loading_an_adapter_is_exact(roles, spec, tokenizer, tmp_path, batch):
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.mul_(1.1)
    roles.save_adapter("policy", tmp_path / "adapter")
    roles.add("again", tmp_path / "adapter")
    first = Roles.of(load_base(spec, tokenizer), tokenizer, "first", tmp_path / "adapter")
    assert adapters_equal(roles.adapter_state("again"), roles.adapter_state("policy"))
    assert adapters_equal(first.adapter_state("first"), roles.adapter_state("policy"))
    assert torch.equal(states(first, "first", batch), states(roles, "policy", batch))
    assert (tmp_path / "adapter/tokenizer.json").exists()


def test_the_first_role_is_like_every_other(spec, tokenizer, sft_run, reward_run, batch):
    """A reward adapter carries a score head, which a causal model has no place for; it may still come first."""
    first = Roles.of(load_base(spec, tokenizer), tokenizer, "reward", reward_run / "adapter")
    second = Roles.of(load_base(spec, tokenizer), tokenizer, "reference", sft_run / "adapter")
    second.add("reward", reward_run / "adapter")
    assert torch.equal(states(first, "reward", batch), states(second, "reward", batch))
    assert first.lm_head.shape == second.lm_head.shape
    assert not any(p.requires_grad for p in first.model.parameters())


def test_a_state_goes_back_exactly(roles):
    before = snapshot(roles)["policy"]
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.zero_()
    roles.load_adapter_state("policy", before)
    assert adapters_equal(roles.adapter_state("policy"), before)


def test_a_trained_adapter_continues_from_its_start(spec, tokenizer, sft_run):
    started = start_training_adapter(load_base(spec, tokenizer), lora_config(1, 1, 0.0), sft_run / "adapter")
    kept = Roles.of(load_base(spec, tokenizer), tokenizer, "reference", sft_run / "adapter")
    assert adapters_equal(Roles(started, tokenizer).adapter_state("default"), kept.adapter_state("reference"))
    assert started.peft_config["default"].r == 4
    assert started.peft_config["default"].lora_alpha == 8


@pytest.fixture(params=["narrower", "deeper"])
def foreign_adapter(request, tmp_path, tokenizer):
    """An adapter of a base with other shapes, or with more layers."""
    changes = {"hidden_size": 32} if request.param == "narrower" else {"num_hidden_layers": 3}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **{**sizes, **changes}))
    get_peft_model(model, lora_config(4, 8, 0.0)).save_pretrained(tmp_path / "foreign")
    return tmp_path / "foreign"


def test_an_adapter_of_another_base_is_refused_everywhere(roles, spec, tokenizer, foreign_adapter):
    actions = {
        "add": lambda: roles.add("foreign", foreign_adapter),
        "of": lambda: Roles.of(load_base(spec, tokenizer), tokenizer, "foreign", foreign_adapter),
        "train": lambda: start_training_adapter(load_base(spec, tokenizer), lora_config(4, 8, 0.0), foreign_adapter),
    }
    for name, action in actions.items():
        with pytest.raises(WorkbenchError, match="does not fit this base") as caught:
            action()
        assert str(foreign_adapter) in caught.value.place, name


def test_a_missing_adapter_is_said(roles, tmp_path):
    with pytest.raises(WorkbenchError, match="no adapter here"):
        roles.add("x", tmp_path)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_and_batched_row_is_like_the_single_row(roles, side):
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 250, (n,), generator=generator).tolist() for n in (3, 11, 1, 6)]
    ids, mask = pad_rows(rows, 0, side=side)
    together = states(roles, "reference", (ids, mask))
    for row, hidden, real in zip(rows, together, mask, strict=True):
        alone = states(roles, "reference", pad_rows([row], 0))
        torch.testing.assert_close(hidden[real], alone[0], **SHAPES)


def test_a_fully_masked_row_gives_no_nan(roles):
    ids, mask = pad_rows([[5, 6, 7], []], 0, side="left")
    assert states(roles, "reference", (ids, mask)).isfinite().all()
    with roles.use("policy", train=True) as forward:
        forward(ids, mask)[mask].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in roles.parameters("policy"))


def test_positions_count_real_tokens(roles):
    """Rotary embeddings hide a shift of all positions, but not positions past the base's range, nor a cache's."""
    seen = []
    decoder = roles.model.base_model.model.model
    hook = decoder.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    ids, mask = pad_rows([[5, 6, 7], [8]], 0, side="left")
    states(roles, "reference", (ids, mask))
    hook.remove()
    assert seen[0]["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert seen[0]["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
