"""One training by several processes, as torchrun starts them: each takes part of every batch, all take the same step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from edge_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Process:
    """Number `rank`, from 0, of `of` processes."""

    rank: int
    of: int

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process goes ahead, the others follow when it is through."""
        if self.rank > 0:
            dist.barrier()
        yield
        if self.rank == 0 and self.of > 1:
            dist.barrier()

    def average(self, module: nn.Module) -> None:
        """Gradients, and the statistics of norms, become the mean over all processes."""
        if self.of == 1:
            return
        tensors = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        tensors += [buffer for buffer in module.buffers() if buffer.dtype.is_floating_point]
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.of
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def rank() -> int:
    """This process's number among those that torchrun started, 0 for one alone."""
    return int(os.environ.get("RANK", 0))


ALONE = Process(0, 1)


@contextmanager
def together() -> Iterator[tuple[int, int]]:
    """This process's rank and how many there are: one, or as torchrun started them."""
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
def joined(batch: int) -> Iterator[Process]:
    """This process among those that torchrun started, or alone.

    batch: pictures a step, of all processes together. Raises ConfigError when they cannot share them evenly.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if batch % count:
        raise ConfigError(
            f"a batch of {batch} cannot be shared out to {count} processes: make --batch a multiple of it"
        )
    with together() as (number, of):
        yield Process(number, of)
