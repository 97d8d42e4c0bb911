"""The rate of matrix products that this machine reaches, and the operations that a Llama needs for a token."""

import time
from typing import Any

import torch

from workbench.model.memory import Shape


def matmul_rate() -> dict[str, Any]:
    """Floating-point operations a second of a large square product: bfloat16 on a GPU, float32 on a CPU."""
    gpu = torch.cuda.is_available()
    size, dtype, repeats = (8192, torch.bfloat16, 30) if gpu else (1024, torch.float32, 5)
    device = torch.device("cuda" if gpu else "cpu")
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        first @ second
        if gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return {"flop_per_second": 2 * size**3 / best, "size": size, "dtype": str(dtype).removeprefix("torch.")}


def forward_flop(shape: Shape) -> float:
    """Of one token through the linear maps of the layers: 2 a parameter. Attention and LM head are not counted."""
    return 2.0 * shape.linear_parameters


def training_flop(shape: Shape, *, checkpointing: bool) -> float:
    """Of one token forward and backward with frozen weights: forward, gradient of the inputs, and recomputation."""
    return forward_flop(shape) * (3 if checkpointing else 2)
