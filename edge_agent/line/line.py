"""The daemon's threads around inspect(): one for each source, the detector's, the writer's, and some that keep evidence."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from edge_agent.core import Evidence, Frame, Inspection, Source
from edge_agent.errors import DetectorLost, SourceLost
from edge_agent.line.heartbeat import DATABASE_S, Stage, WatchedStop
from edge_agent.line.inbox import Inbox
from edge_agent.line.inspect import (
    EvidenceSaver,
    MessageBuilder,
    Recorder,
    StartedBatch,
    Station,
    any_overlaps,
    start_batch,
)
from edge_agent.line.judge import AlarmState
from edge_agent.line.keeping import Keeping, WhenBehind
from edge_agent.line.writer import Observer, Writer

log = logging.getLogger(__name__)

MOST_FAILURES = 20  # of a detector in a row, after which another process may do better, on a GPU above all
SLOW = 10.0  # a batch may take so many times what recent pictures took before it counts as a hang
SOURCE_STOP_S = (
    10.0  # that a source's thread may take to end; one that hangs is left behind, as it ends with the process
)
TICK_S = 0.1  # how often a thread that waits for another records a heartbeat


def feeding_name(station: str) -> str:
    """Return the name of the heartbeat of a station's source."""
    return f"source {station}"


class Line:
    """The threads of the daemon: one for each source, the detector on the caller's, a writer, and some that keep evidence.

    stages: heartbeats of detector, writer, evidence and sources. feeding: those of the sources alone. keeping: keeps evidence.
    newest_at: by station, when its newest frame came (monotonic seconds).
    """

    def __init__(
        self,
        sources: Sequence[Source],
        stations: Mapping[str, Station],
        evidence_saver: EvidenceSaver,
        journal: Recorder,
        build_messages: MessageBuilder,
        observers: Sequence[Observer],
        *,
        alarms: Mapping[str, AlarmState] | None = None,
        batch: int = 8,
        max_wait_s: float = 0.005,
        report: Callable[[Inspection, Evidence], None] = lambda inspection, evidence: None,
        picture_s: float = 0.0,
        when_behind: WhenBehind = "shrink",
        followers: Sequence[Callable[[Inspection, Evidence], None]] = (),
    ) -> None:
        """Prepare; run() starts the threads.

        Args:
            sources: one for each station.
            stations: by name.
            evidence_saver: keeps evidence.
            journal: records.
            build_messages: gives the messages of an inspection, which are recorded with its evidence.
            observers: get each inspection whose verdict is recorded, in this order; may be filled until run().
            alarms: debounce states to go on from.
            batch: frames that are read at once, at most.
            max_wait_s: seconds that a frame may wait for those of other stations (see Inbox.take).
            report: called last for each inspection, when its evidence and messages are recorded, too.
            picture_s: seconds that a warm detector takes for one picture.
            when_behind: see Keeping.
            followers: called for each inspection before `report`.
        """
        self._sources, self._stations = sources, stations
        self.keeping = Keeping(evidence_saver, when_behind=when_behind)
        # A batch may wait before the detector and another behind it; more would cost memory, and time at a stop.
        self._writer = Writer(journal, self.keeping, build_messages, observers, [*followers, report], room=batch)
        self._alarms = dict(alarms or {})
        self._batch, self._max_wait_s = batch, max_wait_s
        self._failure: BaseException | None = None
        self._started: StartedBatch | None = None
        self._failures = 0  # pictures in a row that could not be read, of whatever station
        self._picture_s = self._warm_picture_s = picture_s
        self._detecting = Stage("detector")
        self.feeding = [Stage(feeding_name(source.station)) for source in sources]
        self.stages = (self._detecting, self._writer.stage, *self.keeping.stages, *self.feeding)
        # Where a batch is read while the next begins, that next one has to be there already.
        capacity = 2 * batch if any_overlaps(stations.values()) else batch
        self.inbox = Inbox(capacity, stations=len(sources))
        self.counts = self._writer.counts
        self.newest_at: dict[str, float] = {}

    def run(
        self,
        stop: threading.Event,
        *,
        started: Callable[[], None] = lambda: None,
        between: Callable[[], None] = lambda: None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        """Inspect until `stop` is set; then take nothing new, finish what was taken, and return.

        Args:
            stop: ends the run.
            started: called once all sources run.
            between: called between batches, several times a second, on this thread; no longer once `stop` is set.
            stopping: called once, on this thread, when `stop` is seen: before the frames that wait are finished.

        Raises:
            DetectorLost: no picture could be read for a while.
            BaseException: what a thread raised.
        """
        feeders = [
            threading.Thread(
                target=self._read_source, args=(source, stop, stage), name=f"source-{source.station}", daemon=True
            )
            for source, stage in zip(self._sources, self.feeding, strict=True)
        ]
        writer = threading.Thread(target=self._write, args=(stop,), name="writer")
        self.keeping.start()
        for thread in (*feeders, writer):
            thread.start()
        is_stopping = False
        try:
            started()
            while not (stop.is_set() and self.inbox.drained):
                self._detecting.beat()
                if not stop.is_set():
                    between()
                elif not is_stopping:
                    is_stopping = True
                    self.inbox.close()
                    stopping()
                if self._has_room():
                    self._inspect(self._take())
                if self._failure:
                    break
            self._finish_batch()
        finally:
            stop.set()
            self.inbox.close()
            self._writer.put(None, self._detecting)
            self._detecting.rest()
            writer.join()
            self.keeping.close()
            self._join(feeders)
        if self._failure:
            raise self._failure

    @property
    def not_recording(self) -> str | None:
        """Why the journal takes nothing now; None while it does."""
        return self._writer.not_recording

    def change(self, stations: Mapping[str, Station], then: Callable[[], None] = lambda: None) -> None:
        """Inspect by these stations from the next batch on. Call from `between`; the names stay the same.

        then: called by the writer after the last inspection by the old stations.
        """
        self._finish_batch()
        self._stations = stations
        self._writer.put(then, self._detecting)

    def _has_room(self) -> bool:
        """Return whether to inspect more; if so many pictures wait to be kept that it is not, wait a moment."""
        if not self.keeping.is_full:
            return True
        self._finish_batch()
        return self.keeping.wait_for_room(TICK_S)

    def _take(self) -> list[Frame]:
        """Return the next frames. Does not wait while a batch is being read, as that one would be late."""
        return self.inbox.take(self._batch, *((0.0, 0.0) if self._started else (0.2, self._max_wait_s)))

    def _inspect(self, frames: Sequence[Frame]) -> None:
        """Start this batch, finish the previous one; finish this one too, unless a device reads it meanwhile."""
        if frames:
            self._detecting.beat(within_s=SLOW * len(frames) * self._picture_s)
        batch = start_batch(frames, self._stations) if frames else None
        self._finish_batch()
        self._started = batch
        if batch and not batch.overlaps:
            self._finish_batch()

    def _finish_batch(self) -> None:
        """Finish the batch that is being read, if there is one."""
        batch, self._started = self._started, None
        if batch is None:
            return
        self._detecting.beat(within_s=SLOW * len(batch.frames) * self._picture_s)
        started = time.perf_counter()
        inspections = batch.judge(self._alarms)
        took_s = (batch.start_s + time.perf_counter() - started) / len(batch.frames)
        # One picture that was slow is forgotten in time, but not that the machine is.
        self._picture_s = max(took_s, 0.9 * self._picture_s, self._warm_picture_s)
        for inspection in inspections:
            self._writer.put(inspection, self._detecting)
            if inspection.frame.fault is None:
                self._failures = 0 if inspection.reading else self._failures + 1
                self.counts.detector_failures += inspection.reading is None
        if self._failures >= MOST_FAILURES:
            raise DetectorLost(
                f"no picture was read of the last {self._failures}: see above what the detector failed with; a new start "
                "of the agent may help, as with a GPU that has gone wrong"
            )

    def _join(self, feeders: Sequence[threading.Thread]) -> None:
        """Wait for the sources' threads to end; one that hangs, as over a dead network share, must not hold up the stop."""
        until = time.monotonic() + SOURCE_STOP_S
        for thread in feeders:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                log.error("%s does not end, it is left behind: check its disk or network share", thread.name)

    def _read_source(self, source: Source, stop: threading.Event, stage: Stage) -> None:
        try:
            for frame in source.frames(WatchedStop(stop, stage)):
                self.newest_at[frame.station] = time.monotonic()
                stage.rest()  # the inbox may be full for as long as the detector, which has a heartbeat of its own, takes
                if not self.inbox.put(frame, live=source.live):
                    return
                stage.beat(DATABASE_S)
        except SourceLost as error:
            log.error("station %s: %s", source.station, error)
        except BaseException as error:  # a bug: the whole agent stops and its service manager starts it again
            self._fail(error, stop)
        finally:
            stage.rest()

    def _write(self, stop: threading.Event) -> None:
        try:
            self._writer.run(stop)
        except BaseException as error:
            self._fail(error, stop)
            self._writer.discard()

    def _fail(self, error: BaseException, stop: threading.Event) -> None:
        log.critical("stopping after an error that should not happen", exc_info=error)
        self._failure = self._failure or error
        stop.set()
        self.inbox.close()
