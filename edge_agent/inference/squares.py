"""A detector that reads an elongated picture in squares, so that a strip is not squeezed into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edge_agent.core import Detector, Reading

ELONGATED = 1.5  # longer side / shorter side from which a picture is read in squares
MAX_SQUARES = 64  # of one picture; an even longer strip is squeezed into that many

Place = tuple[int, int, int, int]  # first row, end of rows, first column, end of columns


class SquaresDetector:
    """Reads pictures that are at least ELONGATED times as long as wide in squares, the others as they are.

    The squares have the shorter side, cover the picture and are evenly spaced. The score is that of the highest square. The
    heatmap is the squares' own, side by side; where two overlap, the higher value counts. Satisfies core.Detector.
    """

    def __init__(self, one: Detector) -> None:
        """one: reads a square, and a picture that is not elongated; also an attribute."""
        self.one = one
        self.info = replace(one.info, squares=True)
        self.overlaps = one.overlaps

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        self.one.warm_up(batch)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. Squares of which nothing is kept are not read."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector."""
        keep = keep or [None] * len(images)
        views, kept, places_of = [], [], []
        for image, mask in zip(images, keep, strict=True):
            places = squares(image.shape)
            if mask is not None and len(places) > 1:
                places = [one for one in places if cut_mask(mask, one, image.shape).any()] or places[:1]
            places_of.append(places)
            views += [image[top:bottom, left:right] for top, bottom, left, right in places]
            kept += [None if mask is None else cut_mask(mask, one, image.shape) for one in places]
        wait = self.one.start(views, kept)

        def readings() -> list[Reading]:
            read = iter(wait())
            return [
                join(image.shape, places, [next(read) for _ in places])
                for image, places in zip(images, places_of, strict=True)
            ]

        return readings


def is_elongated(shape: Sequence[int]) -> bool:
    """Return whether a picture of shape (H, W, ...) is better read in squares."""
    return max(shape[:2]) >= ELONGATED * min(shape[:2])


def squares(shape: Sequence[int]) -> list[Place]:
    """Return the squares that a picture of shape (H, W, ...) is read in: one place, all of it, unless it is elongated."""
    height, width = shape[:2]
    if not is_elongated(shape):
        return [(0, height, 0, width)]
    short, long = min(height, width), max(height, width)
    count = min(-(-long // short), MAX_SQUARES)
    side = max(short, -(-long // count))
    starts = [round(at * (long - side) / (count - 1)) for at in range(count)]
    return [(at, at + side, 0, short) if height > width else (0, short, at, at + side) for at in starts]


def cut_mask(mask: np.ndarray, place: Place, shape: Sequence[int]) -> np.ndarray:
    """Cut out the part of a mask that lies over a place in a picture.

    Args:
        mask: (h, w) bool of any size, stretched over the picture.
        place: in pixels of the picture.
        shape: (H, W, ...) of the picture.

    Returns:
        The part, of one cell at least.
    """
    rows, columns = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
    top, left = int(place[0] * rows), int(place[2] * columns)
    return mask[top : max(top + 1, round(place[1] * rows)), left : max(left + 1, round(place[3] * columns))]


def join(shape: Sequence[int], places: Sequence[Place], readings: Sequence[Reading]) -> Reading:
    """Join the readings of the squares of one picture to one reading of all of it; see SquaresDetector.

    Args:
        shape: of the picture, (H, W, ...).
        places: of the squares, as `squares` gives them or some of those.
        readings: one for each square, with maps of one size.
    """
    if places == [(0, shape[0], 0, shape[1])]:
        return readings[0]
    rows, columns = readings[0].heatmap.shape
    top, bottom, left, right = places[0]
    high, wide = rows / (bottom - top), columns / (right - left)  # cells of a square's map for a pixel of the picture
    whole = np.zeros((round(shape[0] * high), round(shape[1] * wide)), np.float32)
    for place, reading in zip(places, readings, strict=True):
        at_row = min(round(place[0] * high), whole.shape[0] - rows)
        at_column = min(round(place[2] * wide), whole.shape[1] - columns)
        part = whole[at_row : at_row + rows, at_column : at_column + columns]
        np.maximum(part, reading.heatmap, out=part)
    return Reading(float(np.max([one.score for one in readings])), whole)
