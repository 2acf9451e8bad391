"""Make the sample pictures that the package ships; procedural, so free of rights. Run: python -m trainer.pretrain.samples FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from trainer import synthesis

SIDE = 384  # pixels
GOOD = (2, 8, 16, 20, 38, 42, 52, 58, 60, 64)
DEFECTIVE = (1, 7, 9, 17, 23, 37, 43, 47, 51, 67)


def write_samples(folder: Path) -> None:
    """Write the samples as JPEG, named by their content."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in sorted(GOOD + DEFECTIVE):
        rng = np.random.default_rng([2026, number])
        good = synthesis.normal(rng, SIDE)
        pixels, kind = good.pixels, "good"
        if number in DEFECTIVE:
            donor = synthesis.normal(rng, SIDE).pixels
            pixels, _, kind = synthesis.paint_defect(rng, pixels, good.foreground, donor)
        pixels = synthesis.camera(rng, pixels)
        name = f"{number:02}_{good.noun}_{kind}.jpg".replace(" ", "-")
        cv2.imwrite(str(folder / name), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
