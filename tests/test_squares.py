"""An elongated picture is read in squares: where they lie, what they find, and what becomes of their maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.core import Evidence, Reading
from edge_agent.health.squeezed import SqueezedPictures
from edge_agent.inference.load import load_detector
from edge_agent.inference.squares import SquaresDetector, squares
from tests.detectors import SynchronousDetector, info
from tests.line import inspected


def test_a_station_that_squeezes_elongated_pictures_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = SqueezedPictures()
    watch.expect({"cam1"})
    for station, shape in (("cam2", (32, 96)), ("cam1", (32, 47)), ("cam1", (32, 96)), ("cam1", (96, 32))):
        watch.write(inspected(station=station, pixels=np.zeros((*shape, 3), np.uint8)), Evidence())
    assert caplog.messages == [
        "station cam1: a picture of 96 x 32 pixels is squeezed into a square, which hides small defects: set detector: "
        "{squares: true} and calibrate again"
    ]


class Brightest(SynchronousDetector):
    """Reads how bright the brightest pixel is, with a map of 8 x 8 cells that shows where."""

    info = info("brightest", 8)

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def read(self, images, keep=None):
        self.shown += [image.shape[:2] for image in images]
        found = []
        for at, image in enumerate(images):
            rows, columns = (side // 8 for side in image.shape[:2])
            cells = image[: rows * 8, : columns * 8, 0].reshape(8, rows, 8, columns).max(axis=(1, 3)) / 255
            if keep is not None and keep[at] is not None:
                cells = cells * keep[at].any()
            found.append(Reading(float(cells.max()), cells.astype(np.float32)))
        return found


@pytest.mark.parametrize(
    ("shape", "places"),
    [
        ((64, 64), [(0, 64, 0, 64)]),
        ((64, 95), [(0, 64, 0, 95)]),  # not elongated: squeezed, as it always was
        ((64, 96), [(0, 64, 0, 64), (0, 64, 32, 96)]),
        ((128, 64), [(0, 64, 0, 64), (64, 128, 0, 64)]),
        ((64, 160), [(0, 64, 0, 64), (0, 64, 48, 112), (0, 64, 96, 160)]),
    ],
)
def test_squares_have_the_shorter_side_and_cover_the_picture_evenly(shape, places):
    assert squares(shape) == places


def test_a_strip_without_end_is_squeezed_into_so_many_squares_that_they_still_cover_it():
    places = squares((4, 10_000))
    assert len(places) == 64
    assert places[0][2] == 0
    assert places[-1][3] == 10_000
    assert all(after[2] <= before[3] for before, after in itertools.pairwise(places))


def test_one_bright_spot_on_a_long_strip_gives_the_score_and_shows_on_the_map_where_it_is():
    strip = np.zeros((32, 320, 3), np.uint8)
    strip[4:8, 240:244] = 255
    detector = Brightest()
    (reading,) = SquaresDetector(detector).read([strip])
    assert detector.shown == [(32, 32)] * 10
    assert reading.score == 1
    assert reading.heatmap.shape == (8, 80)
    assert np.argwhere(reading.heatmap == 1).tolist() == [[1, 60]]


def test_pictures_of_several_shapes_are_read_in_one_batch_each_with_its_own_reading():
    batch = [
        np.full((32, 32, 3), 51, np.uint8),
        np.full((96, 32, 3), 102, np.uint8),
        np.full((32, 32, 3), 153, np.uint8),
    ]
    readings = SquaresDetector(Brightest()).read(batch)
    assert [round(one.score, 3) for one in readings] == [0.2, 0.4, 0.6]
    assert [one.heatmap.shape for one in readings] == [(8, 8), (24, 8), (8, 8)]


def test_squares_of_which_nothing_is_kept_are_not_read():
    detector = Brightest()
    keep = np.zeros((10, 100), bool)
    keep[:, 55:60] = True
    (reading,) = SquaresDetector(detector).read([np.full((32, 320, 3), 255, np.uint8)], [keep])
    assert len(detector.shown) == 1
    assert reading.heatmap[:, :40].max() == 0


def test_a_strip_that_is_masked_as_a_whole_scores_nothing():
    (reading,) = SquaresDetector(Brightest()).read([np.full((32, 96, 3), 255, np.uint8)], [np.zeros((4, 12), bool)])
    assert reading.score == 0


def test_a_detector_that_is_loaded_by_name_reads_strips_in_squares():
    detector = load_detector(device="cpu")
    assert detector.info.squares
    square = np.random.default_rng(1).integers(90, 110, (64, 64, 3), np.uint8)
    (whole,), (one,) = detector.read([np.tile(square, (1, 3, 1))]), detector.read([square])
    assert whole.score == pytest.approx(one.score, abs=1e-5)
    assert whole.heatmap.shape == (224, 672)
