"""One batch of frames to inspections: start reading, wait, judge, debounce. Pure but for the detectors; no thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edge_agent.core import (
    Detector,
    Evaluation,
    Evidence,
    Frame,
    Inspection,
    Message,
    Reading,
    Record,
    Trace,
    Verdict,
)
from edge_agent.line.contrast import contrast_below, shows_nothing
from edge_agent.line.ids import new_id
from edge_agent.line.judge import AlarmState, Rules, debounce, judge

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """How one station's frames are inspected. keep: (h, w) bool, which part of the picture counts; None for all of it."""

    name: str
    detector: Detector
    rules: Rules
    trace: Trace
    keep: np.ndarray | None = None


class Recorder(Protocol):
    """The part of the journal that the line writes to."""

    def commit(self, records: Sequence[Record]) -> list[bool]:
        """Commit records in one transaction; return of each whether it was new.

        Raises JournalError: nothing was written, or the outcome is not known; call it again.
        """
        ...


class Unfinished(Recorder, Protocol):
    """The part of the journal that knows what a crash has left."""

    def unfinished(self) -> Sequence[Inspection]:
        """Return the inspections whose pictures and messages were to follow when the agent ended, in recording order."""
        ...


class EvidenceSaver(Protocol):
    """Keeps pictures as evidence; any thread may call it."""

    def wants(self, inspection: Inspection) -> bool:
        """Return whether a picture of this inspection is to be kept."""
        ...

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        """Keep the pictures of an inspection; never raise for a full or missing disk. shrunk: small, and in a hurry."""
        ...


MessageBuilder = Callable[[Inspection, Evidence], Sequence[Message]]  # the messages of an inspection


def inspect(
    frames: Sequence[Frame], stations: Mapping[str, Station], alarms: dict[str, AlarmState], *, simulated: bool = False
) -> list[Inspection]:
    """Inspect one batch of frames; return the inspections in the same order.

    Args:
        frames: of any stations.
        stations: by name.
        alarms: each station's debounce state; updated.
        simulated: whether the frames come from a replay.
    """
    return start_batch(frames, stations).judge(alarms, simulated=simulated)


@dataclass(frozen=True, slots=True, eq=False)
class StartedBatch:
    """A batch of frames that detectors are reading.

    reading: for each detector the indices of its frames, and a function that waits for their readings. overlaps: a device
    reads by itself, so that another batch can be started meanwhile. start_s: seconds that the start took.
    """

    frames: Sequence[Frame]
    stations: Mapping[str, Station]
    reading: Sequence[tuple[list[int], Callable[[], list[Reading | str]]]]
    overlaps: bool
    start_s: float

    def judge(self, alarms: dict[str, AlarmState], *, simulated: bool = False) -> list[Inspection]:
        """Wait for the readings and judge them. Call in the order of starting, as each call updates `alarms`."""
        begun = time.perf_counter()
        readings: dict[int, Reading | str] = {
            index: frame.fault for index, frame in enumerate(self.frames) if frame.fault is not None
        }
        read = len(self.frames) - len(readings)
        for indices, finish in self.reading:
            readings.update(zip(indices, finish(), strict=True))
        detect_ms = (self.start_s + time.perf_counter() - begun) * 1e3 / max(read, 1)

        inspections = []
        for index, frame in enumerate(self.frames):
            station, reading = self.stations[frame.station], readings[index]
            begun = time.perf_counter()
            if isinstance(reading, str):
                verdict, seen = Verdict(Evaluation.NOT_DECIDABLE, reason=reading), None
            else:
                verdict, seen = _judged(frame, reading, station.rules), reading
            state = alarms.get(frame.station, AlarmState())
            alarms[frame.station], event = debounce(state, verdict, seen.score if seen else 0.0, station.rules)
            timings = {"detect": detect_ms if seen else 0.0, "judge": (time.perf_counter() - begun) * 1e3}
            inspections.append(
                Inspection(
                    id=new_id(),
                    frame=frame,
                    reading=seen,
                    verdict=replace(verdict, alarm=event),
                    threshold=station.rules.threshold,
                    map_threshold=station.rules.map_threshold,
                    trace=station.trace,
                    timings=timings,
                    simulated=simulated,
                )
            )
        return inspections


def _judged(frame: Frame, reading: Reading, rules: Rules) -> Verdict:
    """Judge a reading; an error of any kind is the verdict of this one picture, as of a detector that fails.

    A picture that shows nothing, as with the lamp off, is not OK: detectors find no defect in it.
    """
    try:
        verdict = judge(reading, rules, frame.pixels.shape[:2])
        if verdict.evaluation is Evaluation.OK and rules.least_contrast:
            shown = contrast_below(frame.pixels, rules.least_contrast)
            if shown is not None:
                return Verdict(Evaluation.NOT_DECIDABLE, reason=shows_nothing(frame.pixels, shown))
        return verdict
    except Exception as error:
        log.exception("station %s: frame %d could not be judged", frame.station, frame.seq)
        return Verdict(Evaluation.NOT_DECIDABLE, reason=f"the reading could not be judged: {type(error).__name__}")


def start_batch(frames: Sequence[Frame], stations: Mapping[str, Station]) -> StartedBatch:
    """Start to read a batch of frames by their stations' detectors."""
    begun = time.perf_counter()
    by_detector: dict[int, list[int]] = {}
    for index, frame in enumerate(frames):
        if frame.fault is None:
            by_detector.setdefault(id(stations[frame.station].detector), []).append(index)
    reading = [
        (indices, _start_reading([frames[index] for index in indices], stations)) for indices in by_detector.values()
    ]
    overlaps = any_overlaps(stations[frames[indices[0]].station] for indices in by_detector.values())
    return StartedBatch(frames, stations, reading, overlaps, time.perf_counter() - begun)


def any_overlaps(stations: Iterable[Station]) -> bool:
    """Return whether a detector of these stations can be given a batch while it reads the one before."""
    return any(station.detector.overlaps for station in stations)


def _start_reading(frames: Sequence[Frame], stations: Mapping[str, Station]) -> Callable[[], list[Reading | str]]:
    """Start to read frames that share a detector; return a function that waits for the readings.

    If the detector fails on the batch, as when memory runs out, each frame is tried alone; a frame it fails on gets the
    reason in place of a reading. That holds for any exception: if the agent stopped, it would meet the same frame again.
    """
    detector = stations[frames[0].station].detector
    pictures = [frame.pixels for frame in frames]
    keep = [stations[frame.station].keep for frame in frames]

    def alone(error: Exception) -> list[Reading | str]:
        if len(frames) == 1:
            log.exception("station %s: the detector failed on frame %d", frames[0].station, frames[0].seq)
            return [f"the detector failed on this picture: {type(error).__name__}"]
        return [reading for frame in frames for reading in _start_reading([frame], stations)()]

    def wait() -> list[Reading | str]:
        try:
            return list(finish())
        except Exception as error:
            return alone(error)

    try:
        finish = detector.start(pictures, keep)
    except Exception as error:
        read = alone(error)
        return lambda: read
    return wait


def warm_up(stations: Iterable[Station], batch: int = 1) -> float:
    """Warm up each detector for batches of up to `batch` pictures, on the thread that will read.

    Returns the seconds that the slowest detector then takes for one picture.
    """
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    slowest = 0.0
    for detector in {id(station.detector): station.detector for station in stations}.values():
        detector.warm_up(batch)
        detector.read([noise])
        begun = time.perf_counter()
        detector.read([noise])
        slowest = max(slowest, time.perf_counter() - begun)
    return slowest
