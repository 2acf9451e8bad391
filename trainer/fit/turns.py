"""Pictures to fit on, each in several of the eight ways to mirror and turn it by quarters.

Pictures are turned, not features: the losses do not depend on where a patch lies, so moved features would teach nothing
new, while a backbone encodes a turned picture differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trainer.data.examples import Skipped
from trainer.fit.features import LabelledPicture
from trainer.fit.pictures import FitPictures

WAYS = (
    (0, False),
    (0, True),
    (2, False),
    (2, True),
    (1, False),
    (3, False),
    (1, True),
    (3, True),
)  # quarter turns, whether mirrored


def with_turns(pictures: FitPictures, ways: int) -> FitPictures:
    """Return each picture in the first `ways` (1 to 8) of: as it is, mirrored, upside down, ..., quarter turns last."""
    if ways == 1:
        return pictures

    def read(skipped: list[Skipped]) -> Iterator[LabelledPicture]:
        for one in pictures.read(skipped):
            for quarters, mirrored in WAYS[:ways]:
                yield LabelledPicture(_turned(one.pixels, quarters, mirrored), _turned(one.mask, quarters, mirrored))

    return replace(
        pictures,
        read=read,
        count=pictures.count * ways,
        source=f"{pictures.source}, each in {ways} turns",
        key=f"{pictures.key} {ways}",
    )


def _turned(array: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(array[:, ::-1] if mirrored else array, quarters))
