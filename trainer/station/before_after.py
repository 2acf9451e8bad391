"""The same pictures inspected by two stations, side by side: before its good parts were shown, and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from edge_agent import build
from edge_agent.config.station import StationConfig
from edge_agent.core import Evaluation, Frame, Inspection
from edge_agent.errors import PictureError
from edge_agent.evidence.overlay import overlay
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import MIN_SIDE, decode
from edge_agent.line.inspect import inspect
from edge_agent.line.judge import AlarmState
from trainer.data.examples import Skipped
from trainer.io.files import write_whole

SHEET = "before-after.jpg"
WIDE = 480  # pixels of each picture on the sheet
COLUMNS = 2  # pictures in a row of the sheet, each twice
MOST = 60  # pictures on the sheet
TAKEN_AT = datetime(2000, 1, 1, tzinfo=timezone.utc)  # of pictures whose time says nothing


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One picture and what is said of it before and after."""

    path: Path
    before: Inspection
    after: Inspection

    @property
    def verdicts(self) -> tuple[Evaluation, Evaluation]:
        """What is said before, and after."""
        return self.before.verdict.evaluation, self.after.verdict.evaluation


def as_shipped(name: str, class_name: str, folder: Path) -> StationConfig:
    """Return a station that no good part was shown to.

    Args:
        name: of the station.
        class_name: what its pictures show.
        folder: of its config.
    """
    section = {"name": name, "source": {"folder": "incoming"}, "detector": {"class_name": class_name}}
    return StationConfig.model_validate(section, context={"folder": folder.absolute()})


def compared(
    paths: Sequence[Path], before: StationConfig, after: StationConfig, loader: Loader, skipped: list[Skipped]
) -> list[Pair]:
    """Inspect pictures with two stations.

    Args:
        paths: of the pictures.
        before: the one station.
        after: the other.
        loader: loads their detectors.
        skipped: pictures that cannot be read are added to it.

    Raises EdgeAgentError.
    """
    stations = [build.station(one, loader, "") for one in (before, after)]
    pairs = []
    for number, path in enumerate(paths):
        try:
            pixels = decode(path, min_side=MIN_SIDE)
        except PictureError as error:
            skipped.append(Skipped.by(error, path))
            continue
        first, second = (
            inspect([Frame(one.name, number, TAKEN_AT, pixels)], {one.name: one}, {one.name: AlarmState()})[0]
            for one in stations
        )
        pairs.append(Pair(path, first, second))
    return pairs


def write_sheet(pairs: Sequence[Pair], file: Path) -> None:
    """Draw the first MOST pictures, each before and after. Raises EdgeAgentError."""
    drawn = [np.hstack([_drawn(pair, "before"), _drawn(pair, "after")]) for pair in pairs[:MOST]]
    high, wide = (max(one.shape[axis] for one in drawn) for axis in (0, 1))
    cells = [
        cv2.copyMakeBorder(one, 0, high - len(one) + 8, 0, wide - one.shape[1] + 8, cv2.BORDER_CONSTANT)
        for one in drawn
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % COLUMNS)
    sheet = np.vstack([np.hstack(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    write_whole(file, data.tobytes())


def _drawn(pair: Pair, when: str) -> np.ndarray:
    one = pair.before if when == "before" else pair.after
    picture = overlay(
        one.frame.pixels,
        one.reading,
        one.verdict,
        threshold=one.threshold,
        map_threshold=one.map_threshold,
        title=f"{when}: {pair.path.name}",
    )
    return cv2.resize(picture, (WIDE, round(len(picture) * WIDE / picture.shape[1])), interpolation=cv2.INTER_AREA)
