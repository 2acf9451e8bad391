"""Threads that keep evidence beside the line, so that no verdict waits for a picture; bounded in memory."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from edge_agent.core import Evaluation, Evidence, EvidenceState, Inspection
from edge_agent.line.heartbeat import Stage
from edge_agent.line.inspect import EvidenceSaver

log = logging.getLogger(__name__)

WhenBehind = Literal["drop_ok", "shrink", "wait"]

MOST_THREADS = 4
# Pixels and inspections that wait to be kept: with more of either the threads are behind, or no further one is inspected.
# However small the pictures, a crash costs those of FULL_JOBS inspections, and an alarm waits for no more than those.
BEHIND_BYTES, BEHIND_JOBS = 64 << 20, 32
FULL_BYTES, FULL_JOBS = 192 << 20, 64
TICK_S = 0.1  # how often a thread that waits records a heartbeat
GIVE_WAY = 5  # the nice value: reading a picture and telling its verdict come before keeping it


@dataclass(slots=True, eq=False)
class Job:
    """An inspection whose pictures are to be kept. evidence: None till that is done. has_failed: the saver has, by a bug."""

    inspection: Inspection
    evidence: Evidence | None = None
    has_failed: bool = False


class Keeping:
    """Keeps the pictures of inspections on threads of its own, in the order in which they come.

    stages: heartbeats of the threads. behind: inspections whose pictures were shrunk or dropped, by what became of them.
    """

    def __init__(self, saver: EvidenceSaver, *, when_behind: WhenBehind = "shrink", threads: int | None = None) -> None:
        """Prepare; start() starts the threads.

        Args:
            saver: writes the pictures; called by all threads.
            when_behind: what to do while pictures come faster than they can be kept: "shrink" keeps them small, "drop_ok"
                keeps none of OK inspections, "wait" keeps them as ever. If that is not enough, the line waits.
            threads: how many; default one for each processor core, at most MOST_THREADS.
        """
        self._saver, self._when_behind = saver, when_behind
        cores = len(os.sched_getaffinity(0))
        self.stages = [Stage(f"evidence {number}") for number in range(1, 1 + (threads or min(cores, MOST_THREADS)))]
        self._threads = [
            threading.Thread(target=self._work, args=(stage,), name=stage.name.replace(" ", "-"), daemon=True)
            for stage in self.stages
        ]
        self._jobs: SimpleQueue[tuple[Job, Callable[[], None]] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting = self._bytes = 0  # jobs that are not done, and their pixels
        self._is_behind = False
        self._counted = 0  # of behind, when it was last logged
        self.behind: Counter[EvidenceState] = Counter()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def wants(self, inspection: Inspection) -> bool:
        """Return whether a picture of this inspection is to be kept."""
        return self._saver.wants(inspection)

    def keep(self, inspection: Inspection, done: Callable[[], None] = lambda: None) -> Job:
        """Have the pictures of an inspection kept. Never waits. done: called by a thread when they are."""
        job = Job(inspection)
        with self._changed:
            self._waiting += 1
            self._bytes += inspection.frame.pixels.nbytes
        self._jobs.put((job, done))
        return job

    def result(self, job: Job) -> Evidence:
        """Wait until the pictures of an inspection are kept, and return them."""
        with self._changed:
            self._changed.wait_for(lambda: job.evidence is not None)
        assert job.evidence is not None
        return job.evidence

    @property
    def is_full(self) -> bool:
        """Whether no more should be inspected before wait_for_room() says so."""
        return self._waiting > FULL_JOBS or (self._bytes > FULL_BYTES and self._waiting > len(self._threads))

    def wait_for_room(self, timeout_s: float) -> bool:
        """Return whether there is room, after waiting for it as long as that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.is_full, timeout_s)

    def _work(self, stage: Stage) -> None:
        with suppress(OSError):  # where it is not allowed, it does without
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), GIVE_WAY)
        while True:
            stage.beat()
            try:
                taken = self._jobs.get(timeout=TICK_S)
            except Empty:
                continue
            if taken is None:
                stage.rest()
                return
            job, done = taken
            with stage.step("keep"):
                self._keep(job)
            with self._changed:
                self._waiting -= 1
                self._bytes -= job.inspection.frame.pixels.nbytes
                self._changed.notify_all()
            done()

    def _keep(self, job: Job) -> None:
        """Keep the pictures of an inspection; a failure must not cost the alarm."""
        is_behind = self._notice_behind()
        try:
            if is_behind and self._when_behind == "drop_ok" and job.inspection.verdict.evaluation is Evaluation.OK:
                evidence = Evidence(state=EvidenceState.DROPPED)
            else:
                evidence = self._saver.save(job.inspection, shrunk=is_behind and self._when_behind == "shrink")
        except Exception:
            log.exception("%s failed", type(self._saver).__name__)
            job.has_failed, evidence = True, Evidence(state=EvidenceState.FAILED)
        if evidence.state in (EvidenceState.SHRUNK, EvidenceState.DROPPED):
            with self._changed:
                self.behind[evidence.state] += 1
        job.evidence = evidence

    def _notice_behind(self) -> bool:
        """Return whether pictures come faster than they are kept; say so when that begins and when it ends."""
        with self._changed:
            was_behind, waiting = self._is_behind, self._waiting
            # Once behind, it is so until next to nothing waits, or every other picture would be small.
            part = 4 if was_behind else 1
            is_much = self._bytes > BEHIND_BYTES // part or waiting > BEHIND_JOBS // part
            self._is_behind = is_much and waiting > len(self._threads)
            if self._is_behind == was_behind:
                return self._is_behind
            before, self._counted = self._counted, self.behind.total()
        if was_behind:
            log.warning("evidence is kept as configured again; that of %d inspections was not", self._counted - before)
        else:
            log.warning(
                "pictures come faster than they can be kept, %d wait: evidence.when_behind is %s",
                waiting,
                self._when_behind,
            )
        return not was_behind
