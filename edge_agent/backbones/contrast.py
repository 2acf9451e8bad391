"""Local contrast as input features of each patch: a cue that finds many defects without learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPPONENT = ((0.30, 0.59, 0.11), (0.60, -0.60, 0.0), (0.25, 0.25, -0.50))  # lightness, red-green, yellow-blue
SURROUNDINGS = (0.1, 0.25, 0.6)  # their width as a fraction of the picture's
CELLS = 4  # along each side of a patch
SHOWN = SURROUNDINGS.index(0.25)  # its distances are returned as the contrast map


class Contrast(nn.Module):
    """Adds to each patch how its colours differ from three ever wider surroundings. Only the embedded backbone has it.

    Of each difference: its maximum and mean over the patch, the same relative to the picture's mean, and the signed lightness.
    """

    FIGURES = 5 * len(SURROUNDINGS)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(self.FIGURES, 64)
        self.out = nn.Linear(64, width)

    def forward(self, x: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Compute the contrast of pictures x (B, 3, H, W) in [0, 1]. grid: patches (h, w).

        Returns (B, h * w, D), to be added to the patches, and (B, 4h, 4w): the distance of each cell's colour from its
        surroundings of a quarter of the picture's sides, as a mean of 3 x 3 cells.
        """
        h, w = grid
        red, green, blue = F.adaptive_avg_pool2d(x, (CELLS * h, CELLS * w)).float().unbind(dim=1)  # (B, 4h, 4w) each
        # Numbers, not a tensor: a tensor made here would be copied to the GPU, which a captured graph must not do.
        colours = [r * red + g * green + b * blue for r, g, b in OPPONENT]
        cells = torch.stack(colours, dim=1)  # (B, 3, 4h, 4w)
        patches = F.avg_pool2d(cells, CELLS)  # surroundings are smooth: a finer grid would only cost time
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
            planes += [
                shown + 3,
                shown - torch.log(usual + 0.003),
                5 * lightness,
            ]  # shifts and factors give all about the same scale
        figures = torch.cat(planes, dim=1).flatten(2).transpose(1, 2)  # (B, N, FIGURES)
        return self.out(F.gelu(self.mix(figures.to(self.mix.weight.dtype)))), smoothed[SHOWN].squeeze(1)


def surroundings(patches: Tensor, fraction: float) -> Tensor:
    """Blur (B, C, h, w) twice with a box of that fraction of its size; pixels beyond the border are left out of the means."""
    height, width = (2 * max(round(fraction * side / 2), 1) + 1 for side in patches.shape[2:])
    for _ in range(2):
        patches = F.avg_pool2d(patches, (height, 1), stride=1, padding=(height // 2, 0), count_include_pad=False)
        patches = F.avg_pool2d(patches, (1, width), stride=1, padding=(0, width // 2), count_include_pad=False)
    return patches
