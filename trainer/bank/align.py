"""Good pictures moved so that their parts lie alike, and how well a part has to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.inference.aligned import OF_LOWEST, Reference, aligned, choose_reference
from trainer.bank.good_picture import GoodPicture


def aligned_pictures(pictures: Sequence[GoodPicture]) -> tuple[Reference, list[GoodPicture]]:
    """Return the good part that others are aligned with, and all of the pictures so aligned.

    Raises EdgeAgentError, naming the picture, where one is of another shape or does not look enough like the reference.
    """
    chosen = pictures[choose_reference(one.decode() for one in pictures)]
    reference = Reference.of(chosen.decode())
    moved, fits = [], []
    for one in pictures:
        pixels = one.decode()
        placement = reference.place(pixels)
        why = reference.why_not(pixels, placement)
        if not reference.has_shape(pixels.shape):
            why = "it is a picture of another shape"
        if why:
            raise EdgeAgentError(
                f"{one.name}: cannot be aligned with {chosen.name}: {why}: take it out, or do without --align, which is for stiff"
                " parts that look alike"
            )
        fits.append(placement.fit)
        moved.append(replace(one, decode=partial(_moved, one, placement.matrix)))
    return replace(reference, least_fit=OF_LOWEST * min(fits)), moved


def _moved(picture: GoodPicture, matrix: np.ndarray) -> np.ndarray:
    return aligned(picture.decode(), matrix)
