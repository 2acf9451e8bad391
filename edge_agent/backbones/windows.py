"""Windows of a picture's patches, each encoded as if the picture had no other patches; WinCLIP reads them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WINDOWS_PER_RUN = 4096  # of the tower: some 700 MB with ViT-L and windows of 3 x 3 patches


def encode_each(patches: Tensor, grid: tuple[int, int], side: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Encode every side x side window of patches by itself.

    Args:
        patches: (B, N, C), inputs of the tower's first block, positions added.
        grid: (h, w) with h * w = N.
        side: of a window, in patches.
        encode: windows (n, side * side, C) to features (n, D).

    Returns (B, h - side + 1, w - side + 1, D).
    """
    square = patches.unflatten(1, grid).unfold(1, side, 1).unfold(2, side, 1)  # (B, h', w', C, side, side)
    windows = square.flatten(0, 2).flatten(2).mT
    return torch.cat([encode(some) for some in windows.split(WINDOWS_PER_RUN)]).unflatten(0, square.shape[:3])
