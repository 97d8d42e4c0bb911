"""Rows in blocks, each on a core of its own: forward and backward pass of a block meet no other block but in sums.

Where many small steps make up a pass, threads that share each step wait for one another after each; threads that share
the rows wait once. Rows of similar length come together, so that a block is as wide as its own longest row.
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
    """Up to `number` blocks of about equally many tokens, the shortest rows first.

    Args:
        mask: (B, T) bool, True on the tokens that count; columns after a block's last one are cut off.
        number: of blocks.

    Returns:
        (index (b,) of the rows, width) of each block; every row is in one.
    """
    ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1).clamp(min=1)
    order = ends.argsort(stable=True)
    total = ends[order].cumsum(0)
    block = ((total * number - 1) // total[-1]).tolist()
    counts = [block.count(which) for which in sorted(set(block))]
    return [(rows, int(ends[rows].max())) for rows in order.split(counts)]


def in_blocks(run: Callable[[Item], Tensor], blocks: Sequence[Item], weights: Sequence[Tensor]) -> Tensor:
    """The results (n, D) of all blocks, one below the other; gradients flow into the weights and nowhere else.

    Args:
        run: from a block to its (n_i, D).
        blocks: what is run, at the same time.
        weights: that need gradients.
    """
    if not torch.is_grad_enabled() or not weights or len(blocks) == 1:
        grad = torch.is_grad_enabled()
        return torch.cat(on_each_core(lambda block: _run(run, block, grad=grad), blocks))
    states: Tensor = _InBlocks.apply(run, blocks, *weights)
    return states


def _run(run: Callable[[Item], Tensor], block: Item, *, grad: bool) -> Tensor:
    with torch.set_grad_enabled(grad):  # each thread has a mode of its own
        return run(block)


class _InBlocks(torch.autograd.Function):
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
    """In the body, `on_each_core` has the cores, as many as torch has been given; torch itself keeps to one."""
    cores = torch.get_num_threads()
    if cores == 1:
        yield
        return
    torch.set_num_threads(1)
    _apart.append(cores)
    try:
        yield
    finally:
        _apart.pop()
        torch.set_num_threads(cores)


_apart: list[int] = []


def cores() -> int:
    """How many items run at the same time."""
    return _apart[-1] if _apart else torch.get_num_threads()


def on_each_core(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[work(item) for item in items], shared by threads of one core each."""
    number = min(cores(), len(items))
    if number <= 1:
        return [work(item) for item in items]

    def share(core: int) -> list[Result]:
        return [work(item) for item in items[core::number]]

    with one_thread_per_op():
        others = [_pool(cores() - 1).submit(share, core) for core in range(1, number)]
        shares = [share(0), *(other.result() for other in others)]
    return [shares[place % number][place // number] for place in range(len(items))]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="block")


os.register_at_fork(after_in_child=_pool.cache_clear)
