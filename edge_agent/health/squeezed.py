"""Warns of a station that squeezes elongated pictures into a square, which hides small defects."""

from __future__ import annotations

import logging
from collections.abc import Collection

from edge_agent.core import Evidence, Inspection
from edge_agent.inference.squares import is_elongated

log = logging.getLogger(__name__)


class SqueezedPictures:
    """An observer of the line; warns once for each station."""

    def __init__(self) -> None:
        self._squeezing: Collection[str] = ()
        self._told: set[str] = set()

    def expect(self, squeezing: Collection[str]) -> None:
        """Set the names of the stations that read elongated pictures as they are."""
        self._squeezing = squeezing

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Look at the shape of a picture that was read."""
        station, pixels = inspection.frame.station, inspection.frame.pixels
        if station in self._told or station not in self._squeezing or not pixels.size:
            return
        if is_elongated(pixels.shape):
            self._told.add(station)
            height, width = pixels.shape[:2]
            log.warning(
                "station %s: a picture of %d x %d pixels is squeezed into a square, which hides small defects: set "
                "detector: {squares: true} and calibrate again", station, width, height,
            )  # fmt: skip
