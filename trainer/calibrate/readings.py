"""Pictures read as a station reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from edge_agent.line.calibration import brightness
from edge_agent.line.contrast import contrast
from trainer.calibrate.setup import ReadingSetup
from trainer.data.examples import Skipped, pixels_digest


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What a detector reads in n different pictures.

    scores, peaks (the heatmaps' highest values), brightness and contrast: each (n,) float32 in [0, 1]; shorter, and not to be
    used, when there were too few pictures. copies: pictures left out, each with the picture that it repeats pixel by
    pixel. skipped: pictures that could not be read.
    """

    n: int
    scores: np.ndarray
    peaks: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    copies: Sequence[tuple[Path, Path]]
    skipped: Sequence[Skipped]


def read_pictures(
    setup: ReadingSetup, paths: Sequence[Path], at_least: int, report: Callable[[int], object] = lambda n: None
) -> Readings:
    """Read pictures as a station would; those with the same pixels count once.

    Args:
        setup: how to read them.
        paths: their files.
        at_least: number of pictures wanted. As soon as fewer can be left, the rest is decoded and counted but not read, so
            that a refusal is quick and its numbers are exact.
        report: called with 1 for every picture.

    Raises EdgeAgentError when a score or map is not finite.
    """
    first: dict[bytes, Path] = {}  # by the digest of its pixels
    copies: list[tuple[Path, Path]] = []
    skipped: list[Skipped] = []

    def pictures() -> Iterator[tuple[Path, np.ndarray]]:
        for path in paths:
            report(1)
            try:
                pixels = decode(
                    path,
                    max_megapixels=setup.max_megapixels,
                    bit_depth=setup.bit_depth,
                    min_side=MIN_SIDE,
                    refuse_drawings=True,
                )
            except PictureError as error:
                skipped.append(Skipped.by(error, path))
                continue
            digest = pixels_digest(pixels)
            if digest in first:
                copies.append((path, first[digest]))
            else:
                first[digest] = path
                yield path, pixels

    scores, peaks, light, shown = [], [], [], []
    pending = pictures()
    while chunk := list(islice(pending, setup.batch)):
        if len(paths) - len(copies) - len(skipped) < at_least:
            continue
        readings = setup.detector.read([pixels for _, pixels in chunk], [setup.keep] * len(chunk))
        for (path, pixels), reading in zip(chunk, readings, strict=True):
            if reading.fault:
                skipped.append(Skipped(path, reading.fault))
                del first[pixels_digest(pixels)]
                continue
            if not (math.isfinite(reading.score) and np.isfinite(reading.heatmap).all()):
                raise EdgeAgentError(
                    f"{path}: {setup.detector.info.name} gave a score or map that is not a number: try `edge-agent doctor`"
                )
            scores.append(reading.score)
            peaks.append(reading.heatmap.max())
            light.append(brightness(pixels))
            shown.append(contrast(pixels))
    values = np.clip(np.array([scores, peaks, light, shown], np.float32), 0, 1)
    return Readings(len(first), values[0], values[1], values[2], values[3], copies, skipped)
