"""Training views: random cuts of a pool's good pictures, some of them with painted defects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer import synthesis
from trainer.pretrain.pool import Pool

KINDS: tuple[str, ...] = tuple(sorted(synthesis.DEFECTS))
"""Kinds of defects; a view's labels number them from 1."""


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One training picture: pixels (S, S, 3) uint8 RGB, noun, and the kind of its last defect or None.

    labels: (S, S) uint8, 0 where the picture is good, elsewhere 1 + the index in KINDS of the defect.
    """

    pixels: np.ndarray
    labels: np.ndarray
    noun: str
    kind: str | None


def make_view(pool: Pool, rng: np.random.Generator, size: int, p_defect: float) -> TrainingView:
    """Cut a random part of a random picture, turn it, paint up to three defects on it, and pass it through a camera model.

    Args:
        pool: the good pictures.
        rng: decides everything.
        size: side of the view in pixels.
        p_defect: probability in [0, 1] of one to three defects.
    """
    index, donor_index = rng.integers(len(pool), size=2)
    side = pool.pictures.shape[1]
    cut = int(rng.integers(round(0.6 * side), side + 1)) if rng.random() < 0.7 else side
    # Elongated pictures are squeezed into a square, too, and their borders are borders of good pictures.
    narrow = round(cut / np.exp(rng.uniform(0, np.log(2.5)))) if rng.random() < 0.3 else cut
    top, left = (_start(rng, side - length) for length in (cut, narrow))
    window = (slice(top, top + cut), slice(left, left + narrow))
    turns, flipped = int(rng.integers(4)), bool(rng.random() < 0.5)

    def cut_out(plane: np.ndarray, interpolation: int) -> np.ndarray:
        turned = np.rot90(plane[window], turns)
        return cv2.resize(
            np.ascontiguousarray(turned[:, ::-1] if flipped else turned), (size, size), interpolation=interpolation
        )

    pixels = cut_out(pool.pictures[index], cv2.INTER_AREA)
    foreground = cut_out(pool.foregrounds[index].view(np.uint8), cv2.INTER_NEAREST).astype(bool)
    labels = np.zeros((size, size), np.uint8)
    kind = None
    if rng.random() < p_defect:
        donor = cv2.resize(pool.pictures[donor_index], (size, size), interpolation=cv2.INTER_AREA)
        for _ in range(rng.choice([1, 2, 3], p=[0.75, 0.17, 0.08])):
            pixels, changed, kind = synthesis.paint_defect(rng, pixels, foreground, donor)
            labels[changed] = 1 + KINDS.index(kind)
    return TrainingView(synthesis.camera(rng, pixels), labels, pool.nouns[index], kind)


def _start(rng: np.random.Generator, room: int) -> int:
    """Return where a cut begins that has `room` pixels to move in: anywhere, in 30 % at the border."""
    return int(rng.choice([0, room])) if rng.random() < 0.3 else int(rng.integers(room + 1))
