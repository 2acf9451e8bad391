"""Procedural pictures of products, good and defective, with masks and captions. Reads no files and learns nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.synthesis.camera import camera
from trainer.synthesis.captions import caption, description
from trainer.synthesis.defects.kinds import DEFECTS, Defect
from trainer.synthesis.defects.paint import paint_defect
from trainer.synthesis.materials import Materials
from trainer.synthesis.scenes import NOUNS, Normal, normal, product

__all__ = [
    "DEFECTS",
    "NOUNS",
    "Defect",
    "Materials",
    "Normal",
    "Sample",
    "camera",
    "caption",
    "description",
    "normal",
    "paint_defect",
    "product",
    "sample",
]


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled picture.

    pixels: uint8 RGB (size, size, 3). mask: bool (size, size), of its defect. noun: of the product. kind: a key of DEFECTS,
    or None where the picture is good and the mask empty. caption: a sentence on it.
    """

    pixels: np.ndarray
    mask: np.ndarray
    noun: str
    kind: str | None
    caption: str


def sample(rng: np.random.Generator, size: int, p_defect: float = 0.5) -> Sample:
    """Make one picture, passed through a camera model.

    Args:
        rng: decides everything.
        size: side in pixels.
        p_defect: probability in [0, 1] of a defect; default 0.5.
    """
    good = normal(rng, size)
    pixels, mask, kind = good.pixels, np.zeros((size, size), bool), None
    if rng.random() < p_defect:
        pixels, mask, kind = paint_defect(rng, pixels, good.foreground, normal(rng, size).pixels)
    return Sample(camera(rng, pixels), mask, good.noun, kind, caption(rng, good.noun, kind))
