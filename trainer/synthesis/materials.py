"""Pieces of photographed materials: wood, cloth, stone and print that procedures cannot imitate well."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis.noise import Array, Rng, any_colour, chance, log_uniform

SMALLEST = 96
"""Least side in pixels of a photograph: smaller ones show no material."""


@dataclass(frozen=True, eq=False)
class Materials:
    """Photographs of materials. pictures: uint8 RGB (H, W, 3), sides of at least SMALLEST pixels. nouns: of each picture."""

    pictures: tuple[Array, ...]
    nouns: tuple[tuple[str, ...], ...]

    def piece(self, style: Rng, own: Rng, size: int) -> tuple[Array, str]:
        """Cut a piece, RGB float32 (size, size, 3) in [0, 1], and return it with a noun.

        Args:
            style: decides which material and in what tone.
            own: decides from where it is cut.
            size: side in pixels.
        """
        index = int(style.integers(len(self.pictures)))
        picture, nouns = self.pictures[index], self.nouns[index]
        height, width = picture.shape[:2]
        side = min(height, width)
        length = round(log_uniform(style, min(side, max(SMALLEST, 0.35 * side)), side))
        top, left = (int(own.integers(room - length + 1)) for room in (height, width))
        cut = np.rot90(picture[top : top + length, left : left + length], int(own.integers(4)))
        cut = np.ascontiguousarray(cut[:, ::-1] if chance(own, 0.5) else cut)
        if chance(style, 0.25):
            middle = (length - 1) / 2
            turn = cv2.getRotationMatrix2D((middle, middle), float(style.uniform(0, 360)), 1.0)
            cut = cv2.warpAffine(cut, turn, (length, length), borderMode=cv2.BORDER_REFLECT_101)
        cut = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if length > size else cv2.INTER_CUBIC)
        tone = (cut.astype(np.float32) / 255) ** np.float32(log_uniform(style, 0.6, 1.6))
        if chance(style, 0.3):
            tone = np.repeat(tone.mean(axis=2, keepdims=True), 3, axis=2)
        mean = tone.mean(axis=(0, 1))
        tone = mean + (tone - mean) * np.float32(log_uniform(style, 0.35, 1.6))
        if chance(style, 0.3):
            tone = tone * (any_colour(style) / np.maximum(mean, 0.05))
        return np.clip(tone, 0, 1).astype(np.float32), nouns[int(style.integers(len(nouns)))]

    def grain(self, style: Rng, own: Rng, size: int) -> Array:
        """Return a factor, RGB float32 (size, size, 3), about 1, that gives a procedural surface a material's grain.

        Args: see piece.
        """
        piece, _ = self.piece(style, own, size)
        return np.clip(piece / np.maximum(piece.mean(axis=(0, 1)), 0.05), 0.2, 2.5)
