"""The format of pictures, their size and whether they are gray: those of one camera have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SAME_SIZE = 1.05  # factor between sides, up to which a picture is as large as another one: cropped by hand
SHAPE = (1 / SAME_SIZE, SAME_SIZE)  # of aspects that are the same
NAMED = 5  # pictures that are named where several are meant


@dataclass(frozen=True, slots=True)
class Format:
    """Width and height in pixels, and whether red, green and blue are the same in all of them."""

    width: int
    height: int
    gray: bool

    @classmethod
    def of(cls, pixels: np.ndarray) -> Format:
        """Return the format of a picture (H, W, 3) uint8 RGB."""
        height, width = pixels.shape[:2]
        gray = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
        return cls(width, height, gray)

    @property
    def size(self) -> str:
        """In words."""
        return f"{self.width} x {self.height}"

    def is_about(self, other: Format) -> bool:
        """Whether neither side differs by more than SAME_SIZE."""
        sides = (self.width, other.width), (self.height, other.height)
        return all(max(pair) <= SAME_SIZE * min(pair) for pair in sides)

    @property
    def colours(self) -> str:
        """In words."""
        return "gray" if self.gray else "in colour"


def differences(good: Sequence[tuple[str, Format]], bad: Sequence[tuple[str, Format]] = ()) -> Iterator[str]:
    """Yield which pictures are of another size or colour than most good ones, and what that makes.

    Args:
        good: names and formats of the good pictures, at least one.
        bad: likewise of the defective ones; default none.
    """
    usual, _ = Counter(one.size for _, one in good).most_common(1)[0]
    same = next(one for _, one in good if one.size == usual)
    if 2 * sum(one.is_about(same) for _, one in good) > len(good):
        yield from _said(
            [(name, one.size) for name, one in (*good, *bad) if not one.is_about(same)],
            f"of {usual} pixels",
            "a picture of another shape shows the part squeezed, and of another scale larger or smaller"
            if any(
                not SHAPE[0] < one.width * same.height / (one.height * same.width) < SHAPE[1]
                for _, one in (*good, *bad)
            )
            else "they show less or more detail",
        )
    elif len(good) > 1:
        yield (
            "The good pictures are of many sizes. A line's camera gives one: if they were cropped, take them as the camera gives"
            " them, and run the command again."
        )
    gray = sum(one.gray for _, one in good)
    usual = "gray" if 2 * gray > len(good) else "in colour"
    yield from _said(
        [(name, one.colours) for name, one in (*good, *bad) if one.colours != usual],
        usual,
        "the model sees another part in them",
    )


def _said(differing: Sequence[tuple[str, str]], usual: str, why: str) -> Iterator[str]:
    if not differing:
        return
    named = ", ".join(f"{name} ({what})" for name, what in differing[:NAMED])
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    yield (
        f"Most good pictures are {usual}, but not {named}{more}: {why}. All should be as the line's camera gives them: take these"
        " out or take them anew, and run the command again."
    )
