"""The writer's thread: verdicts are recorded and told at once, and their pictures and messages after them, in order.

What waits is committed together, so that one sync of the disk serves many; nothing is told before it is committed. A
station's messages follow its verdicts in their order, however long each picture takes.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from queue import Empty, SimpleQueue
from typing import Protocol

from edge_agent.core import Evaluation, Evidence, EvidenceState, Inspection, Record, Verdict
from edge_agent.errors import EdgeAgentError, JournalError
from edge_agent.io.backoff import Backoff
from edge_agent.line.heartbeat import DATABASE_S, Stage
from edge_agent.line.inspect import MessageBuilder, Recorder
from edge_agent.line.keeping import Job, Keeping

log = logging.getLogger(__name__)

MOST_SET_ASIDE = 20  # inspections in a row that cannot be recorded, after which it is not the pictures
RECORD_AGAIN = Backoff(0.1, 10.0, least=1.0)  # while the journal takes nothing
TICK_S = 0.1  # how often a thread that waits for another records a heartbeat


class Observer(Protocol):
    """Gets each inspection that the journal has; its pictures may follow."""

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


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What is to be committed of one inspection: its verdict, or what follows it."""

    inspection: Inspection
    evidence: Evidence
    completes: bool = False


@dataclass(frozen=True, slots=True)
class _Wake:
    """Says that pictures were kept."""


_Item = Inspection | Callable[[], None] | None


class Writer:
    """Records and tells what the detector's thread puts in.

    stage: its heartbeat. not_recording: why the journal takes nothing now; None while it does.
    """

    def __init__(
        self,
        journal: Recorder,
        keeping: Keeping,
        build_messages: MessageBuilder,
        observers: Sequence[Observer],
        followers: Sequence[Callable[[Inspection, Evidence], None]],
        *,
        room: int,
    ) -> None:
        """Prepare; run() is for a thread.

        Args:
            journal: records.
            keeping: keeps the pictures.
            build_messages: gives the messages of an inspection, once its pictures are kept.
            observers: told of each verdict once it is recorded.
            followers: told of each inspection once its pictures and messages are recorded, too.
            room: inspections that may wait.
        """
        self._journal, self._keeping, self._build_messages = journal, keeping, build_messages
        self._observers, self._followers = observers, followers
        self._room = threading.Semaphore(room)
        self._mail: SimpleQueue[_Item | _Wake] = SimpleQueue()
        self._has_ended = False
        self._following: dict[str, deque[Job]] = {}  # by station, in the order of their verdicts; never an empty one
        self._set_aside = 0  # inspections in a row that could not be recorded in any form
        self.stage = Stage("writer")
        self.counts = Counts()
        self.not_recording: str | None = None

    def put(self, item: _Item, waiting: Stage) -> None:
        """Hand in an inspection, or what is to be called after those before it; None ends the writer.

        waiting: the heartbeat of the caller: to wait for room is no hang.
        """
        while isinstance(item, Inspection) and not self._room.acquire(timeout=TICK_S):
            waiting.beat()
        self._mail.put(item)

    def run(self, stop: threading.Event) -> None:
        """Record until put(None), and then what still follows. Raises what should not happen."""
        try:
            while not (self._has_ended and not self._following):
                fresh: list[Inspection] = []
                for item in self._next():
                    if isinstance(item, Inspection):
                        fresh.append(item)
                        self._room.release()
                    elif item is None:
                        self._has_ended = True
                    elif not isinstance(item, _Wake):
                        self._record(fresh, stop)
                        fresh = []
                        item()
                self._record(fresh, stop)
        finally:
            self.stage.rest()

    def discard(self) -> None:
        """Take in and forget until put(None): after a failure the detector's thread must not wait for room for ever."""
        while not self._has_ended:
            item = self._mail.get()
            self._has_ended = item is None
            if isinstance(item, Inspection):
                self._room.release()

    def _wake(self) -> None:
        self._mail.put(_Wake())

    def _next(self) -> list[_Item | _Wake]:
        """Return what waits, at least one piece of it."""
        items: list[_Item | _Wake] = []
        while not items:
            self.stage.beat()
            with suppress(Empty):
                items.append(self._mail.get(timeout=TICK_S))
                while True:
                    items.append(self._mail.get_nowait())
        return items

    def _record(self, fresh: Sequence[Inspection], stop: threading.Event) -> None:
        """Commit new verdicts together with what follows earlier ones and is there; then tell."""
        work = [*self._followed()]
        behind = set(self._following)  # stations of which something follows that these must not overtake
        for inspection in fresh:
            station = inspection.frame.station
            follows = station in behind or self._keeping.wants(inspection)
            work.append(_Work(inspection, Evidence(state=EvidenceState.PENDING) if follows else Evidence()))
            behind |= {station} if follows else set()
        if not work:
            return
        with self.stage.step("record", DATABASE_S):
            recorded = self._record_all(work, stop)
        for done in recorded:
            if not done.completes:
                self._tell(done)
            if done.evidence.state is not EvidenceState.PENDING:
                self._tell_each(self._followers, done)

    def _followed(self) -> Iterator[_Work]:
        """Take out what follows verdicts and is there, as far as nothing before it of the same station is missing."""
        for station, jobs in list(self._following.items()):
            while jobs and (evidence := jobs[0].evidence) is not None:
                job = jobs.popleft()
                self.counts.sink_failures += job.has_failed
                yield _Work(job.inspection, evidence, completes=True)
            if not jobs:
                del self._following[station]

    def _tell(self, done: _Work) -> None:
        """Count and tell a verdict that was recorded, and have its pictures kept."""
        inspection = done.inspection
        self.counts.inspected += 1
        self.counts.not_ok += inspection.verdict.evaluation is Evaluation.NOT_OK
        self.counts.not_decidable += inspection.verdict.evaluation is Evaluation.NOT_DECIDABLE
        self._tell_each([observer.write for observer in self._observers], done)
        if done.evidence.state is EvidenceState.PENDING:
            if self._keeping.wants(inspection):
                job = self._keeping.keep(inspection, self._wake)
            else:
                job = Job(inspection, Evidence())
                self._wake()
            self._following.setdefault(inspection.frame.station, deque()).append(job)

    def _tell_each(self, those: Sequence[Callable[[Inspection, Evidence], None]], done: _Work) -> None:
        for tell in those:
            try:
                with self.stage.step("tell"):
                    tell(done.inspection, done.evidence)
            except Exception:  # one that fails must not keep the others from getting it
                self.counts.sink_failures += 1
                log.exception("%s failed", tell)

    def _record_all(self, work: Sequence[_Work], stop: threading.Event) -> list[_Work]:
        """Record together, or each by itself where one of them cannot be; return those that were and are new.

        What has a property that cannot be stored is recorded as NotDecidable, or set aside: the same picture would end
        each new start of the agent, too. Only many of them in a row are taken for a bug, which stops the agent.
        """
        if len(work) > 1:
            try:
                return self._commit(work, stop)
            except EdgeAgentError:
                raise
            except Exception as error:
                log.debug("recording one by one, as %d together failed: %s", len(work), error)
        return [recorded for one in work for recorded in self._record_one(one, stop)]

    def _record_one(self, work: _Work, stop: threading.Event) -> list[_Work]:
        frame = work.inspection.frame
        try:
            recorded = self._commit([work], stop)
        except EdgeAgentError:
            raise
        except Exception as error:
            log.exception("%s cannot be recorded as it is", frame.origin or f"frame {frame.seq} of {frame.station}")
            evidence = Evidence(state=EvidenceState.FAILED) if work.completes else work.evidence
            try:
                plain = replace(work, inspection=_plain(work.inspection, error), evidence=evidence)
                recorded = self._commit([plain], stop)
            except EdgeAgentError:
                raise
            except Exception:
                self.counts.dropped[frame.station, "unrecordable"] += 1
                self._set_aside += 1
                if self._set_aside >= MOST_SET_ASIDE:
                    raise
                log.exception("%s is set aside, it has no inspection", frame.origin or f"frame {frame.seq}")
                return []
        self._set_aside = 0
        return recorded

    def _commit(self, work: Sequence[_Work], stop: threading.Event) -> list[_Work]:
        """Record in one transaction, trying again with backoff while the disk is full; return those that are new.

        Gives up only at a stop: a file that was not recorded is then inspected again at the next start.
        """
        records = [self._record_of(one) for one in work]
        failures = 0
        while True:
            wait_s = RECORD_AGAIN.pause_s(failures)
            self.stage.beat(DATABASE_S + wait_s)
            try:
                are_new = self._journal.commit(records)
                break
            except JournalError as error:
                log.error("%s (trying again in %.1f s)", error, wait_s)
                failures += 1
                self.counts.journal_failures += 1
                self.not_recording = str(error)
                if stop.wait(wait_s):
                    for one in work:
                        self._give_up(one)
                    return []
        if self.not_recording:
            log.warning("the journal records again")
            self.not_recording = None
        for one, is_new in zip(work, are_new, strict=True):
            self.counts.dropped[one.inspection.frame.station, "known"] += not is_new and not one.completes
        return [one for one, is_new in zip(work, are_new, strict=True) if is_new]

    def _record_of(self, work: _Work) -> Record:
        is_pending = work.evidence.state is EvidenceState.PENDING
        messages = [] if is_pending else self._build_messages(work.inspection, work.evidence)
        return Record(work.inspection, work.evidence, messages, completes=work.completes)

    def _give_up(self, work: _Work) -> None:
        frame = work.inspection.frame
        if work.completes:
            then = "its pictures and messages follow at the next start"
        else:
            self.counts.dropped[frame.station, "stopped"] += 1
            then = "it is inspected again at the next start" if frame.file else "it is lost"
        log.error("stopped before %s could be recorded: %s", frame.origin or f"frame {frame.seq}", then)


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
