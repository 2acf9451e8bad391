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
    """Number `rank`, from 0, of `of` processes, and where it computes."""

    rank: int
    of: int
    device: torch.device

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


ALONE = Process(0, 1, torch.device("cpu"))


@contextmanager
def joined(batch: int) -> Iterator[Process]:
    """This process among those that torchrun started, or alone; on a GPU if there is one.

    batch: pictures a step, of all processes together. Raises ConfigError when they cannot share them evenly.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if batch % count:
        raise ConfigError(
            f"a batch of {batch} cannot be shared out to {count} processes: make --batch a multiple of it"
        )
    cuda = torch.cuda.is_available()
    if cuda and count > 1:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if count == 1:
        yield Process(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Process(rank(), count, device)
    finally:
        dist.destroy_process_group()
