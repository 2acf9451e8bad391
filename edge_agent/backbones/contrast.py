"""Local contrast as figures of a patch: the cue that finds much without learning, given to the tower to learn with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPPONENT = ((0.30, 0.59, 0.11), (0.60, -0.60, 0.0), (0.25, 0.25, -0.50))  # lightness, red-green, yellow-blue
SURROUNDINGS = (0.1, 0.25, 0.6)  # their width as a fraction of the picture's
CELLS = 4  # a patch is looked at in so many cells a side
SHOWN = SURROUNDINGS.index(0.25)  # whose distances are told beside what is learnt with


class Contrast(nn.Module):
    """Tells each patch how its colours differ from three ever wider surroundings. Of no published TIPS: only our own has it.

    Each difference as its largest and mean over the patch, beside the picture's own mean of it, and as the signed lightness.
    """

    FIGURES = 5 * len(SURROUNDINGS)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(self.FIGURES, 64)
        self.out = nn.Linear(64, width)

    def forward(self, x: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """x: (B, 3, H, W) in [0, 1]. grid: patches (h, w).

        Returns (B, h * w, D), what is to be added to the patches, and (B, 4h, 4w), how far each cell's colour is from what is
        around it, within a quarter of the picture's sides, as a mean of 3 x 3 cells.
        """
        h, w = grid
        red, green, blue = F.adaptive_avg_pool2d(x, (CELLS * h, CELLS * w)).float().unbind(dim=1)  # (B, 4h, 4w) each
        # Numbers, not a tensor: one made here would have to be brought to the GPU, which nothing recorded may do.
        colours = [r * red + g * green + b * blue for r, g, b in OPPONENT]
        cells = torch.stack(colours, dim=1)  # (B, 3, 4h, 4w)
        patches = F.avg_pool2d(cells, CELLS)  # surroundings are smooth: they need no finer grid, which would cost
        planes, smoothed = [], []
        for fraction in SURROUNDINGS:
            around = F.interpolate(surroundings(patches, fraction), scale_factor=CELLS, mode="bilinear")
            difference = cells - around
            distance = (difference.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()  # (B, 1, 4h, 4w)
            usual = distance.mean(dim=(2, 3), keepdim=True)
            smoothed.append(F.avg_pool2d(distance, 3, 1, 1, count_include_pad=False))
            highest = F.max_pool2d(smoothed[-1], CELLS)
            mean = F.avg_pool2d(distance, CELLS)
            lightness = F.avg_pool2d(difference[:, :1], CELLS)
            shown = torch.log(torch.cat([highest, mean], dim=1) + 0.003)
            planes += [shown + 3, shown - torch.log(usual + 0.003), 5 * lightness]  # about as large as one another
        figures = torch.cat(planes, dim=1).flatten(2).transpose(1, 2)  # (B, N, FIGURES)
        return self.out(F.gelu(self.mix(figures.to(self.mix.weight.dtype)))), smoothed[SHOWN].squeeze(1)


def surroundings(patches: Tensor, fraction: float) -> Tensor:
    """(B, C, h, w) blurred by a box of that fraction of its size, twice over; beyond the border nothing counts."""
    height, width = (2 * max(round(fraction * side / 2), 1) + 1 for side in patches.shape[2:])
    for _ in range(2):
        patches = F.avg_pool2d(patches, (height, 1), stride=1, padding=(height // 2, 0), count_include_pad=False)
        patches = F.avg_pool2d(patches, (1, width), stride=1, padding=(0, width // 2), count_include_pad=False)
    return patches
