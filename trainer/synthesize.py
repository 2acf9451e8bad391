"""Labelled pictures made of the user's own good ones: defects painted onto them, with exact masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.pictures import MIN_SIDE, decode
from trainer.data import Skipped
from trainer.synthesis import spoil

P_DEFECT = 0.5


def spoiled(
    good: Sequence[Path], numbers: range, seed: int, skipped: list[Skipped]
) -> Iterator[tuple[np.ndarray, np.ndarray, str | None]]:
    """Pixels (H, W, 3) uint8 RGB, mask (H, W) bool and kind of defect, None for none, of the pictures `numbers`, at their own size.

    The n-th is the same whichever others are made. Good pictures that cannot be read are added to `skipped`, once each. Raises
    EdgeAgentError when none can be read.
    """
    broken: set[Path] = set()
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        order = rng.permutation(len(good))
        pixels = _first(good, order, broken, skipped)
        if rng.random() >= P_DEFECT:
            yield pixels, np.zeros(pixels.shape[:2], bool), None
            continue
        donor = _first(good, rng.permutation(order), broken, skipped)
        donor = cv2.resize(donor, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        yield spoil(rng, pixels, foreground(pixels), donor)


def foreground(pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool, where the part lies: what differs from an even border, and is no sliver; else all of the picture."""
    whole = np.ones(pixels.shape[:2], bool)
    small = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab).astype(np.float32)
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    if border.std(axis=0).max() > 12:  # no even background: the picture shows nothing but the part
        return whole
    distance = np.linalg.norm(lab - np.median(border, axis=0), axis=2)
    level, _ = cv2.threshold(np.clip(distance, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    found = cv2.morphologyEx((distance > max(level, 10)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    if not 0.05 < found.mean() < 0.95:
        return whole
    return cv2.resize(found, pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0


def _first(good: Sequence[Path], order: np.ndarray, broken: set[Path], skipped: list[Skipped]) -> np.ndarray:
    """The first picture, in this order, that can be read."""
    for index in order:
        path = good[int(index)]
        if path in broken:
            continue
        try:
            return decode(path, min_side=MIN_SIDE)
        except PictureError as error:
            broken.add(path)
            skipped.append(Skipped(path, str(error)))
    raise EdgeAgentError(
        f"{good[0].parent}: none of the {len(good)} good pictures can be read; the first: {skipped[0].reason}"
    )
