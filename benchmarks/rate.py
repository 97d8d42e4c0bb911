"""The rate of matrix products that this machine reaches."""

import time
from typing import Any

import torch


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
