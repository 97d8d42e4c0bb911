"""Blocks of rows that run forward and backward independently, one thread each; only their gradients are summed.

If a pass consists of many small operations, threads that share each operation wait for one another after every one of
them; threads that share the rows wait once. Rows of similar length share a block, which is as wide as its longest row.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


def blocks_of(mask: Tensor, number: int) -> list[tuple[Tensor, int]]:
    """Up to `number` blocks with about the same number of tokens, the shortest rows first.

    Args:
        mask: (B, T) bool, True on the tokens that count; columns after a block's last such token are cut off.
        number: blocks, at most.

    Returns:
        (index (b,) of the rows, width) of each block; every row is in exactly one.
    """
    ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1).clamp(min=1)  # (B,) an empty row counts as 1 token
    order = ends.argsort(stable=True)
    total = ends[order].cumsum(0)
    # The row that ends with token t (counted from 1) belongs to block ⌊(t · number − 1) / all tokens⌋: without the −1
    # the last row would get a block of its own, numbered `number`.
    block = ((total * number - 1) // total[-1]).tolist()
    counts = [block.count(which) for which in sorted(set(block))]
    return [(rows, int(ends[rows].max())) for rows in order.split(counts)]


def in_blocks(run: Callable[[Item], Tensor], blocks: Sequence[Item], weights: Sequence[Tensor]) -> Tensor:
    """Run all blocks at the same time and concatenate their results (n, D). Gradients reach `weights` and nothing else.

    Args:
        run: from a block to its (n_i, D).
        blocks: arguments of `run`.
        weights: tensors that need gradients.
    """
    if not torch.is_grad_enabled() or not weights or len(blocks) == 1:
        grad = torch.is_grad_enabled()
        return torch.cat(on_each_core(lambda block: _run(run, block, grad=grad), blocks))
    states: Tensor = _InBlocks.apply(run, blocks, *weights)
    return states


def _run(run: Callable[[Item], Tensor], block: Item, *, grad: bool) -> Tensor:
    with torch.set_grad_enabled(grad):  # gradient mode is per thread
        return run(block)


class _InBlocks(torch.autograd.Function):
    """Each block has an autograd graph of its own, so that the backward passes can run in separate threads."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[Item], Tensor], blocks: Sequence[Item], *weights: Tensor) -> Tensor:
        ctx.weights = weights
        ctx.states = on_each_core(lambda block: _run(run, block, grad=True), blocks)
        return torch.cat([states.detach() for states in ctx.states])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = gradient.split([len(states) for states in ctx.states])

        def gradients(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            return torch.autograd.grad(pair[0], ctx.weights, pair[1])

        of_blocks = on_each_core(gradients, list(zip(ctx.states, parts, strict=True)))
        return None, None, *(torch.stack(each).sum(dim=0) for each in zip(*of_blocks, strict=True))


@contextmanager
def one_thread_per_op() -> Iterator[None]:
    """Inside, torch runs single-threaded and `on_each_core` uses torch's threads instead."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    _reserved.append(threads)
    try:
        yield
    finally:
        _reserved.pop()
        torch.set_num_threads(threads)


_reserved: list[int] = []
"""Threads taken from torch by each `one_thread_per_op` that is open."""


def cores() -> int:
    """How many items `on_each_core` runs at the same time."""
    return _reserved[-1] if _reserved else torch.get_num_threads()


def on_each_core(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[work(item) for item in items], shared by `cores()` threads; torch is single-threaded in each."""
    number = min(cores(), len(items))
    if number <= 1:
        return [work(item) for item in items]

    def share(core: int) -> list[Result]:
        return [work(item) for item in items[core::number]]

    with one_thread_per_op():
        others = [_pool(cores() - 1).submit(share, core) for core in range(1, number)]
        shares = [share(0), *(other.result() for other in others)]
    return [shares[index % number][index // number] for index in range(len(items))]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="block")


# A forked process inherits the cached pool but none of its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
