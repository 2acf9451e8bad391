"""A linear map along one axis that looks at few neighbours, such as a resampling or a blur, as where it looks and how it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """first: (S,) int32, where each of S outputs begins to preprocessing. weights: (T, S) fp32, of the T inputs from there on."""

    first: Tensor
    weights: Tensor

    @property
    def taps(self) -> int:
        """T."""
        return len(self.weights)


def band(matrix: Tensor) -> Band:
    """matrix: (S, L), what each of L inputs gives to each of S outputs."""
    used = matrix != 0
    first = used.int().argmax(dim=1)
    last = matrix.shape[1] - 1 - used.flip(1).int().argmax(dim=1)
    taps = int((last - first).max()) + 1
    first = first.clamp(max=matrix.shape[1] - taps)  # the last outputs look a little further back, with weight 0
    reach = first.unsqueeze(1) + torch.arange(taps, device=matrix.device)  # (S, T)
    return Band(first.int().contiguous(), matrix.gather(1, reach).T.contiguous().float())


@lru_cache(maxsize=64)  # a camera has one size; stored pictures may have any
def resampling(length: int, size: int, kind: str, device: torch.device) -> Band:
    """Of torch's own antialiased resize from `length` to `size`, "bilinear" or "bicubic": read off the pictures of single pixels."""
    single = torch.eye(length)[None, None]  # a column for each input
    matrix = F.interpolate(single, size=(size, length), mode=kind, antialias=True, align_corners=False)
    return on(band(matrix[0, 0]), device)


def on(found: Band, device: torch.device) -> Band:
    """The same on another device."""
    return Band(found.first.to(device), found.weights.to(device))
