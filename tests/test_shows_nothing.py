"""A picture of one colour, as with the lamp off, is never OK; a plain part is, once the station is calibrated with such parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.damage import SAMPLES
from edge_agent.core import Evaluation, Frame, Reading, Verdict
from edge_agent.line.calibration import LEAST_CONTRAST, Calibration, least_contrast
from edge_agent.line.contrast import contrast, contrast_below
from edge_agent.line.inspect import Station, inspect
from edge_agent.line.judge import Rules
from tests.detectors import SynchronousDetector, info
from tests.line import TRACE

chance = np.random.default_rng(4)
SHAPE = (200, 300, 3)
BLANK = {
    "black": np.zeros(SHAPE, np.uint8),
    "white": np.full(SHAPE, 255, np.uint8),
    "gray": np.full(SHAPE, 128, np.uint8),
    "green": np.broadcast_to(np.uint8((0, 135, 0)), SHAPE),
    "noise in the dark": chance.normal(3, 4, SHAPE).clip(0, 255).astype(np.uint8),
    "noise in the dark of a small sensor": chance.normal(3, 3, (96, 128, 3)).clip(0, 255).astype(np.uint8),
}


class Finds(SynchronousDetector):
    """A detector that finds the same in every picture."""

    info = info("finds")

    def __init__(self, score: float) -> None:
        self._reading = Reading(score, np.full((14, 14), score, np.float32))

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        return [self._reading] * len(images)


def verdict(pixels: np.ndarray, least: float, score: float = 0.1) -> Verdict:
    station = Station("cam1", Finds(score), Rules(0.5, least_contrast=least), TRACE)
    return inspect([Frame("cam1", 0, datetime.now(timezone.utc), pixels)], {"cam1": station}, {})[0].verdict


def calibrated(lowest_contrast: float | None) -> Calibration:
    return Calibration.model_validate(
        {
            "schema": "edge-agent/calibration/1", "id": "c1", "threshold": 0.5, "false_alarm_rate": 0.05,
            "good_pictures": 100, "model_sha256": "a" * 64, "checkpoint_sha256": "b" * 64,
            "created": datetime.now(timezone.utc), "lowest_contrast": lowest_contrast,
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", BLANK)
def test_a_picture_of_one_colour_is_not_decidable(name: str) -> None:
    found = verdict(BLANK[name], least_contrast(None))
    assert found.evaluation is Evaluation.NOT_DECIDABLE
    assert found.reason is not None
    assert "the picture shows nothing: it is RGB (" in found.reason


def test_the_reason_says_the_colour_and_what_to_do() -> None:
    assert verdict(BLANK["green"], LEAST_CONTRAST).reason == (
        "the picture shows nothing: it is RGB (0, 135, 0) all over, with a contrast of 0 of 255: check lamp, lens cap, "
        "exposure and cable; if good parts look so, calibrate with pictures of them"
    )


def test_what_the_detector_finds_in_a_plain_picture_counts() -> None:
    assert verdict(BLANK["white"], LEAST_CONTRAST, score=0.9).evaluation is Evaluation.NOT_OK


def test_the_shipped_pictures_show_something_even_when_it_is_rather_dark() -> None:
    for path in SAMPLES.glob("*.jpg"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        for darker in (1, 2):
            assert verdict(pixels // darker, least_contrast(None)).evaluation is Evaluation.OK, path.name


def test_a_plain_part_is_ok_once_the_station_is_calibrated_with_such_parts() -> None:
    shade = np.linspace(0, 2, 300)[None, :, None]
    sheet = (np.full(SHAPE, 230.0) + shade + chance.normal(0, 2, SHAPE)).clip(0, 255).astype(np.uint8)
    assert contrast(sheet) < LEAST_CONTRAST
    assert verdict(sheet, least_contrast(calibrated(None))).evaluation is Evaluation.NOT_DECIDABLE
    calibration = calibrated(contrast(sheet))
    assert verdict(sheet, least_contrast(calibration)).evaluation is Evaluation.OK
    assert verdict(BLANK["black"], least_contrast(calibration)).evaluation is Evaluation.NOT_DECIDABLE


def test_a_calibration_with_structured_parts_asks_for_no_more_contrast_than_none_does() -> None:
    assert least_contrast(calibrated(0.3)) == least_contrast(None) == LEAST_CONTRAST


@pytest.mark.parametrize("levels", [0, 1, 2, 4, 60])
def test_a_look_at_some_rows_decides_as_a_look_at_all_does(levels: int) -> None:
    random = np.random.default_rng(levels)
    pixels = cv2.resize(
        random.integers(0, levels + 1, (6, 9, 3), np.uint8), (1200, 900), interpolation=cv2.INTER_NEAREST
    )
    for noise in (0.0, 3.0):
        noisy = np.clip(pixels + random.normal(40, noise, pixels.shape), 0, 255).astype(np.uint8)
        below = contrast_below(noisy, LEAST_CONTRAST)
        assert below == (contrast(noisy) if contrast(noisy) < LEAST_CONTRAST else None)
