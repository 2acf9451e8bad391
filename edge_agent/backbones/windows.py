"""Windows of a picture's patches, each encoded as if the picture had no others: what WinCLIP reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

AT_ONCE = 4096  # windows in one run of the tower: some 700 MB with ViT-L and windows of 3 x 3 patches


def encode_each(patches: Tensor, grid: tuple[int, int], side: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """patches: (B, N, C) on their way into the tower, positions added; grid: (h, w). side: of a window, in patches.

    encode: windows (n, side * side, C) to features (n, D). Returns (B, h - side + 1, w - side + 1, D).
    """
    square = patches.unflatten(1, grid).unfold(1, side, 1).unfold(2, side, 1)  # (B, h', w', C, side, side)
    windows = square.flatten(0, 2).flatten(2).mT
    return torch.cat([encode(some) for some in windows.split(AT_ONCE)]).unflatten(0, square.shape[:3])
