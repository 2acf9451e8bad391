"""Procedural pictures of products, good and spoiled, with masks and captions. Reads no files and learns nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.synthesis.camera import camera
from trainer.synthesis.captions import caption, description
from trainer.synthesis.defects import DEFECTS, Defect
from trainer.synthesis.materials import Materials
from trainer.synthesis.scenes import NOUNS, Normal, normal
from trainer.synthesis.spoil import spoil

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
    "sample",
    "spoil",
]


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture to learn from: uint8 RGB (size, size, 3), mask bool (size, size) of its defect, the product's noun.

    kind: a key of DEFECTS, or None where the picture is good and the mask empty.
    """

    pixels: np.ndarray
    mask: np.ndarray
    noun: str
    kind: str | None
    caption: str


def sample(rng: np.random.Generator, size: int, p_defect: float = 0.5) -> Sample:
    """One picture of `size` pixels squared, spoiled with probability p_defect, as a camera would take it."""
    good = normal(rng, size)
    pixels, mask, kind = good.pixels, np.zeros((size, size), bool), None
    if rng.random() < p_defect:
        pixels, mask, kind = spoil(rng, pixels, good.foreground, normal(rng, size).pixels)
    return Sample(camera(rng, pixels), mask, good.noun, kind, caption(rng, good.noun, kind))
