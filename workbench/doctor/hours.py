"""Hours of a phase on a GPU, from its decode steps and products and two rates that are assumed or measured. Pure.

Sampling is counted in decode steps, which cost the host the same for 128 rows as for 16; everything else in
floating-point operations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.doctor.memory import Shape, base_bytes, kv_bytes
from workbench.doctor.plan import Settings

HOST_SECONDS = {"adapter": 0.070, "merged": 0.030}
"""What the host needs to launch a decode step of a 7B: NF4 base with adapter, or a merged copy. Assumed."""
BYTES_PER_SECOND = 3e12
"""Memory bandwidth of an H100. Assumed."""
FLOP_PER_SECOND = 2e14
"""FLOP per second of NF4 products in bfloat16 on an H100: half of what plain products reach. Assumed."""


@dataclass(frozen=True)
class Amounts:
    """What the configuration does not say."""

    records: int = 10_000
    """Demonstrations or pairs in the file."""
    row_tokens: int = 500
    """Mean tokens of prompt and response."""
    step_seconds: float | None = None
    """Seconds of one decode step; None: the larger of HOST_SECONDS and the time to read the device's memory."""
    flop_per_second: float = FLOP_PER_SECOND


def forward_flop(shape: Shape) -> float:
    """Per token, of the linear maps of the layers: 2 per parameter. Attention and LM head are not counted."""
    return 2.0 * shape.linear_parameters


def training_flop(shape: Shape, *, checkpointing: bool) -> float:
    """Per token, forward and backward with frozen weights: forward, gradient of the inputs, and recomputation."""
    return forward_flop(shape) * (3 if checkpointing else 2)


def step_seconds(shape: Shape, settings: Settings, amounts: Amounts) -> float:
    """Seconds of a decode step: as given, or the larger of the host's launches and the device's memory traffic.

    The device reads every weight (NF4 weights are also written, dequantised) and three times the keys and values: to
    attend, and to copy the cache, which grows by one token.
    """
    if amounts.step_seconds is not None:
        return amounts.step_seconds
    weights = base_bytes(shape, nf4=False, unit=settings.unit)
    length = min(amounts.row_tokens, settings.prompt + settings.response)
    cache = kv_bytes(shape, rows=settings.sample_batch, length=length, unit=settings.unit)
    copied = settings.nf4 and not settings.merged
    device = ((2 if copied else 1) * weights + 3 * cache) / BYTES_PER_SECOND
    return max(HOST_SECONDS["adapter" if copied else "merged"], device)


def hours(kind: str, values: Mapping[str, Any], shape: Shape, settings: Settings, amounts: Amounts) -> dict[str, float]:
    """Hours by stage.

    Args:
        kind: `sft`, `reward`, `ppo` or `contrastive`.
        values: the phase's resolved configuration, by dotted key.
        shape: of the base.
        settings: as `workbench.doctor.run_plan` reads them from the configuration.
        amounts: records and rates. Every batch of answers is taken to run to its longest, `max_new_tokens`.
    """

    step = step_seconds(shape, settings, amounts)

    def sampling(answers: int) -> float:
        return math.ceil(answers / settings.sample_batch) * settings.response * step / 3600

    longest = settings.prompt + settings.response if kind == "ppo" else settings.length
    tokens = min(amounts.row_tokens, longest)

    def products(rows: float, flop: float) -> float:
        return rows * tokens * flop / amounts.flop_per_second / 3600

    read, learn = forward_flop(shape), training_flop(shape, checkpointing=settings.checkpointing)
    if kind == "ppo":
        iterations, episodes = int(values["train.iterations"]), int(values["rollout.batch_size"])
        readers = 2 + (settings.value == "adapter") + settings.reward_models
        every, asked = int(values["evaluation.every"]), int(values["evaluation.prompts"])
        evaluations = 2 + (iterations - 1) // every if every else 2
        learners = 2 if settings.value == "adapter" else 1
        return {
            "sampling": iterations * sampling(episodes),
            f"{readers} roles read the answers, and the prompts are read to sample": products(
                iterations * episodes * (readers + 1), read
            ),
            "updates": products(iterations * episodes * int(values["train.ppo_epochs"]) * learners, learn),
            "held-out evaluations": evaluations * (sampling(asked) + products(asked * (readers + 1), read)),
        }
    rows = amounts.records * float(values["train.epochs"]) * (1 if kind == "sft" else 2)
    stages = {"training": products(rows, learn)}
    if kind == "contrastive":
        stages["the reference reads the pairs once"] = products(2 * amounts.records, read)
    if kind == "reward":
        answers = int(values["normalise.answers"])
        stages["sampling to normalise"] = sampling(answers)
        stages["scoring to normalise"] = products(answers, read)
    return stages
