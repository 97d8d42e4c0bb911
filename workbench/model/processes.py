"""The processes of one run: `accelerate launch --num_processes N -m ppo CONFIG`. Alone, every call is an identity.

The base is frozen and whole in every process, and only adapters and heads learn: a run splits rows over the processes
and adds up what they find. Sums over a split batch are those of the whole batch, so N processes train as one does.
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
"""How long a process waits for the others: the first one may validate, sample or save while they do nothing."""


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
        """Wait for all, then part: a process that ends with its connections open may be aborted, and all with it."""
        if self.number > 1:
            self.wait()
            self.state.destroy_process_group()

    def wait(self) -> None:
        """Go on when every process has come this far."""
        if self.number > 1:
            distributed.barrier()

    def shard(self, parts: Sequence[T]) -> list[tuple[int, T]]:
        """This process's share of a list, with each part's place in it."""
        return [(place, part) for place, part in enumerate(parts) if place % self.number == self.rank]

    def gather(self, found: dict[int, T]) -> dict[int, T]:
        """What all processes found, by place."""
        if self.number == 1:
            return found
        every: list[dict[int, T] | None] = [None] * self.number
        distributed.all_gather_object(every, found)
        return {place: value for part in every if part is not None for place, value in part.items()}

    def all_reduce(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.number > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all processes, in one message; a process without rows adds nothing."""
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
        """Run an action in the first process alone, and give its result, or its error, to all."""
        if self.number == 1:
            return action()
        box: list[T | Exception | None] = [None]
        if self.first:
            try:
                box[0] = action()
            except Exception as error:  # every process must stop with it: else the others wait for ever
                box[0] = error
        broadcast_object_list(box)
        result = box[0]
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[return-value]
