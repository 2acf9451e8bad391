"""The daemon's threads around inspect(): one for each source, the detector's, and a writer that keeps and records."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Protocol

from edge_agent.core import Evaluation, Evidence, Frame, Inspection, Source, Verdict
from edge_agent.errors import DetectorLost, EdgeAgentError, JournalError, SourceLost
from edge_agent.io.backoff import Backoff
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

log = logging.getLogger(__name__)

MOST_FAILURES = 20  # of a detector in a row, after which another process may do better, on a GPU above all
MOST_SET_ASIDE = 20  # inspections in a row that cannot be recorded, after which it is not the pictures
SLOW = 10.0  # a batch may take so many times what recent pictures took before it counts as a hang
RECORD_AGAIN = Backoff(0.1, 10.0, least=1.0)  # while the journal takes nothing
SOURCE_STOP_S = (
    10.0  # that a source's thread may take to end; one that hangs is left behind, as it ends with the process
)
TICK_S = 0.1  # how often a thread that waits for another records a heartbeat


class Observer(Protocol):
    """Gets each inspection that the journal has."""

    def write(self, inspection: Inspection, evidence: Evidence) -> None: ...


@dataclass(slots=True)
class Counts:
    """Counts since the start. inspected = OK + NotOK + NotDecidable.

    detector_failures: pictures that a detector failed on. sink_failures: failures of observers and of keeping evidence.
    journal_failures: attempts to record that the journal refused.
    dropped: frames that went through the detector and were not recorded, by station and reason: known, stopped,
    unrecordable; `inbox.dropped` counts those that never got there.
    """

    inspected: int = 0
    not_ok: int = 0
    not_decidable: int = 0
    detector_failures: int = 0
    sink_failures: int = 0
    journal_failures: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)


def feeding_name(station: str) -> str:
    """Return the name of the heartbeat of a station's source."""
    return f"source {station}"


class Line:
    """The threads of the daemon: one for each source, the detector on the caller's, and a writer that keeps and records.

    stages: heartbeats of detector, writer and sources. feeding: those of the sources alone.
    newest_at: by station, when its newest frame came (monotonic seconds).
    not_recording: why the journal takes nothing now; None while it does.
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
    ) -> None:
        """Prepare; run() starts the threads.

        Args:
            sources: one for each station.
            stations: by name.
            evidence_saver: keeps evidence.
            journal: records.
            build_messages: gives the messages of an inspection, which are recorded with it.
            observers: get each recorded inspection, in this order; may be filled until run().
            alarms: debounce states to go on from.
            batch: frames that are read at once, at most.
            max_wait_s: seconds that a frame may wait for those of other stations (see Inbox.take).
            report: called last for each recorded inspection.
            picture_s: seconds that a warm detector takes for one picture.
        """
        self._sources, self._stations, self._evidence_saver, self._journal = sources, stations, evidence_saver, journal
        self._build_messages, self._observers, self._report = build_messages, observers, report
        self._alarms = dict(alarms or {})
        self._batch, self._max_wait_s = batch, max_wait_s
        # A batch may wait before the detector and another behind it; more would cost memory, and time at a stop.
        self._done: queue.Queue[Inspection | Callable[[], None] | None] = queue.Queue(maxsize=batch)
        self._failure: BaseException | None = None
        self._started: StartedBatch | None = None
        self._failures = 0  # pictures in a row that could not be read, of whatever station
        self._set_aside = 0  # inspections in a row that could not be recorded in any form
        self._picture_s = self._warm_picture_s = picture_s
        self._detecting, self._writing = Stage("detector"), Stage("writer")
        self.feeding = [Stage(feeding_name(source.station)) for source in sources]
        self.stages = (self._detecting, self._writing, *self.feeding)
        # Where a batch is read while the next begins, that next one has to be there already.
        capacity = 2 * batch if any_overlaps(stations.values()) else batch
        self.inbox = Inbox(capacity, stations=len(sources))
        self.counts = Counts()
        self.newest_at: dict[str, float] = {}
        self.not_recording: str | None = None

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
                self._inspect(self._take())
                if self._failure:
                    break
            self._finish_batch()
        finally:
            stop.set()
            self.inbox.close()
            self._queue_for_writer(None)
            self._detecting.rest()
            writer.join()
            self._join(feeders)
        if self._failure:
            raise self._failure

    def change(self, stations: Mapping[str, Station], then: Callable[[], None] = lambda: None) -> None:
        """Inspect by these stations from the next batch on. Call from `between`; the names stay the same.

        then: called by the writer after the last inspection by the old stations.
        """
        self._finish_batch()
        self._stations = stations
        self._queue_for_writer(then)

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
            self._queue_for_writer(inspection)
            if inspection.frame.fault is None:
                self._failures = 0 if inspection.reading else self._failures + 1
                self.counts.detector_failures += inspection.reading is None
        if self._failures >= MOST_FAILURES:
            raise DetectorLost(
                f"no picture was read of the last {self._failures}: see above what the detector failed with; a new start "
                "of the agent may help, as with a GPU that has gone wrong"
            )

    def _queue_for_writer(self, item: Inspection | Callable[[], None] | None) -> None:
        """Queue work for the writer; None ends it. Waiting for room does not count as a hang."""
        while True:
            self._detecting.beat()
            try:
                return self._done.put(item, timeout=TICK_S)
            except queue.Full:
                pass

    def _next(self) -> Inspection | Callable[[], None] | None:
        """Return the writer's next piece of work; None to end."""
        while True:
            self._writing.beat()
            try:
                return self._done.get(timeout=TICK_S)
            except queue.Empty:
                pass

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
            while (item := self._next()) is not None:
                if isinstance(item, Inspection):
                    self._keep_and_record(item, stop)
                else:
                    item()
        except BaseException as error:
            self._fail(error, stop)
            while self._next() is not None:  # the detector's thread must not wait for room for ever
                pass
        finally:
            self._writing.rest()

    def _keep_and_record(self, inspection: Inspection, stop: threading.Event) -> None:
        """Keep evidence, record, and pass on to the observers."""
        with self._writing.step("keep"):
            evidence = self._keep(inspection)
        with self._writing.step("record", DATABASE_S):
            recorded = self._record(inspection, evidence, stop)
        if recorded is None:
            return
        self._count(recorded)
        for observer in self._observers:
            try:
                with self._writing.step("tell"):
                    observer.write(recorded, evidence)
            except Exception:  # one that fails must not keep the others from getting it
                self.counts.sink_failures += 1
                log.exception("%s failed", type(observer).__name__)
        self._report(recorded, evidence)

    def _keep(self, inspection: Inspection) -> Evidence:
        """Keep the pictures of an inspection; a failure must not cost the alarm."""
        try:
            return self._evidence_saver.save(inspection)
        except Exception:
            self.counts.sink_failures += 1
            log.exception("%s failed", type(self._evidence_saver).__name__)
            return Evidence()

    def _record(self, inspection: Inspection, evidence: Evidence, stop: threading.Event) -> Inspection | None:
        """Record an inspection and return what was recorded; None if it was known, or could not be recorded.

        What has a property that cannot be stored is recorded as NotDecidable, or set aside: the same picture would end
        each new start of the agent, too. Only many of them in a row are taken for a bug, which stops the agent.
        """
        try:
            recorded = self._record_patiently(inspection, evidence, stop)
        except EdgeAgentError:
            raise
        except Exception as error:
            frame = inspection.frame
            log.exception("%s cannot be recorded as it is", frame.origin or f"frame {frame.seq} of {frame.station}")
            try:
                recorded = self._record_patiently(_plain(inspection, error), Evidence(), stop)
            except EdgeAgentError:
                raise
            except Exception:
                self.counts.dropped[frame.station, "unrecordable"] += 1
                self._set_aside += 1
                if self._set_aside >= MOST_SET_ASIDE:
                    raise
                log.exception("%s is set aside, it has no inspection", frame.origin or f"frame {frame.seq}")
                return None
        self._set_aside = 0
        return recorded

    def _record_patiently(self, inspection: Inspection, evidence: Evidence, stop: threading.Event) -> Inspection | None:
        """Record, trying again with backoff while the disk is full.

        Gives up only at a stop: a file that was not recorded is then inspected again at the next start.
        """
        failures = 0
        while True:
            wait_s = RECORD_AGAIN.pause_s(failures)
            self._writing.beat(DATABASE_S + wait_s)
            try:
                is_new = self._journal.record(inspection, evidence, self._build_messages(inspection, evidence))
                if self.not_recording:
                    log.warning("the journal records again")
                    self.not_recording = None
                self.counts.dropped[inspection.frame.station, "known"] += not is_new
                return inspection if is_new else None
            except JournalError as error:
                log.error("%s (trying again in %.1f s)", error, wait_s)
                failures += 1
                self.counts.journal_failures += 1
                self.not_recording = str(error)
                if stop.wait(wait_s):
                    self.counts.dropped[inspection.frame.station, "stopped"] += 1
                    frame = inspection.frame
                    then = "it is inspected again at the next start" if frame.file else "it is lost"
                    log.error("stopped before %s could be recorded: %s", frame.origin or f"frame {frame.seq}", then)
                    return None

    def _count(self, inspection: Inspection) -> None:
        self.counts.inspected += 1
        self.counts.not_ok += inspection.verdict.evaluation is Evaluation.NOT_OK
        self.counts.not_decidable += inspection.verdict.evaluation is Evaluation.NOT_DECIDABLE

    def _fail(self, error: BaseException, stop: threading.Event) -> None:
        log.critical("stopping after an error that should not happen", exc_info=error)
        self._failure = self._failure or error
        stop.set()
        self.inbox.close()


def _plain(inspection: Inspection, error: Exception) -> Inspection:
    """Return an inspection without what may have kept it from being recorded: NotDecidable, with what it did to the alarm."""
    frame, reason = inspection.frame, f"its inspection could not be recorded: {type(error).__name__}, see the log"
    file = frame.file and replace(frame.file, inode=0, size=0, mtime_ns=0)
    return replace(
        inspection,
        frame=replace(frame, taken_at=datetime.now(timezone.utc), file=file),
        reading=None,
        verdict=Verdict(Evaluation.NOT_DECIDABLE, reason=reason, alarm=inspection.verdict.alarm),
        timings={},
    )
