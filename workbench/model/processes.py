"""The processes of one run: `accelerate launch --num_processes N -m ppo CONFIG`. Alone, every call is an identity.

Every process holds the whole frozen base; only adapters and heads are trained. Rows are split over the processes and
their sums are added up. Sums over a split batch equal those over the whole batch, so N processes train as one does.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

T = TypeVar("T")


PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: they are idle while the first one validates, samples or saves."""


class Processes:
    """This process among those that were launched together."""

    def __init__(self) -> None:
        self.state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        self.rank, self.number = self.state.process_index, self.state.num_processes

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder and the progress bar."""
        return self.rank == 0

    def close(self) -> None:
        """Barrier, then destroy the process group; otherwise an early exit aborts the others."""
        if self.number > 1:
            self.wait()
            self.state.destroy_process_group()

    def wait(self) -> None:
        """Barrier."""
        if self.number > 1:
            distributed.barrier()

    def shard(self, parts: Sequence[T]) -> list[tuple[int, T]]:
        """This process's share of a list, with each part's index in it."""
        return [(index, part) for index, part in enumerate(parts) if index % self.number == self.rank]

    def gather(self, shares: dict[int, T]) -> dict[int, T]:
        """The results of all processes, by index."""
        if self.number == 1:
            return shares
        every: list[dict[int, T] | None] = [None] * self.number
        distributed.all_gather_object(every, shares)
        return {index: value for part in every if part is not None for index, value in part.items()}

    def all_reduce(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.number > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all processes in one message; a process without rows contributes zeros."""
        if self.number == 1:
            return
        whole = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        distributed.all_reduce(whole)
        for parameter, part in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.reshape(parameter.shape)

    def all_reduce_numbers(self, numbers: dict[str, float]) -> dict[str, float]:
        """Sum named numbers over the processes; every process must know the same names."""
        if self.number == 1:
            return numbers
        every: list[dict[str, float] | None] = [None] * self.number
        distributed.all_gather_object(every, numbers)
        names = sorted({name for part in every if part is not None for name in part})
        return {name: sum(part.get(name, 0.0) for part in every if part is not None) for name in names}

    def on_first(self, action: Callable[[], T]) -> T:
        """Run an action in the first process only; every process returns its result or raises its error."""
        if self.number == 1:
            return action()
        box: list[T | Exception | None] = [None]
        if self.first:
            try:
                box[0] = action()
            except Exception as error:  # every process must raise it, or the others would wait forever
                box[0] = error
        broadcast_object_list(box)
        result = box[0]
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[return-value]
