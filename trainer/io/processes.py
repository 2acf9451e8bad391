"""One training by several processes of torchrun: each computes part of every batch, and all take the same step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from edge_agent.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """One of `count` processes; rank: 0 to count - 1."""

    rank: int
    count: int

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run the block in the first process, then in the others."""
        if self.rank > 0:
            dist.barrier()
        yield
        if self.rank == 0 and self.count > 1:
            dist.barrier()

    def average(self, module: nn.Module) -> None:
        """Replace gradients and floating-point buffers (statistics of norms) by their means over all processes."""
        if self.count == 1:
            return
        tensors = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        tensors += [buffer for buffer in module.buffers() if buffer.dtype.is_floating_point]
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def rank() -> int:
    """Return this process's rank among those that torchrun started; 0 for a single process."""
    return int(os.environ.get("RANK", 0))


SINGLE = Process(0, 1)


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started, and give this one's rank and their number: (0, 1) for a single process."""
    if not dist.is_torchelastic_launched():
        yield 0, 1
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


@contextmanager
def training_process(batch: int) -> Iterator[Process]:
    """Join the processes that torchrun started, and give this one.

    batch: pictures a step, of all processes together. Raises ConfigError when it is no multiple of the number of processes.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if batch % count:
        raise ConfigError(
            f"a batch of {batch} cannot be shared out to {count} processes: make --batch a multiple of {count}"
        )
    with process_group() as (number, world):
        yield Process(number, world)


def gathered_objects(own: T) -> list[T]:
    """Return this value of every process, by rank; of a single process only its own."""
    if not dist.is_initialized():
        return [own]
    every = [own] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return every


def gathered(own: Tensor) -> np.ndarray:
    """Return these rows of every process, by rank, joined along the first dimension."""
    return torch.cat(gathered_objects(own)).numpy()
