"""Pictures to fit on in several of the eight ways to mirror and turn them, each encoded once and kept.

Not in feature space: the losses do not mind where a patch lies, so features that are moved about would teach nothing new,
while a backbone sees a turned picture otherwise than a picture whose features are turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trainer.data.examples import Skipped
from trainer.fit.features import Labelled
from trainer.fit.pictures_to_checkpoint import Pictures

WAYS = (
    (0, False),
    (0, True),
    (2, False),
    (2, True),
    (1, False),
    (3, False),
    (1, True),
    (3, True),
)  # quarters, mirrored


def turned(pictures: Pictures, ways: int) -> Pictures:
    """The same pictures, each in the first `ways` (1 to 8) of: as it is, mirrored, upside down, ..., quarter turns last."""
    if ways == 1:
        return pictures

    def read(skipped: list[Skipped]) -> Iterator[Labelled]:
        for one in pictures.read(skipped):
            for quarters, mirrored in WAYS[:ways]:
                yield Labelled(_turn(one.pixels, quarters, mirrored), _turn(one.mask, quarters, mirrored))

    return replace(
        pictures,
        read=read,
        count=pictures.count * ways,
        source=f"{pictures.source}, each in {ways} turns",
        key=f"{pictures.key} {ways}",
    )


def _turn(array: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(array[:, ::-1] if mirrored else array, quarters))
