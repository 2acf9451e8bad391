"""Make the sample pictures that the package ships; procedural, so free of rights.

Run: python -m trainer.pretrain.samples edge_agent. It writes samples/, and sample_part/ with pictures of a single product, which the
demo teaches.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from trainer import synthesis

SIDE = 384  # pixels
PART, PART_SIDE, EACH = 18, 320, 6  # a product that the model as shipped gets wrong, pixels, pictures of each kind
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
        _write(folder / f"{number:02}_{good.noun}_{kind}.jpg".replace(" ", "-"), pixels)


def write_part(folder: Path) -> None:
    """Write pictures of one product: `good` to be taught, and `new`, half of them defective."""
    own = np.random.default_rng([2026, PART])
    taught = [synthesis.product(PART, own, PART_SIDE).pixels for _ in range(EACH)]
    new = [(synthesis.product(PART, own, PART_SIDE).pixels, "good") for _ in range(EACH // 2)]
    for _ in range(EACH // 2):
        good = synthesis.product(PART, own, PART_SIDE)
        pixels, _, kind = synthesis.paint_defect(own, good.pixels, good.foreground, taught[0])
        new.append((pixels, kind))
    for kept in ("good", "new"):
        (folder / kept).mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(taught, start=1):
        _write(folder / "good" / f"{number}.jpg", pixels)
    for number, (pixels, kind) in enumerate(new, start=1):
        _write(folder / "new" / f"{number}_{kind}.jpg", pixels)


def _write(path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]) / "samples")
    write_part(Path(sys.argv[1]) / "sample_part")
