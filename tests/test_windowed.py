"""A detector that looks at windows too: what it finds, what it leaves out, and whose calibration it takes."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core import Reading
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader
from edge_agent.inference.windowed import WEIGHT, WindowedDetector
from tests.detectors import SynchronousDetector, info

SIDE = 224


class Brightest(SynchronousDetector):
    """Reads how bright a picture's brightest pixel is, and what it was shown: heatmaps as bright as the picture is."""

    info = info("brightest", 8)

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def warm_up(self, batch: int) -> None:
        self.most = batch

    def read(self, images, keep=None):
        self.shown += images
        return [Reading(image.max() / 255, np.full((8, 8), image.mean() / 255, np.float32)) for image in images]


class Told(Brightest):
    """Says these scores, and maps of nothing."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = scores

    def read(self, images, keep=None):
        return [Reading(score, np.zeros((8, 8), np.float32)) for score in self.scores]


@pytest.fixture
def brightest() -> Brightest:
    return Brightest()


def dark(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 51, np.uint8)


def odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize("windows", [2, 3, 5])
def test_windows_half_over_the_next_cover_the_picture(brightest, windows):
    picture = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80, 1).repeat(3, 2)
    WindowedDetector(brightest, windows).read([picture])
    whole, *parts = brightest.shown
    assert np.array_equal(whole, picture)
    assert len(parts) == windows**2
    times = np.bincount(np.concatenate([part[..., 0].ravel() for part in parts]), minlength=60 * 80).reshape(60, 80)
    assert times.min() == times[0, 0] == times[-1, -1] == 1
    assert times[30, 40] == 4
    assert {abs(len(part) - 120 / (windows + 1)) <= 1 for part in parts} == {True}


def test_a_heatmap_lies_where_its_windows_do(brightest):
    picture = dark()
    picture[:15, 60:] = 255  # a quarter of each side
    (reading,) = WindowedDetector(brightest, 3).read([picture])
    assert reading.heatmap.shape == (16, 16)
    assert reading.heatmap.dtype == np.float32
    row, column = np.unravel_index(reading.heatmap.argmax(), reading.heatmap.shape)
    assert row < 4
    assert column >= 12
    whole = picture.mean() / 255
    assert reading.heatmap[-1, 0] == pytest.approx((whole + WEIGHT * 0.2) / (1 + WEIGHT))


def test_a_score_is_the_mean_in_log_odds_of_the_whole_and_the_highest_window():
    (reading,) = WindowedDetector(Told(0.3, 0.1, 0.9, 0.2, 0.4), 2).read([dark()])
    assert odds(reading.score) == pytest.approx((odds(0.3) + WEIGHT * odds(0.9)) / (1 + WEIGHT))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_sure_score_stays_finite_and_in_range(brightest, score):
    (reading,) = WindowedDetector(brightest, 3).read([np.full((60, 80, 3), 255 * score, np.uint8)])
    assert reading.score == pytest.approx(score, abs=1e-5)
    assert reading.heatmap.min() == reading.heatmap.max() == score


def test_a_window_that_cannot_be_scored_is_not_passed_over():
    (reading,) = WindowedDetector(Told(0.3, 0.1, np.nan, 0.2, 0.4), 2).read([dark()])
    assert np.isnan(reading.score)


def test_an_odd_side_is_refused(brightest):
    brightest.info = info("brightest", 9)
    with pytest.raises(CheckpointError, match="brightest reads 9 pixels a side"):
        WindowedDetector(brightest, 2)


@pytest.mark.parametrize(("kept", "windows"), [(100, 9), (51, 6), (26, 3), (1, 3), (0, 0)])
def test_windows_are_read_that_are_kept_by_half(brightest, kept, windows):
    keep = np.zeros((100, 100), bool)
    keep[:, :kept] = True
    WindowedDetector(brightest, 3).read([dark()], [keep])
    assert len(brightest.shown) == 1 + windows


def test_windows_without_anything_kept_are_not_read(brightest):
    keep = np.zeros((100, 100), bool)
    keep[:20, :20] = True
    WindowedDetector(brightest, 3).read([dark(), dark()], [keep, None])
    assert len(brightest.shown) == 2 + 1 + 9  # of the first one only the top left window


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (500, 3)])
def test_a_picture_too_small_to_be_cut_up_is_read_whole(brightest, height, width):
    (reading,) = WindowedDetector(brightest, 3).read([dark(height, width)])
    assert len(brightest.shown) == 1
    assert reading.score == pytest.approx(0.2)
    assert reading.heatmap.shape == (16, 16)


def test_it_is_warmed_up_for_all_windows_of_a_batch(brightest):
    WindowedDetector(brightest, 3).warm_up(4)
    assert brightest.most == 40


def test_the_embedded_model_reads_windows_and_leaves_out_what_is_not_kept():
    loader = Loader()
    whole = loader.detector(device="cpu")
    near = loader.arranged(whole, 3)
    assert loader.arranged(whole, 3) is near
    assert loader.arranged(whole, squares=False) is whole
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal(128, 4, (448, 448, 3)), 0, 255).astype(np.uint8)
    scratched = picture.copy()
    scratched[300:303, 280:330] = 20
    keep = np.ones((448, 448), bool)
    keep[224:] = False
    plain, marked, blind, blind_plain = near.read([picture, scratched, scratched, picture], [None, None, keep, keep])
    assert marked.score > plain.score
    assert marked.heatmap.shape == (2 * SIDE, 2 * SIDE)
    row, column = np.unravel_index(marked.heatmap.argmax(), marked.heatmap.shape)
    assert abs(row - 301) < 24
    assert abs(column - 305) < 40
    assert not blind.heatmap[225:].any()
    assert blind_plain.heatmap[:220].any()
