"""Banded matrices: linear maps along one axis with few taps, such as a resampling or a blur, as offsets and weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """first: (S,) int32, the first input of each of S outputs. weights: (T, S) fp32, of the T inputs from there on."""

    first: Tensor
    weights: Tensor

    @property
    def taps(self) -> int:
        """T, inputs of each output."""
        return len(self.weights)


def band(matrix: Tensor) -> Band:
    """Convert a matrix (S, L), the weight of each of L inputs in each of S outputs."""
    used = matrix != 0
    first = used.int().argmax(dim=1)
    last = matrix.shape[1] - 1 - used.flip(1).int().argmax(dim=1)
    taps = int((last - first).max()) + 1
    first = first.clamp(max=matrix.shape[1] - taps)  # the last outputs start earlier, with weights of 0
    reach = first.unsqueeze(1) + torch.arange(taps, device=matrix.device)  # (S, T)
    return Band(first.int().contiguous(), matrix.gather(1, reach).T.contiguous().float())


@lru_cache(maxsize=64)  # a camera has one size; stored pictures may have many
def resampling(length: int, size: int, kind: str, device: torch.device) -> Band:
    """Measure the weights of torch's own antialiased resize along one axis, from the responses to single pixels.

    Args:
        length: pixels before.
        size: pixels after.
        kind: "bilinear" or "bicubic".
        device: where the result is made.
    """
    single = torch.eye(length)[None, None]  # a column for each input
    matrix = F.interpolate(single, size=(size, length), mode=kind, antialias=True, align_corners=False)
    return on(band(matrix[0, 0]), device)


def on(own: Band, device: torch.device) -> Band:
    """Copy a band to a device."""
    return Band(own.first.to(device), own.weights.to(device))
