"""Run one case of line_speed.py with whatever edge_agent is on the path: FOLDER EVERY RATE SECONDS."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from edge_agent import build
from edge_agent.config.evidence import EvidenceConfig
from edge_agent.core import (
    DetectorInfo,
    Evidence,
    Frame,
    Inspection,
    Message,
    Reading,
    SourceCounts,
    SourceStatus,
    Trace,
)
from edge_agent.journal.journal import Journal
from edge_agent.line.calibration import LEAST_CONTRAST
from edge_agent.line.inspect import Station
from edge_agent.line.judge import Rules
from edge_agent.line.line import Line
from edge_agent.mqtt.messages import alarm_message, result_message

PICTURES = 6  # of each kind; more would only take memory
NOISE = 2.0  # of a camera's sensor, in levels
SAMPLE = sorted((Path(build.__file__).parent / "samples").glob("*.jpg"))[0]
Pixels = np.ndarray


def pictures() -> tuple[list[Pixels], list[Pixels]]:
    """Return pictures that the detector finds nothing in, and others: the first sample tells."""
    random = np.random.default_rng(0)
    sample = cv2.resize(cv2.imread(str(SAMPLE)), (1920, 1200), interpolation=cv2.INTER_CUBIC)
    made = [
        np.clip(sample + random.standard_normal(sample.shape, np.float32) * NOISE, 0, 255).astype(np.uint8)
        for _ in range(PICTURES)
    ]
    bad = [one.copy() for one in made]
    for one in made:
        one[0, 0] = 0
    for one in bad:
        one[0, 0] = 255
    return made, bad


class Detector:
    """Costs nothing: it looks at one sample."""

    info = DetectorInfo("sample/none", "0" * 64, "1" * 64, 512, "cpu", 0.5, 0.5)
    overlaps = False

    def __init__(self) -> None:
        heatmap = np.zeros((37, 37), np.float32)
        self._good = Reading(0.1, heatmap)
        heatmap = cv2.GaussianBlur(np.pad(np.ones((4, 5), np.float32), ((10, 23), (12, 20))), (7, 7), 1.5)
        self._bad = Reading(0.9, heatmap)

    def read(self, images: Sequence[Pixels], keep: Sequence[Pixels | None] | None = None) -> list[Reading]:
        return [self._bad if image[0, 0, 0] else self._good for image in images]

    def start(
        self, images: Sequence[Pixels], keep: Sequence[Pixels | None] | None = None
    ) -> Callable[[], list[Reading]]:
        readings = self.read(images, keep)
        return lambda: readings

    def warm_up(self, batch: int) -> None:
        pass


class Source:
    """Gives frames for a while: as many as are taken, or so many a second."""

    station, live = "cam1", False

    def __init__(self, every: int, rate: float, seconds: float) -> None:
        self._every, self._rate, self._seconds = every, rate, seconds
        self._good, self._bad = pictures()
        self.given: list[float] = []  # when
        self.has_ended = threading.Event()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        begun = time.perf_counter()
        for seq in count():
            if self._rate:
                time.sleep(max(0.0, begun + seq / self._rate - time.perf_counter()))
            if stop.is_set() or time.perf_counter() > begun + self._seconds:
                break
            kind = self._bad if self._every and seq % self._every == 0 else self._good
            self.given.append(time.perf_counter())
            yield Frame(self.station, seq, datetime.now(timezone.utc), kind[seq % PICTURES], part_id=f"SN{seq:08}")
        self.has_ended.set()

    def counts(self) -> SourceCounts:
        return SourceCounts()

    def status(self) -> SourceStatus:
        return SourceStatus(True)


class Watcher:
    """An observer: when each verdict was first told, and how many inspections were completed."""

    def __init__(self) -> None:
        self.told: dict[int, float] = {}
        self.completed = 0

    def judged(self, inspection: Inspection) -> None:
        self.told.setdefault(inspection.frame.seq, time.perf_counter())

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        self.judged(inspection)
        self.completed += 1


def messages(inspection: Inspection, evidence: Evidence) -> list[Message]:
    """Return what an agent tells that has `results: true`."""
    alarm = alarm_message(inspection, evidence)
    return [*([alarm] if alarm else []), result_message(inspection, evidence)]


def main() -> None:
    """Print the figures as JSON."""
    folder, every, rate, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    trace = Trace("sample/none", "0" * 64, "1" * 64, None, "2" * 64)
    station = Station("cam1", Detector(), Rules(0.5, least_contrast=LEAST_CONTRAST), trace)
    source, watcher, stop = Source(every, rate, seconds), Watcher(), threading.Event()
    journal = Journal.open(f"sqlite:///{folder / 'journal.db'}")
    store = build.evidence_store(EvidenceConfig(folder=folder / "evidence"))
    line = Line([source], {"cam1": station}, store, journal, messages, [watcher])

    def end() -> None:
        source.has_ended.wait()
        stop.set()

    threading.Thread(target=end).start()
    worked, begun = time.process_time(), time.perf_counter()
    line.run(stop)
    took, worked = time.perf_counter() - begun, time.process_time() - worked
    journal.close()
    number = watcher.completed
    waited = np.array([watcher.told[seq] - source.given[seq] for seq in range(number)]) * 1e3
    kept = [path for path in (folder / "evidence").rglob("*") if path.is_file()]
    figures = {
        "pictures": number,
        "a_second": number / took,
        "processor_ms": worked / number * 1e3,
        "verdict_ms_median": float(np.median(waited)),
        "verdict_ms_p99": float(np.percentile(waited, 99)),
        "highest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "kept_mb": sum(path.stat().st_size for path in kept) / 1e6,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
