"""Run a camera three times as fast as the detector, and then a slower disk: the age of frames, and what became of each.

Run: python -m benchmarks.faults.overload [--seconds 30]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np

from benchmarks.faults.agent import AllBad, station
from benchmarks.faults.results import tell
from edge_agent.core import Evidence, Frame, Inspection, Reading, Record
from edge_agent.line.line import Line

# In the inbox, being read, behind the detector and with the writer (as many as a batch has), and one on its way between two.
MOST_WAITING = 1 + 1 + 8 + 8 + 1
MUST_BE_NONE = ("samples_with_fewer_or_more_waiting_than_may", "unaccounted_in_the_end", "recorded_out_of_order")


@dataclass
class Slow(AllBad):
    """A detector that takes so long for a picture. reads: how many pictures it has read."""

    read_s: float
    reads: int = 0

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        time.sleep(self.read_s * len(images))
        self.reads += len(images)
        return super().read(images, keep)


@dataclass
class Fast:
    """A live core.Source that gives a frame every so often. came: per frame, when (monotonic) and after how many reads."""

    every_s: float
    detector: Slow
    station: str = "cam1"
    live: bool = True
    came: list[tuple[float, int]] = field(default_factory=list)

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        pixels = np.zeros((16, 16, 3), np.uint8)
        due = time.monotonic()
        while not stop.is_set():
            self.came.append((time.monotonic(), self.detector.reads))
            yield Frame(self.station, len(self.came) - 1, datetime.now(timezone.utc), pixels)
            due = max(due + self.every_s, time.monotonic() - self.every_s)
            time.sleep(max(due - time.monotonic(), 0.0))


@dataclass
class Told:
    """Keeper and journal that take so long for an inspection, and note how old each frame has become."""

    write_s: float
    source: Fast
    seqs: list[int] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    ages_reads: list[int] = field(default_factory=list)

    def wants(self, inspection: Inspection) -> bool:
        return False

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        return Evidence()

    def commit(self, records: Sequence[Record]) -> list[bool]:
        time.sleep(self.write_s * len(records))
        for inspection in (one.inspection for one in records):
            came_at, reads = self.source.came[inspection.frame.seq]
            self.seqs.append(inspection.frame.seq)
            self.ages_s.append(time.monotonic() - came_at)
            self.ages_reads.append(self.source.detector.reads - reads)
        return [True] * len(records)


def soak(seconds: float, *, read_s: float = 0.05, write_s: float = 0.0, times: float = 3.0) -> dict[str, float]:
    """The counts and ages of a camera `times` as fast as the detector."""
    detector = Slow(read_s)
    source = Fast(read_s / times, detector)
    told = Told(write_s, source)
    line = Line([source], {"cam1": station("cam1", detector)}, told, told, lambda *_: [], [])
    stop = threading.Event()
    thread = threading.Thread(target=line.run, args=(stop,))
    thread.start()
    until, samples, wrong = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        samples += 1
        least, most = _waiting(line)
        wrong += most < 0 or least > MOST_WAITING
        time.sleep(0.001)
    stop.set()
    thread.join()
    ages_ms = sorted(1e3 * age for age in told.ages_s)
    return {
        "seconds": seconds,
        "detector_ms": 1e3 * read_s,
        "writer_ms": 1e3 * write_s,
        "captured": line.inbox.captured["cam1"],
        "inspected": line.counts.inspected,
        "dropped": sum(line.inbox.dropped.values()) + sum(line.counts.dropped.values()),
        "unaccounted_in_the_end": _waiting(line)[0],
        "samples": samples,
        "samples_with_fewer_or_more_waiting_than_may": wrong,
        "recorded_out_of_order": sum(b <= a for a, b in zip(told.seqs, told.seqs[1:], strict=False)),
        "age_ms_median": round(statistics.median(ages_ms), 1),
        "age_ms_p99": round(ages_ms[int(0.99 * len(ages_ms))], 1),
        "age_ms_highest": round(ages_ms[-1], 1),
        "age_in_pictures_read_highest": max(told.ages_reads),
    }


def _waiting(line: Line) -> tuple[int, int]:
    """captured - dropped - inspected at one moment, between two bounds, as inspections go on meanwhile."""
    before = _left(line)
    with line.inbox._changed:
        came = line.inbox.captured["cam1"] - sum(line.inbox.dropped.values())
    return came - _left(line), came - before


def _left(line: Line) -> int:
    return line.counts.inspected + sum(line.counts.dropped.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    code = tell("overload", soak(options.seconds), MUST_BE_NONE)
    return code | tell("overload-slow-disk", soak(options.seconds, write_s=0.15), MUST_BE_NONE)


if __name__ == "__main__":
    sys.exit(main())
