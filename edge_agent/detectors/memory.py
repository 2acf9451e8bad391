"""The memory of a few good pictures: descriptors of their patches, in one or several sets, and how far others lie from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.detectors.method import Method
from edge_agent.kernels.nearest import nearest

PREFIX = "memory."  # of the tensors' names in a checkpoint


class Memory(nn.Module):
    """Sets of unit descriptors of good pictures, each (M, C), by number: "0", "1" and so on. Without any, it is empty."""

    def __init__(self, sets: Sequence[Tensor] = ()) -> None:
        """sets: (M, C) unit, M at least 1; kept in the precision that they have."""
        super().__init__()
        self.count = len(sets)
        for number, rows in enumerate(sets):
            if rows.ndim != 2 or not len(rows):
                raise ValueError(f"a memory of shape {tuple(rows.shape)}")
            self.register_buffer(str(number), rows)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> Memory:
        """Read the memory among a checkpoint's tensors."""
        names = [name for name in tensors if name.startswith(PREFIX)]
        return cls([tensors[f"{PREFIX}{number}"].to(device) for number in range(len(names))])

    @property
    def sets(self) -> list[Tensor]:
        """All sets, in their order."""
        return [self.get_buffer(str(number)) for number in range(self.count)]

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of it, in fp16: cosines change by some 1e-5."""
        return {f"{PREFIX}{number}": rows.half() for number, rows in enumerate(self.sets)}

    def prepare(self) -> None:
        """Convert it to what its device multiplies fastest: a CPU fp32."""
        for number, rows in enumerate(self.sets):
            if rows.device.type == "cpu":
                self.register_buffer(str(number), rows.float())

    def distances(self, described: Sequence[Tensor]) -> list[Tensor]:
        """Return 1 - the greatest cosine with any descriptor of the memory, fp32 in [0, 2], set by set.

        described: of the same sets, each (..., C) unit; returned without the last axis.
        """
        found = []
        for patches, rows in zip(described, self.sets, strict=True):
            # Of unit vectors the squared distance is 2 - 2 cosine.
            squared = nearest(patches.flatten(0, -2), rows).square() / 2
            found.append(squared.view(patches.shape[:-1]))
        return found


class FewShotMethod(Method):
    """A method that can be shown a few good pictures. Without a memory it inspects by its text alone, where it has one."""

    memory: Memory

    @abstractmethod
    def describe(self, features: Any) -> list[Tensor]:
        """Return the descriptors of B pictures, unit, each (B, ..., C): the sets that a memory holds.

        features: as `encode` returns them.
        """

    def show(self, pictures: Sequence[Sequence[Tensor]]) -> None:
        """Take the memory from good pictures: what `describe` returned for each of them, in place of what there was."""
        sets = [torch.cat([one.flatten(0, -2) for one in each]) for each in zip(*pictures, strict=True)]
        self.memory = Memory(sets)
