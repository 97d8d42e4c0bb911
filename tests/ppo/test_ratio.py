"""The ratio's self-check in bfloat16: silent on a sound policy over 20 000 tokens, loud on each fault it is for."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import linear
from transformers import LlamaConfig, LlamaForCausalLM

from ppo.advantages import Targets
from ppo.checks import Gap, check_policy_is_reference, check_ratio
from ppo.rollout import PromptSet, Rollout, scatter_rows
from tests.ppo.test_update import run_update
from workbench.doctor.random_base import byte_tokenizer
from workbench.model.adapters import lora_config
from workbench.model.logprobs import token_logprobs
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows
from workbench.run.errors import WorkbenchError

BFLOAT16 = LOGPROB_LIMITS[torch.bfloat16]
PROMPT, VOCABULARY = 8, 1000


@pytest.fixture(scope="module")
def wide() -> Roles:
    """A random Llama of 128 hidden with logits of deviation 4, and a policy adapter."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = LlamaForCausalLM(config).bfloat16().requires_grad_(False)
        model = get_peft_model(base, lora_config(8, 16, 0.0), adapter_name="policy")
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
        base.lm_head.weight.data.mul_(16)
    tokenizer = byte_tokenizer(VOCABULARY)
    tokenizer.pad_token_id = 0
    return Roles(model, tokenizer)


def responses(number: int) -> Rows:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(64, 193, (number,), generator=generator).tolist()
    drawn = [torch.randint(3, VOCABULARY, (PROMPT + n,), generator=generator).tolist() for n in lengths]
    return Rows.of([ids[:PROMPT] for ids in drawn], [ids[PROMPT:] for ids in drawn], 0, torch.device("cpu"))


def rollout_of(roles: Roles, rows: Rows, *, size: int, temperature: float = 1.0) -> Rollout:
    """What the policy says of the rows, `size` at a time."""
    old = torch.zeros(rows.response_mask.shape)
    for index, batch in rows.micro_batches(size):
        with roles.use("policy") as forward:
            hidden = forward(batch.ids, batch.mask, batch.predicting)
        real = batch.response_mask
        said, _ = token_logprobs(hidden, roles.lm_head, batch.response_ids[real], temperature=temperature)
        old[index, : real.shape[1]] = scatter_rows(said, real)
    nothing, one_each = torch.zeros_like(old), torch.zeros(len(rows))
    prompts = PromptSet([], [])
    return Rollout(prompts, rows, one_each.bool(), one_each, one_each, old, old, *[nothing] * 3, one_each[None])


def gap_of_update(roles: Roles, rollout: Rollout, *, size: int, **changes: float) -> dict[str, float]:
    once = {"ppo_epochs": 1, "minibatch_size": len(rollout.rows), "micro_batch_size": size}
    targets = Targets(torch.zeros_like(rollout.old_logprobs), None)
    found: dict[str, float] = run_update(roles, rollout, lr=0.0, targets=targets, **once, **changes)
    return found


@pytest.fixture
def another_order_of_sums(wide, monkeypatch) -> Callable[[], None]:
    """Other kernels, as a GPU picks them for other shapes: each linear map of the base adds in another order."""

    def change() -> None:
        for number, module in enumerate(wide.model.modules()):
            layer = getattr(module, "base_layer", None)
            if layer is not None:
                order = torch.randperm(layer.in_features, generator=torch.Generator().manual_seed(number))
                weight = layer.weight[:, order]
                monkeypatch.setattr(layer, "forward", lambda x, w=weight, o=order: linear(x[..., o], w))

    return change


@pytest.mark.slow
def test_twenty_thousand_tokens_of_a_sound_policy_pass(wide, another_order_of_sums):
    rows = responses(160)
    assert int(rows.response_mask.sum()) > 20_000
    rollout = rollout_of(wide, rows, size=40)
    another_order_of_sums()
    found = gap_of_update(wide, rollout, size=16)
    assert 0.001 < found["policy/rollout_gap"] < BFLOAT16.mean / 2  # there is a rounding, and room
    assert found["policy/rollout_gap"] < found["policy/rollout_gap_max"]


@pytest.fixture
def few(wide) -> Rollout:
    """About 1 000 tokens."""
    return rollout_of(wide, responses(8), size=8)


def test_dropout_is_noticed_even_below_the_rounding(wide, few, monkeypatch):
    for module in wide.model.modules():
        if isinstance(getattr(module, "lora_dropout", None), torch.nn.ModuleDict):
            monkeypatch.setitem(module.lora_dropout._modules, "policy", torch.nn.Dropout(0.05))
    with pytest.raises(WorkbenchError, match="repeated pass"):
        gap_of_update(wide, few, size=4)


def test_an_adapter_that_moved_is_noticed(wide, few):
    weights = [weight for weight in wide.parameters("policy") if weight.shape[1] == 8]  # the B matrices
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for number, weight in enumerate(weights):
                noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
                weight.add_(noise, alpha=0.02)
        with pytest.raises(WorkbenchError, match="ratio"):
            gap_of_update(wide, few, size=4)
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)


def test_another_temperature_is_noticed(wide, few):
    with pytest.raises(WorkbenchError, match="ratio"):
        gap_of_update(wide, few, size=4, temperature=0.95)


def test_tokens_shifted_by_one_are_noticed(wide, few):
    shifted = replace(few, old_logprobs=few.old_logprobs.roll(1, dims=1))
    with pytest.raises(WorkbenchError, match="ratio"):
        gap_of_update(wide, shifted, size=4)


def test_one_row_of_many_that_was_read_wrongly_is_noticed():
    """1 of 100 rows, off by 3 nats a token: a mean below 0.04, but too many tokens far off."""
    differences = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 0.005
    differences[:100] += 3.0
    gap = Gap.of(differences, BFLOAT16, Processes())
    assert gap.mean < BFLOAT16.mean
    assert gap.share == pytest.approx(0.01)
    with pytest.raises(WorkbenchError, match=r"1\.00% of the tokens by more than 0\.25, one by 3"):
        check_ratio(gap, BFLOAT16)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_log_probability_that_is_not_finite_is_noticed(wrong):
    gap = Gap.of(torch.tensor([0.0, wrong]), BFLOAT16, Processes())
    with pytest.raises(WorkbenchError, match="ratio"):
        check_ratio(gap, BFLOAT16)


def test_limits_grow_with_the_logits_at_a_low_temperature():
    assert BFLOAT16.at(0.5).mean == 2 * BFLOAT16.mean
    assert BFLOAT16.at(0.5).share == BFLOAT16.share
    assert BFLOAT16.at(2.0) == BFLOAT16


def test_policy_is_reference_up_to_rounding_or_exactly(few):
    real = few.mask
    rounded = replace(few, reference_logprobs=few.old_logprobs + 1e-3 * real, kl=1e-6 * real)
    check_policy_is_reference(few, BFLOAT16, exactly=True)
    check_policy_is_reference(rounded, BFLOAT16, exactly=False)
    with pytest.raises(WorkbenchError, match=r"KL\(policy, reference\)"):
        check_policy_is_reference(rounded, BFLOAT16, exactly=True)
    for other in (replace(rounded, kl=1e-3 * real), replace(rounded, reference_logprobs=few.old_logprobs + 0.1 * real)):
        with pytest.raises(WorkbenchError, match=r"KL\(policy, reference\)"):
            check_policy_is_reference(other, BFLOAT16, exactly=False)
