"""Drift: light that fades and a camera that was knocked are told; pictures that stay as they were never are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_agent.core import Evidence, Frame, Inspection, Reading
from edge_agent.health import drift
from edge_agent.health.drift import WINDOW, DriftWatch
from edge_agent.inference.load import load_detector
from edge_agent.line.calibration import QUANTILES, Calibration, brightness
from edge_agent.line.inspect import Station, inspect
from edge_agent.line.judge import Rules
from edge_agent.mqtt.messages import schema
from tests.agent import Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.detectors import SynchronousDetector, info
from tests.mosquitto import Listener, Mosquitto, free_port
from tests.test_health import get, samples
from tests.test_pipeline import TRACE

Change = Callable[[np.ndarray], np.ndarray]
GOOD = 100  # pictures of the calibration


class Template(SynchronousDetector):
    """A detector that can be checked by hand: the score is how far a picture is from the one it knows, on average."""

    info = info(TRACE.model)

    def __init__(self, known: np.ndarray) -> None:
        self._known = known.astype(np.float32)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        maps = [np.abs(image.astype(np.float32) - self._known).mean(axis=2) / 255 for image in images]
        return [Reading(float(one.mean() * 4), one) for one in maps]


class Line:
    """A station with a part under a lamp that flickers a little and a sensor with noise; all by a seed."""

    def __init__(self, seed: int = 0, good: int = GOOD) -> None:
        self._random = np.random.default_rng(seed)
        y, x = np.mgrid[:48, :64]
        self._part = np.dstack([np.where(((x // 8) + (y // 8)) % 2, 200, 60)] * 3).astype(np.float32)
        self._station = {"cam1": Station("cam1", Template(self._part), Rules(0.9), TRACE)}
        self._alarms: dict[str, object] = {}
        self.told: list[tuple[str, ...]] = []
        self.watch = DriftWatch(lambda station, drifted: self.told.append(drifted))
        seen = [self._look(self.picture()) for _ in range(good)]
        self.watch.expect({"cam1": calibration(seen)})

    def picture(self, change: Change = lambda pixels: pixels) -> np.ndarray:
        lit = self._part * self._random.normal(1.0, 0.02) + self._random.normal(0, 4, self._part.shape)
        return change(np.clip(lit, 0, 255).astype(np.uint8))

    def _look(self, pixels: np.ndarray) -> Inspection:
        frame = Frame("cam1", 0, datetime.now(timezone.utc), pixels)
        return inspect([frame], self._station, self._alarms)[0]  # type: ignore[arg-type]

    def run(self, count: int, change: Change = lambda pixels: pixels) -> None:
        for _ in range(count):
            self.see(self._look(self.picture(change)))

    def see(self, inspection: Inspection) -> None:
        self.watch.write(inspection, Evidence())
        self.watch.look()


def calibration(seen: Sequence[Inspection]) -> Calibration:
    """As `trainer calibrate` writes it, of good pictures that were inspected."""
    scores = [one.reading.score for one in seen if one.reading]
    light = [brightness(one.frame.pixels) for one in seen]
    quantiles = {
        key: dict(zip(map(str, QUANTILES), map(float, np.percentile(values, QUANTILES)), strict=True))
        for key, values in (("score_quantiles", scores), ("brightness_quantiles", light))
    }
    content = {
        "schema": "edge-agent/calibration/1", "id": "c1", "threshold": 1.0, "false_alarm_rate": 0.01,
        "good_pictures": len(seen), "model_sha256": seen[0].trace.model_sha256,
        "checkpoint_sha256": seen[0].trace.checkpoint_sha256, "created": "2026-11-20T08:00:00Z", **quantiles,
    }  # fmt: skip
    return Calibration.model_validate_json(json.dumps(content))


def darker(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 0.8).astype(np.uint8)


def knocked(pixels: np.ndarray) -> np.ndarray:
    return np.roll(pixels, 5, axis=1)


def test_light_that_fades_by_a_fifth_is_told_and_told_to_be_over() -> None:
    line = Line()
    line.run(2 * WINDOW)
    assert line.told == []
    line.run(WINDOW, darker)
    assert "brightness" in line.told[-1]
    line.run(2 * WINDOW)
    assert line.told[-1] == ()


def test_a_camera_that_was_knocked_by_five_pixels_is_told_by_its_scores_alone() -> None:
    line = Line()
    line.run(WINDOW)
    line.run(WINDOW, knocked)
    assert line.told == [("score",)]


def test_a_station_whose_calibration_changes_begins_anew_and_those_before_and_after_it_go_on() -> None:
    one, other = (calibration([Line(seed)._look(Line(seed).picture())] * 2) for seed in (0, 1))
    watch = DriftWatch()
    watch.expect(dict.fromkeys(("cam1", "cam2", "cam3"), one))
    before = dict(watch.windows)
    watch.expect({"cam1": one, "cam2": other, "cam3": one})
    assert watch.windows["cam1"] is before["cam1"]
    assert watch.windows["cam2"] is not before["cam2"]
    assert watch.windows["cam2"]["score"]._quantiles[50] == other.score_quantiles["50"] != one.score_quantiles["50"]
    assert watch.windows["cam3"] is before["cam3"]


@pytest.mark.parametrize(("lower", "drifts"), [(139, False), (141, True)])
def test_a_fifth_of_the_pictures_has_to_have_moved_however_sure_it_is_that_fewer_have(lower: int, drifts: bool) -> None:
    window = drift.Window({"50": 0.5}, good=10**6, slack=0.0)
    for number in range(WINDOW):
        window.add(0.4 if number < lower else 0.6)
    assert window.look() is drifts
    assert window.drift is not None
    assert (window.drift.sigmas > 5) is drifts


def test_a_drift_is_told_before_half_a_window_has_passed() -> None:
    line = Line()
    line.run(WINDOW)
    line.run(WINDOW // 2, darker)
    assert line.told


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("good", [20, GOOD])
def test_a_long_replay_of_pictures_that_stay_the_same_is_silent(seed: int, good: int) -> None:
    line = Line(seed, good)
    line.run(15 * WINDOW)
    assert line.told == []
    assert all(window.drift for window in line.watch.windows["cam1"].values())  # it has looked


def test_pictures_that_are_all_alike_are_no_drift_and_a_grey_level_is_none() -> None:
    line = Line()
    same = line.picture()
    seen = [line._look(same)] * GOOD
    line.watch.expect({"cam1": calibration(seen)})
    for _ in range(WINDOW):
        line.see(line._look(same))
    for _ in range(WINDOW):
        line.see(line._look(np.maximum(same, 1) - 1))
    assert line.told == []


def test_defects_now_and_then_are_no_drift() -> None:
    line = Line()
    line.run(WINDOW)
    for number in range(2 * WINDOW):
        line.run(1, knocked if number % 20 == 0 else lambda pixels: pixels)
    assert line.told == []


def test_a_station_without_quantiles_is_left_alone_and_a_new_calibration_begins_anew() -> None:
    line = Line()
    line.watch.expect({"cam1": None})
    line.run(2 * WINDOW, darker)
    assert line.told == []
    seen = [line._look(line.picture(darker)) for _ in range(GOOD)]
    line.watch.expect({"cam1": calibration(seen)})
    line.run(2 * WINDOW, darker)
    assert line.told == []
    line.run(WINDOW)
    assert line.told
    line.watch.expect({"cam1": None})
    assert line.told[-1] == ()


def small_windows() -> None:
    drift.WINDOW = 20


def test_the_agent_logs_it_measures_it_and_tells_it_in_the_stations_state(tmp_path: Path) -> None:
    """A calibration that no picture fits stands for a long drift, and a small window for a long wait."""
    detector, port = load_detector(), free_port()
    content = {
        "schema": "edge-agent/calibration/1", "id": "c1", "threshold": 1.0, "false_alarm_rate": 0.01,
        "good_pictures": 10_000, "model_sha256": detector.info.model_sha256, "checkpoint_sha256": detector.info.checkpoint_sha256,
        "created": "2026-11-20T08:00:00Z", "brightness_quantiles": dict.fromkeys(map(str, QUANTILES), 0.99),
    }  # fmt: skip
    (tmp_path / "c1.json").write_text(json.dumps(content))
    cam1 = station("cam1", calibration="c1.json")
    del cam1["threshold"]
    for number in range(20):
        part(tmp_path / "cam1" / f"{number}.png", number)
    with Mosquitto(tmp_path) as broker, Listener(broker) as listener:
        config = write_config(tmp_path, cam1, broker=broker, health={"port": port})
        with Daemon(config, before=small_windows) as daemon:
            daemon.until("the brightness of its last 20 pictures is no longer what it was calibrated with")
            wait_until(lambda: listener.payloads("state")[-1]["drift"] == ["brightness"], "it is told")
            assert samples(get(port, "/metrics")[1])["drift", "brightness", "cam1"] == 1
            daemon.stop()
        for payload in listener.payloads("state"):
            jsonschema.validate(payload, schema("state"))


def test_how_sure_a_drift_is_rests_on_the_pictures_of_the_calibration_too() -> None:
    few, many = (drift.Window({"50": 0.5}, good, slack=0.0) for good in (20, 20_000))
    for window in (few, many):
        for number in range(WINDOW):
            window.add(0.4 if number < 0.75 * WINDOW else 0.6)  # three in four lie below the median of before
        window.look()
    assert few.drift is not None
    assert many.drift is not None
    assert many.drift.sigmas == pytest.approx(0.25 / (0.25 * (1 / WINDOW + 1 / 20_000)) ** 0.5)
    assert few.drift.sigmas == pytest.approx(0.25 / (0.25 * (1 / WINDOW + 1 / 20)) ** 0.5)
    assert not few.active, "of 20 good pictures that may be chance"
    assert many.active
