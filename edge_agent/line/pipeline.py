"""A frame's way to its verdict: inspect() is pure; replay() is a for-loop and run() threads around the same inspect()."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

import numpy as np
import uuid6

from edge_agent.core import (
    Detector,
    Evaluation,
    Evidence,
    Frame,
    Inspection,
    Message,
    Reading,
    Source,
    Trace,
    Verdict,
)
from edge_agent.errors import DetectorLost, JournalError, SourceLost
from edge_agent.io.backoff import Backoff
from edge_agent.line.heartbeat import DATABASE_S, Stage
from edge_agent.line.inbox import Inbox
from edge_agent.line.judge import AlarmState, Rules, debounce, judge

log = logging.getLogger(__name__)

MOST_FAILURES = 20  # of a detector in a row, after which another process may do better, on a GPU above all
SLOW = 10.0  # a batch may take so many times what pictures took of late before it is taken for a hang
RECORD_AGAIN = Backoff(0.1, 10.0, least=1.0)  # while the journal takes nothing
TICK_S = 0.1  # how often a thread that waits for another says that it lives


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """How one station's frames are inspected. keep: (h, w) bool, what of the picture counts; None for all of it."""

    name: str
    detector: Detector
    rules: Rules
    trace: Trace
    keep: np.ndarray | None = None


class Recorder(Protocol):
    """The part of the journal that the pipeline writes to."""

    def record(self, inspection: Inspection, evidence: Evidence, messages: Sequence[Message]) -> bool: ...


class Keeper(Protocol):
    """Keeps pictures as evidence; never raises for a full or missing disk."""

    def save(self, inspection: Inspection) -> Evidence: ...


class Observer(Protocol):
    """Is told of each inspection that the journal has."""

    def write(self, inspection: Inspection, evidence: Evidence) -> None: ...


Announce = Callable[[Inspection, Evidence], Sequence[Message]]  # what is to be published of an inspection


def inspect(
    frames: Sequence[Frame], stations: Mapping[str, Station], alarms: dict[str, AlarmState], *, simulated: bool = False
) -> list[Inspection]:
    """One batch of frames to inspections, in the same order. `alarms` holds each station's debounce state and moves on."""
    return begin(frames, stations).judge(alarms, simulated=simulated)


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A batch of frames whose reading has begun. overlaps: whether it goes on by itself, so that another can be begun too."""

    frames: Sequence[Frame]
    stations: Mapping[str, Station]
    reading: Sequence[tuple[list[int], Callable[[], list[Reading | str]]]]
    overlaps: bool
    begin_s: float

    def judge(self, alarms: dict[str, AlarmState], *, simulated: bool = False) -> list[Inspection]:
        """Wait for the readings and judge them; batches in the order they were begun, as `alarms` moves on."""
        begun = time.perf_counter()
        readings: dict[int, Reading | str] = {
            index: frame.fault for index, frame in enumerate(self.frames) if frame.fault is not None
        }
        read = len(self.frames) - len(readings)
        for indices, land in self.reading:
            readings.update(zip(indices, land(), strict=True))
        detect_ms = (self.begin_s + time.perf_counter() - begun) * 1e3 / max(read, 1)

        inspections = []
        for index, frame in enumerate(self.frames):
            station, reading = self.stations[frame.station], readings[index]
            begun = time.perf_counter()
            if isinstance(reading, str):
                verdict, seen = Verdict(Evaluation.NOT_DECIDABLE, reason=reading), None
            else:
                verdict, seen = judge(reading, station.rules, frame.pixels.shape[:2]), reading
            state = alarms.get(frame.station, AlarmState())
            alarms[frame.station], event = debounce(state, verdict, seen.score if seen else 0.0, station.rules)
            timings = {"detect": detect_ms if seen else 0.0, "judge": (time.perf_counter() - begun) * 1e3}
            inspections.append(
                Inspection(
                    id=str(uuid6.uuid7()),
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


def begin(frames: Sequence[Frame], stations: Mapping[str, Station]) -> Begun:
    """Have the stations' detectors begin to read a batch of frames."""
    begun = time.perf_counter()
    by_detector: dict[int, list[int]] = {}
    for index, frame in enumerate(frames):
        if frame.fault is None:
            by_detector.setdefault(id(stations[frame.station].detector), []).append(index)
    reading = [
        (indices, _begin_reading([frames[index] for index in indices], stations)) for indices in by_detector.values()
    ]
    overlaps = _any_overlaps(stations[frames[indices[0]].station] for indices in by_detector.values())
    return Begun(frames, stations, reading, overlaps, time.perf_counter() - begun)


def _any_overlaps(stations: Iterable[Station]) -> bool:
    """Whether a detector of theirs goes on by itself, so that it can be given a batch ahead."""
    return any(station.detector.overlaps for station in stations)


def _begin_reading(frames: Sequence[Frame], stations: Mapping[str, Station]) -> Callable[[], list[Reading | str]]:
    """What waits for the readings of frames that share a detector.

    If it fails on a batch, as when memory runs out, each is tried alone; a frame it fails on gets the reason. Whatever
    it raises: were the agent to stop over it, it would meet the same frame again at its next start.
    """
    detector = stations[frames[0].station].detector
    pictures = [frame.pixels for frame in frames]
    keep = [stations[frame.station].keep for frame in frames]

    def alone(error: Exception) -> list[Reading | str]:
        if len(frames) == 1:
            log.exception("station %s: the detector failed on frame %d", frames[0].station, frames[0].seq)
            return [f"the detector failed on this picture: {type(error).__name__}"]
        return [reading for frame in frames for reading in _begin_reading([frame], stations)()]

    def wait() -> list[Reading | str]:
        try:
            return list(land())
        except Exception as error:
            return alone(error)

    try:
        land = detector.start(pictures, keep)
    except Exception as error:
        read = alone(error)
        return lambda: read
    return wait


def replay(
    source: Source,
    station: Station,
    keeper: Keeper,
    journal: Recorder,
    announce: Announce,
    *,
    batch: int = 8,
    simulated: bool = True,
    stop: threading.Event | None = None,
    alarms: dict[str, AlarmState] | None = None,
) -> Iterator[tuple[Inspection, Evidence]]:
    """Inspect all frames of a source that ends, in order; each is recorded before it is yielded.

    alarms: each station's debounce state, where the frames go on from earlier ones; it moves on.
    """
    alarms = {} if alarms is None else alarms
    frames = source.frames(stop or threading.Event())
    while chunk := list(islice(frames, batch)):
        for inspection in inspect(chunk, {station.name: station}, alarms, simulated=simulated):
            evidence = keeper.save(inspection)
            journal.record(inspection, evidence, announce(inspection, evidence))
            yield inspection, evidence


def warm_up(stations: Iterable[Station], batch: int = 1) -> float:
    """Have each detector read pictures, as first ones are slow; `batch`: how many may come at once.

    For the thread that will read. Returns the seconds that the slowest detector then takes for one picture.
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


@dataclass(slots=True)
class Counts:
    """What has happened since the start. inspected = OK + NotOK + NotDecidable; failures are of detectors and of sinks.

    dropped: frames that went through the detector and were not recorded, by station and reason; `inbox.dropped` counts
    those that never got there.
    """

    inspected: int = 0
    not_ok: int = 0
    not_decidable: int = 0
    detector_failures: int = 0
    sink_failures: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)


class Line:
    """The daemon: a thread a source, the detector on the caller's thread, one thread that records and announces."""

    def __init__(
        self,
        sources: Sequence[Source],
        stations: Mapping[str, Station],
        keeper: Keeper,
        journal: Recorder,
        announce: Announce,
        observers: Sequence[Observer],
        *,
        alarms: Mapping[str, AlarmState] | None = None,
        batch: int = 8,
        max_wait_s: float = 0.005,
        report: Callable[[Inspection, Evidence], None] = lambda inspection, evidence: None,
        picture_s: float = 0.0,
    ) -> None:
        """picture_s: what the detector takes for one picture when warm. max_wait_s: see Inbox.take."""
        self._sources, self._stations, self._keeper, self._journal = sources, stations, keeper, journal
        self._announce, self._observers, self._report = announce, observers, report
        self._alarms = dict(alarms or {})
        self._batch, self._max_wait_s = batch, max_wait_s
        # A batch may wait before the detector and another behind it; more would cost memory, and time at a stop.
        self._done: queue.Queue[Inspection | Callable[[], None] | None] = queue.Queue(maxsize=batch)
        self._failure: BaseException | None = None
        self._begun: Begun | None = None
        self._failures = 0  # pictures in a row that could not be read, of whatever station
        self._picture_s = self._warm_picture_s = picture_s
        self._detecting, self._writing = Stage("detector"), Stage("writer")
        self.stages = (self._detecting, self._writing)
        # Where a batch is read while the next begins, that next one has to be there already.
        capacity = 2 * batch if _any_overlaps(stations.values()) else batch
        self.inbox = Inbox(capacity, stations=len(sources))
        self.counts = Counts()
        self.came_at: dict[str, float] = {}  # by station, when its newest frame came (monotonic seconds)

    def run(
        self,
        stop: threading.Event,
        *,
        started: Callable[[], None] = lambda: None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Inspect until `stop` is set; then take in nothing new, finish what was taken in, and return. Raises what a thread raised.

        started: called once all sources run. between: called between batches, several times a second, on this thread.
        """
        feeders = [
            threading.Thread(target=self._feed, args=(source, stop), name=f"source-{source.station}")
            for source in self._sources
        ]
        writer = threading.Thread(target=self._write, args=(stop,), name="writer")
        for thread in (*feeders, writer):
            thread.start()
        try:
            started()
            while not (stop.is_set() and self.inbox.drained):
                if stop.is_set():
                    self.inbox.close()
                self._detecting.beat()
                between()
                self._inspect(self._take())
                if self._failure:
                    break
            self._land()
        finally:
            stop.set()
            self.inbox.close()
            self._hand_on(None)
            self._detecting.rest()
            for thread in (writer, *feeders):
                thread.join()
        if self._failure:
            raise self._failure

    def change(self, stations: Mapping[str, Station], then: Callable[[], None] = lambda: None) -> None:
        """Inspect as these stations say from the next batch on; for `between`. They have the names of those before.

        then: called by the thread that keeps and records, after the last inspection that was made the old way.
        """
        self._land()
        self._stations = stations
        self._hand_on(then)

    def _take(self) -> list[Frame]:
        """The frames to be inspected next. While a batch is being read it waits for none: that one would come late."""
        return self.inbox.take(self._batch, *((0.0, 0.0) if self._begun else (0.2, self._max_wait_s)))

    def _inspect(self, frames: Sequence[Frame]) -> None:
        """Begin with these frames, then finish those before; finish these too, unless they are read meanwhile."""
        if frames:
            self._detecting.beat(within_s=SLOW * len(frames) * self._picture_s)
        begun = begin(frames, self._stations) if frames else None
        self._land()
        self._begun = begun
        if begun and not begun.overlaps:
            self._land()

    def _land(self) -> None:
        """Finish the batch that is being read, if there is one."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        self._detecting.beat(within_s=SLOW * len(begun.frames) * self._picture_s)
        started = time.perf_counter()
        inspections = begun.judge(self._alarms)
        took_s = (begun.begin_s + time.perf_counter() - started) / len(begun.frames)
        # One picture that was slow is forgotten in time, but not that the machine is.
        self._picture_s = max(took_s, 0.9 * self._picture_s, self._warm_picture_s)
        for inspection in inspections:
            self._hand_on(inspection)
            if inspection.frame.fault is None:
                self._failures = 0 if inspection.reading else self._failures + 1
                self.counts.detector_failures += inspection.reading is None
        if self._failures >= MOST_FAILURES:
            raise DetectorLost(
                f"no picture was read of the last {self._failures}: see above what the detector failed with; a new start "
                "of the agent may help, as with a GPU that has gone wrong"
            )

    def _hand_on(self, item: Inspection | Callable[[], None] | None) -> None:
        """Give the writer something to do. To wait for it is no hang of this thread."""
        while True:
            self._detecting.beat()
            try:
                return self._done.put(item, timeout=TICK_S)
            except queue.Full:
                pass

    def _next(self) -> Inspection | Callable[[], None] | None:
        """What the writer is to do; None: end."""
        while True:
            self._writing.beat()
            try:
                return self._done.get(timeout=TICK_S)
            except queue.Empty:
                pass

    def _feed(self, source: Source, stop: threading.Event) -> None:
        try:
            for frame in source.frames(stop):
                self.came_at[frame.station] = time.monotonic()
                if not self.inbox.put(frame, live=source.live):
                    return
        except SourceLost as error:
            log.error("station %s: %s", source.station, error)
        except BaseException as error:  # a bug: the whole agent stops and its service manager starts it again
            self._fail(error, stop)

    def _write(self, stop: threading.Event) -> None:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Inspection):
                    self._finish(item, stop)
                else:
                    item()
        except BaseException as error:
            self._fail(error, stop)
            while self._next() is not None:  # the detector's thread must not wait for room for ever
                pass
        finally:
            self._writing.rest()

    def _finish(self, inspection: Inspection, stop: threading.Event) -> None:
        """Keep, record and tell."""
        with self._writing.step("keep"):
            evidence = self._keep(inspection)
        with self._writing.step("record", DATABASE_S):
            is_recorded = self._record(inspection, evidence, stop)
        if not is_recorded:
            return
        self._count(inspection)
        for observer in self._observers:
            try:
                with self._writing.step("tell"):
                    observer.write(inspection, evidence)
            except Exception:  # one that fails must not keep the others from being told
                self.counts.sink_failures += 1
                log.exception("%s failed", type(observer).__name__)
        self._report(inspection, evidence)

    def _keep(self, inspection: Inspection) -> Evidence:
        """Keep its pictures; what goes wrong with them must not cost the alarm."""
        try:
            return self._keeper.save(inspection)
        except Exception:
            self.counts.sink_failures += 1
            log.exception("%s failed", type(self._keeper).__name__)
            return Evidence()

    def _record(self, inspection: Inspection, evidence: Evidence, stop: threading.Event) -> bool:
        """Record, trying again with backoff while the disk is full; says whether it was new.

        Gives up only at a stop: a file that was not recorded is then inspected again at the next start.
        """
        failures = 0
        while True:
            wait_s = RECORD_AGAIN.pause_s(failures)
            self._writing.beat(DATABASE_S + wait_s)
            try:
                is_new = self._journal.record(inspection, evidence, self._announce(inspection, evidence))
                self.counts.dropped[inspection.frame.station, "known"] += not is_new
                return is_new
            except JournalError as error:
                log.error("%s (trying again in %.1f s)", error, wait_s)
                failures += 1
                if stop.wait(wait_s):
                    self.counts.dropped[inspection.frame.station, "stopped"] += 1
                    frame = inspection.frame
                    then = "it is inspected again at the next start" if frame.file else "it is lost"
                    log.error("stopped before %s could be recorded: %s", frame.origin or f"frame {frame.seq}", then)
                    return False

    def _count(self, inspection: Inspection) -> None:
        self.counts.inspected += 1
        self.counts.not_ok += inspection.verdict.evaluation is Evaluation.NOT_OK
        self.counts.not_decidable += inspection.verdict.evaluation is Evaluation.NOT_DECIDABLE

    def _fail(self, error: BaseException, stop: threading.Event) -> None:
        log.critical("stopping after an error that should not happen", exc_info=error)
        self._failure = self._failure or error
        stop.set()
        self.inbox.close()
