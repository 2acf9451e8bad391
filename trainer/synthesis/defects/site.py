"""Where a defect is painted, and what a painter of defects is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainer.synthesis.noise import Array, Rng


@dataclass(frozen=True, eq=False)
class Site:
    """Where a defect goes and how strong it is.

    patch: float32 RGB (h, w, 3) in [0, 255], cut out of the picture. ground: float32 (h, w), 1 on the product, else 0.
    centre: (x, y) in the patch. extent: pixels. contrast: gray levels. noise: gray levels between neighbouring pixels.
    pixels, donor: the whole picture and another, uint8 RGB.
    """

    patch: Array
    ground: Array
    centre: tuple[float, float]
    extent: float
    contrast: float
    noise: float
    pixels: Array
    donor: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the patch."""
        return self.patch.shape[0], self.patch.shape[1]


Painter = Callable[[Rng, Site], tuple[Array, Array]]
"""Paints one defect: returns the changed patch, float32 RGB (h, w, 3) in [0, 255], and its coverage (h, w) in [0, 1]."""
