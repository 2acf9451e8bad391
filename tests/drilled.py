"""Pictures of a drilled part, for stations."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE = 96


def part(seed: int, *, lacking: bool = False) -> np.ndarray:
    """A disc with four holes and a groove, never twice in the same place; lacking: one hole was not drilled."""
    random = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), 40, np.uint8)
    centre = tuple(int(SIDE / 2 + one) for one in random.integers(-3, 4, 2))
    cv2.circle(pixels, centre, 34, (170, 160, 150), -1)
    cv2.line(pixels, (centre[0] - 28, centre[1]), (centre[0] + 28, centre[1]), (20, 20, 25), 3)
    for at, (x, y) in enumerate(((-14, -14), (14, -14), (-14, 14), (14, 14))):
        if not (lacking and at == 3):
            cv2.circle(pixels, (centre[0] + x, centre[1] + y), 7, (30, 30, 30), -1)
    return np.clip(pixels + random.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


def folder(place: Path, pictures: list[np.ndarray]) -> Path:
    place.mkdir()
    for number, pixels in enumerate(pictures):
        cv2.imwrite(str(place / f"part{number}.png"), pixels)
    return place
