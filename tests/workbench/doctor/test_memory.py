"""The memory of training: numbers worked by hand for Llama-7B, and what torch's allocator says on the CPU."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.allocator import peak_of
from workbench.doctor import memory
from workbench.doctor.memory import Shape
from workbench.doctor.plan import Settings, largest_divisor, largest_that_fits, plan_of
from workbench.doctor.random_base import write_random_base
from workbench.doctor.shapes import KNOWN
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.logprobs import token_logprobs
from workbench.model.roles import Roles

SEVEN = KNOWN["llama-7b"]
SMALL = Shape(vocabulary=2048, hidden=256, intermediate=704, layers=4, heads=4, kv_heads=4, head_dim=64, tied=False)


def config_of(shape: Shape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
        bos_token_id=1,
        eos_token_id=2,
    )


@pytest.mark.parametrize("name", list(KNOWN))
def test_parameters_are_those_of_transformers(name):
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(KNOWN[name]))
    assert KNOWN[name].parameters == sum(p.numel() for p in model.parameters())


def test_llama_7b_by_hand():
    # 32 layers of 4·4096² + 3·4096·11008 = 202.4 M: 6.476 G in the linear maps. At 4 + 1/8 + 1/512 bits: 3.34 GB.
    assert SEVEN.linear_parameters == 6_476_005_376
    assert memory.nf4_bytes(64 * 256) == 64 * 256 / 2 + 256 + 4
    base = memory.base_bytes(SEVEN, nf4=True, unit=2)
    assert base == pytest.approx(3.34e9, rel=1e-3)
    # Embedding and head: 2 · 32000 · 4096 · 2 bytes = .524 GB; norms 65 · 4096 · 2 bytes. Together 3.87 GB.
    assert base + memory.embedding_bytes(SEVEN, unit=2) == pytest.approx(3.87e9, rel=2e-3)
    # LoRA r=16: 16 · 32 · (4 · 8192 + 3 · 15104) = 39,976,960; weight, gradient and two moments of 4 bytes: .64 GB.
    lora = memory.lora_parameters(SEVEN, 16)
    assert lora == 39_976_960
    assert memory.weight_bytes(lora) + memory.training_bytes(lora) == 16 * lora == pytest.approx(0.64e9, rel=1e-3)
    assert memory.training_bytes(lora, eight_bit=True) == 6 * lora
    # Keys and values: 2 · 32 layers · 4096 · 2 bytes = .524 MB a token; 32 rows of 512: 8.6 GB.
    assert memory.kv_bytes(SEVEN, rows=1, length=1, unit=2) == 524_288
    assert memory.kv_bytes(SEVEN, rows=32, length=512, unit=2) == pytest.approx(8.6e9, rel=2e-3)


def test_roles_of_a_7b_are_resident_in_less_than_6_gb():
    # 3.87 base + 2 · .64 trained + 2 · .16 frozen + .32 copies.
    assert plan_of("ppo", SEVEN, Settings()).resident == pytest.approx(5.78e9, rel=5e-3)


def test_a_chunk_of_logits_does_not_grow_with_the_batch():
    sizes = [memory.chunk_bytes(SEVEN, tokens=n, chunk=2048) for n in (1024, 2048, 4096, 1 << 20)]
    assert sizes[0] == 1024 * 32_000 * 4 * 3
    assert sizes[1:] == [2 * sizes[0]] * 3


@pytest.mark.parametrize("phase", ["sft", "reward", "ppo", "contrastive"])
def test_more_rows_take_more_and_checkpointing_less(phase):
    sizes = [plan_of(phase, SEVEN, Settings(micro_batch=m, rollout_micro_batch=1)).peak for m in (1, 2, 8)]
    assert sizes == sorted(sizes)
    assert sizes[2] > sizes[0]
    kept = plan_of(phase, SEVEN, Settings(micro_batch=8, rollout_micro_batch=1, checkpointing=True)).peak
    assert kept < 0.7 * sizes[2]


@pytest.mark.parametrize("phase", ["sft", "reward", "ppo", "contrastive"])
def test_the_largest_micro_batch_fits_and_the_next_does_not(phase):
    settings = Settings(checkpointing=True, rollout_micro_batch=4)
    limit = largest_that_fits(phase, SEVEN, settings, 24 * 2**30, field="micro_batch")
    assert limit > 4
    fits, exceeds = (
        plan_of(phase, SEVEN, Settings(checkpointing=True, rollout_micro_batch=4, micro_batch=m)).needed
        for m in (limit, limit + 1)
    )
    assert fits <= 24 * 2**30 < exceeds
    assert largest_that_fits(phase, SEVEN, settings, 3e9, field="micro_batch") == 0


def test_largest_divisor():
    assert [largest_divisor(64, n) for n in (0, 1, 5, 40, 64, 100)] == [0, 1, 4, 32, 64, 64]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return write_random_base(folder, config_of(SMALL), dtype=torch.float32)


def bytes_of(tensors) -> int:
    """Bytes of distinct storages."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def test_the_loaded_nf4_base_has_the_estimated_bytes(small):
    model = load_base(BaseSpec(str(small), None, "nf4", "float32"), load_tokenizer(str(small)))
    parameters = list(model.parameters())
    scales = [
        tensor
        for p in parameters
        if (state := getattr(p, "quant_state", None)) is not None
        for tensor in (state.absmax, state.state2.absmax)
    ]
    estimate = memory.base_bytes(SMALL, nf4=True, unit=4) + memory.embedding_bytes(SMALL, unit=4)
    assert bytes_of([*parameters, *scales]) == pytest.approx(estimate, rel=0.02)


def trained_roles(small: Path, dtype, *, checkpointing: bool) -> Roles:
    tokenizer = load_tokenizer(str(small))
    spec = BaseSpec(str(small), None, "nf4", dtype, kernels="modules")  # the plan is for GPUs
    model = start_training_adapter(load_base(spec, tokenizer), lora_config(16, 32, 0.0))
    roles = Roles(model, tokenizer)
    for weight in roles.parameters("default"):
        weight.data = weight.data.float()
    if checkpointing:
        roles.checkpoint_activations()
    return roles


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_of_an_update_is_the_estimated_one(small, dtype, checkpointing):
    roles = trained_roles(small, dtype, checkpointing=checkpointing)
    rows, length, unit = 4, 128, 4 if dtype == "float32" else 2
    ids = torch.randint(3, SMALL.vocabulary, (rows, length))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, -1] = False  # padded: attention gets a mask

    def step() -> None:
        with roles.use("default", train=True) as forward:
            hidden = forward(ids, mask).reshape(-1, SMALL.hidden)
            logprobs, _ = token_logprobs(hidden, roles.lm_head, ids.flatten(), chunk=64)
            logprobs.mean().backward()

    step()  # gradients exist now, as in training
    estimate = memory.layers_bytes(
        SMALL, 16, rows=rows, length=length, unit=unit, autocast=False, checkpointing=checkpointing
    )
    assert peak_of(step) == pytest.approx(estimate, rel=0.10)


def test_the_peak_of_a_reading_pass_is_the_estimated_one(small):
    roles = trained_roles(small, "float32", checkpointing=False)
    ids = torch.randint(3, SMALL.vocabulary, (8, 128))

    def read() -> None:
        with roles.use("default") as forward:
            forward(ids, torch.ones_like(ids, dtype=torch.bool))

    estimate = memory.forward_bytes(SMALL, rows=8, length=128, unit=4)
    assert peak_of(read) == pytest.approx(estimate, rel=0.15)
