"""GPU memory of each phase: its resident parts, and the moments of its peaks. Pure arithmetic.

A plan's peak is its resident parts and the largest of its moments. What torch's allocator gives out is counted; the
CUDA context, cuBLAS's workspaces and fragmentation come on top (`OVERHEAD`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workbench.doctor.memory import (
    FLOAT32,
    Shape,
    base_bytes,
    chunk_bytes,
    embedding_bytes,
    forward_bytes,
    fused_head_bytes,
    kept_bytes,
    kv_bytes,
    layers_bytes,
    lora_parameters,
    training_bytes,
    weight_bytes,
)
from workbench.model.rows import PASS_TOKENS

OVERHEAD = 0.7e9
"""Bytes of CUDA context, kernels and workspaces that torch's allocator does not count. An estimate."""
FRAGMENTATION = 1.03
"""Share by which the allocator's segments exceed what is in them. An estimate."""
EXAMINED_ROWS = 32
"""Rows that a reward model's passport reads together: 16 pairs."""
CHUNK = 2048
"""Tokens of a chunk of log-probabilities, as in `workbench.model.logprobs`."""


@dataclass(frozen=True)
class Settings:
    """The part of a phase's configuration that decides its memory. Lengths are maxima in tokens."""

    nf4: bool = True
    unit: int = 2
    """Bytes of a number in computation."""
    checkpointing: bool = False
    r: int = 16
    reward_r: int = 16
    """LoRA rank of the reward run, and so of the value model."""
    eight_bit: bool = False
    micro_batch: int = 1
    """Rows (sft, ppo) or pairs of one forward and backward pass."""
    length: int = 1024
    """Tokens of a row."""
    prompt: int = 512
    response: int = 128
    """Tokens of a sampled answer."""
    sample_batch: int = 16
    """Answers sampled at one time."""
    rollout_micro_batch: int = 16
    """Answers scored at one time."""
    value: str = "adapter"
    """ppo: `adapter`, `head` (on the policy's states) or `none`."""
    reward_models: int = 1
    merged: bool = False
    """ppo: a merged copy of the policy samples."""
    bounded: bool = False
    """ppo: the policy before an update is kept, so that its move can be shortened."""


@dataclass(frozen=True)
class Plan:
    """Bytes by name."""

    parts: dict[str, float]
    """Held all the time."""
    moments: dict[str, float]
    """Held beside them, one moment at a time."""

    @property
    def resident(self) -> float:
        """All parts."""
        return sum(self.parts.values())

    @property
    def peak(self) -> float:
        """Parts and the largest moment: what `torch.cuda.max_memory_allocated` should say."""
        return self.resident + max(self.moments.values())

    @property
    def worst(self) -> str:
        """The largest moment's name."""
        return max(self.moments, key=lambda name: self.moments[name])

    @property
    def needed(self) -> float:
        """What the device must have free."""
        return self.peak * FRAGMENTATION + OVERHEAD


def plan_of(phase: str, shape: Shape, settings: Settings) -> Plan:
    """The plan of `sft`, `reward`, `ppo` or `contrastive`."""
    return PLANS[phase](shape, settings)


def largest_that_fits(phase: str, shape: Shape, settings: Settings, memory: float, *, field: str) -> int:
    """The largest micro batch (a field of the settings) whose plan fits into so many bytes; 0 where none does."""

    def fits(size: int) -> bool:
        changed: dict[str, Any] = {field: size}
        return plan_of(phase, shape, replace(settings, **changed)).needed <= memory

    low, high = 0, 1
    while fits(high) and high < 1 << 20:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a batch size that is no larger than the limit; 0 for a limit below 1."""
    return max((size for size in range(1, min(number, limit) + 1) if number % size == 0), default=0)


def _base(shape: Shape, s: Settings, *, lm_head: bool = True) -> dict[str, float]:
    kind = "base, NF4 with double quantisation" if s.nf4 else "base, not quantised"
    return {
        kind: base_bytes(shape, nf4=s.nf4, unit=s.unit),
        "embeddings, LM head, norms": embedding_bytes(shape, unit=s.unit, lm_head=lm_head),
    }


def _trained(name: str, parameters: int, s: Settings) -> dict[str, float]:
    adam = "8-bit Adam" if s.eight_bit else "Adam"
    return {
        f"adapter {name}": weight_bytes(parameters),
        f"gradients and {adam} of {name}": training_bytes(parameters, eight_bit=s.eight_bit),
    }


def _update(shape: Shape, s: Settings, rows: int, r: int, head: float, *, autocast: bool) -> float:
    """The larger of the moment in the layers and the moment at the head."""
    autocast = autocast and s.unit < FLOAT32
    layers = layers_bytes(
        shape,
        r,
        rows=rows,
        length=s.length,
        unit=s.unit,
        autocast=autocast,
        checkpointing=s.checkpointing,
    )
    kept = kept_bytes(
        shape,
        r,
        rows=rows,
        length=s.length,
        unit=s.unit,
        autocast=autocast,
        checkpointing=s.checkpointing,
    )
    states = rows * s.length * shape.hidden * (2 * FLOAT32 + s.unit)
    return max(layers, kept + states + head)


def _sampling(shape: Shape, s: Settings, rows: int) -> float:
    """Keys and values of finished answers, one layer's copied while it grows, and three float32 rows of logits each."""
    cache = kv_bytes(shape, rows=rows, length=s.prompt + s.response, unit=s.unit)
    logits = rows * shape.vocabulary * FLOAT32 * 3
    prefill = forward_bytes(shape, rows=rows, length=s.prompt, unit=s.unit)
    return max(
        cache * (1 + 1 / shape.layers) + logits, kv_bytes(shape, rows=rows, length=s.prompt, unit=s.unit) + prefill
    )


def _pass_tokens(s: Settings, rows: int) -> int:
    """Tokens of a pass without gradients: so many rows, within `PASS_TOKENS` but for a longer single row."""
    return min(rows * s.length, max(PASS_TOKENS["cuda"], s.length))


def sft(shape: Shape, s: Settings) -> Plan:
    """Supervised tuning by SFTTrainer."""
    tokens = s.micro_batch * s.length
    read = _pass_tokens(s, s.micro_batch)
    states, chunk = read * shape.hidden * s.unit, chunk_bytes(shape, tokens=read, chunk=CHUNK)
    head = fused_head_bytes(shape, tokens=tokens, unit=s.unit)
    return Plan(
        {**_base(shape, s), **_trained("policy", lora_parameters(shape, s.r), s)},
        {
            "forward and backward pass": _update(shape, s, s.micro_batch, s.r, head, autocast=True),
            "held-out loss": max(forward_bytes(shape, rows=1, length=read, unit=s.unit), states + chunk),
            "sampling": _sampling(shape, s, s.sample_batch) if s.sample_batch else 0.0,
        },
    )


def reward(shape: Shape, s: Settings) -> Plan:
    """Reward modelling by RewardTrainer; afterwards the reward model and its start are roles that sample and score."""
    trained = lora_parameters(shape, s.reward_r)
    training = {**_base(shape, s, lm_head=False), **_trained("reward", trained + shape.hidden, s)}
    scoring = sum(_base(shape, s).values()) + weight_bytes(lora_parameters(shape, s.r) + trained)
    update = _update(shape, s, 2 * s.micro_batch, s.reward_r, 0.0, autocast=True)
    first = forward_bytes(shape, rows=1, length=_pass_tokens(s, s.rollout_micro_batch), unit=s.unit)
    read = _pass_tokens(s, max(s.rollout_micro_batch, EXAMINED_ROWS))
    after = max(_sampling(shape, s, s.sample_batch), forward_bytes(shape, rows=1, length=read, unit=s.unit))
    return Plan(
        training,
        {
            "states for the first head": first,
            "forward and backward pass": update,
            "sampling and scoring afterwards": scoring + after - sum(training.values()),
        },
    )


def contrastive(shape: Shape, s: Settings) -> Plan:
    """Contrastive training: both responses of a pair in one pass, after one pass of the reference over the data."""
    rows = 2 * s.micro_batch
    head = fused_head_bytes(shape, tokens=rows * s.length, unit=s.unit)
    return Plan(
        {**_base(shape, s), **_trained("policy", lora_parameters(shape, s.r), s)},
        {
            "forward and backward pass": _update(shape, s, rows, s.r, head, autocast=True),
            "reference's forward pass": forward_bytes(shape, rows=rows, length=s.length, unit=s.unit),
        },
    )


def ppo(shape: Shape, s: Settings) -> Plan:
    """PPO: policy and value trained, reference and reward models frozen, all on one base."""
    s = replace(s, length=s.prompt + s.response)
    read = s.rollout_micro_batch
    states = 3 * read * s.response * shape.hidden * s.unit
    passes = forward_bytes(shape, rows=read, length=s.length, unit=s.unit)
    compare = chunk_bytes(shape, tokens=read * s.response, chunk=CHUNK, copies=4)
    head = chunk_bytes(shape, tokens=s.micro_batch * s.response, chunk=CHUNK)
    before = weight_bytes(lora_parameters(shape, s.r)) if s.bounded else 0.0
    moments = {
        "rollout: sampling": _sampling(shape, s, s.sample_batch),
        "rollout: every role reads the answers": states + max(passes, compare),
        "update of the policy": before + _update(shape, s, s.micro_batch, s.r, head, autocast=False),
    }
    if s.value == "adapter":
        moments["update of the value model"] = before + _update(
            shape, s, s.micro_batch, s.reward_r, 0.0, autocast=False
        )
    return Plan(_ppo_roles(shape, s), moments)


def _ppo_roles(shape: Shape, s: Settings) -> dict[str, float]:
    policy, scalar = lora_parameters(shape, s.r), shape.hidden + 1
    rewards = s.reward_models * lora_parameters(shape, s.reward_r)
    parts = {**_base(shape, s), **_trained("policy", policy, s)}
    if s.value == "adapter":
        parts |= _trained("value", lora_parameters(shape, s.reward_r) + scalar, s)
    elif s.value == "head":
        parts |= _trained("value head", scalar, s)
    parts |= {
        "adapter reference": weight_bytes(policy),
        "adapters and heads reward": weight_bytes(rewards + s.reward_models * scalar),
        "copies that prove the frozen adapters unchanged": weight_bytes(policy + rewards),
    }
    if s.merged:
        parts["merged copy of the policy"] = base_bytes(shape, nf4=False, unit=s.unit) + embedding_bytes(
            shape, unit=s.unit
        )
    return parts


PLANS: dict[str, Callable[[Shape, Settings], Plan]] = {
    "sft": sft,
    "reward": reward,
    "contrastive": contrastive,
    "ppo": ppo,
}
"""Kind of training → its plan."""
