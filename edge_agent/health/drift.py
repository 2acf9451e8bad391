"""Whether a station's pictures still are what it was calibrated with: a sink that compares, and decides no verdict.

Of the last pictures, the share that lies below each quantile of the calibration's good pictures should be that quantile.
How far it may be off by chance follows from how many pictures there are on both sides. Light that fades, a camera that was
knocked, a lens that gets dirty move the shares for good; a defect now and then does not.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from threading import Lock

from edge_agent.core import Evidence, Inspection
from edge_agent.line.calibration import Calibration, brightness

log = logging.getLogger(__name__)

WINDOW = 200  # pictures that are compared
EVERY = 10  # pictures between two looks
LOOKED_AT = (5, 25, 50, 75, 95)  # percent; the outermost rest on too few pictures
RAISE, CLEAR = 5.0, 3.0  # standard deviations: 5 are by chance once in a million looks; between the two nothing changes
MOVED = 0.2  # of the pictures, at least: few pictures that come again and again, in turns, look surer than they are
SLACK = {"score": 0.005, "brightness": 0.004}  # changes that are none: less than this, or than one grey level


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a quantity has moved. sigmas: in standard deviations of chance; median, expected: of the pictures, then and now."""

    sigmas: float
    median: float
    expected: float


class Window:
    """The last WINDOW values of one quantity, held against the quantiles of `good` pictures.

    quantiles: by their names in percent, as in a calibration. slack: differences that count as none.
    """

    def __init__(self, quantiles: Mapping[str, float], good: int, slack: float) -> None:
        """Compare with the quantiles of a calibration.

        Args:
            quantiles: values by their names in percent.
            good: pictures that the calibration was made of.
            slack: differences that count as none, in units of the quantity.
        """
        self._quantiles = {percent: quantiles[str(percent)] for percent in LOOKED_AT if str(percent) in quantiles}
        self._good, self._slack = good, slack
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self.active = False
        self.drift: Drift | None = None  # None until the window is full

    def add(self, value: float) -> None:
        if len(self._values) == WINDOW:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        self._values.append(value)
        insort(self._sorted, value)

    @property
    def is_full(self) -> bool:
        """Whether there are enough values to compare."""
        return len(self._values) >= WINDOW

    def look(self) -> bool:
        """Compare, and say whether that began or ended a drift."""
        if not self.is_full or not self._quantiles:
            return False
        sigmas = max(self._sigmas(percent / 100, value) for percent, value in self._quantiles.items())
        self.drift = Drift(sigmas, self._sorted[WINDOW // 2], self._quantiles.get(50, 0.0))
        before = self.active
        self.active = sigmas > (CLEAR if before else RAISE)
        return self.active != before

    def _sigmas(self, share: float, value: float) -> float:
        """How surely more or fewer than `share` of the values lie below `value`; within the slack they may be either."""
        fewest = bisect_left(self._sorted, value - self._slack) / WINDOW
        most = bisect_right(self._sorted, value + self._slack) / WINDOW
        moved = max(fewest - share, share - most)
        if moved < (MOVED / 2 if self.active else MOVED):
            return 0.0
        return moved / sqrt(share * (1 - share) * (1 / WINDOW + 1 / self._good))


class DriftWatch:
    """An observer of the line; look() is a periodic task.

    windows: by station, by quantity; stations whose calibration holds no quantiles have none.
    """

    def __init__(self, on_change: Callable[[str, tuple[str, ...]], None] = lambda station, drifted: None) -> None:
        """on_change: called with each station whose drift begins, changes or ends, and all quantities that drift there."""
        self._on_change = on_change
        self._calibrations: dict[str, Calibration | None] = {}
        self._new: dict[str, int] = {}  # pictures since the last look
        self._lock = Lock()  # pictures come by one thread, looks by another
        self.windows: dict[str, dict[str, Window]] = {}

    def expect(self, calibrations: Mapping[str, Calibration | None]) -> None:
        """Compare with these from now on; a station begins anew where its calibration is another."""
        with self._lock:
            for station, calibration in calibrations.items():
                if self._calibrations.get(station) == calibration:
                    continue
                if any(window.active for window in self.windows.get(station, {}).values()):
                    self._on_change(station, ())
                self._calibrations[station] = calibration
                self.windows[station], self._new[station] = _windows(calibration), 0

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        station, reading = inspection.frame.station, inspection.reading
        windows = self.windows.get(station)
        if not windows or reading is None:
            return
        values = {"score": float(reading.score)} if "score" in windows else {}
        if "brightness" in windows:
            values["brightness"] = brightness(inspection.frame.pixels)
        with self._lock:
            for quantity, value in values.items():
                windows[quantity].add(value)
            self._new[station] += 1

    def look(self) -> bool:
        """Compare the stations that have had EVERY new pictures, and report those whose drift changed; a periodic task."""
        with self._lock:
            for station, windows in self.windows.items():
                if self._new[station] >= EVERY and any(window.is_full for window in windows.values()):
                    self._new[station] = 0
                    self._compare(station, windows)
        return False

    def _compare(self, station: str, windows: Mapping[str, Window]) -> None:
        changed = [quantity for quantity, window in windows.items() if window.look()]
        for quantity in changed:
            _log(station, quantity, windows[quantity])
        if changed:
            self._on_change(station, tuple(quantity for quantity, window in windows.items() if window.active))


def _windows(calibration: Calibration | None) -> dict[str, Window]:
    if calibration is None:
        return {}
    found = {"score": calibration.score_quantiles, "brightness": calibration.brightness_quantiles}
    good = calibration.good_pictures
    return {quantity: Window(of, good, SLACK[quantity]) for quantity, of in found.items() if of}


def _log(station: str, quantity: str, window: Window) -> None:
    drift = window.drift
    if drift is None or not window.active:
        log.warning("station %s: the %s of its pictures is as calibrated again", station, quantity)
        return
    log.warning(
        "station %s: the %s of its last %d pictures is no longer what it was calibrated with (median %.3f, then %.3f): "
        "look at light, lens and camera, or calibrate again",
        station, quantity, WINDOW, drift.median, drift.expected,
    )  # fmt: skip
