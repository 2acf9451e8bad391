"""Frames of a source that ends, inspected as the line does: pictures kept by several threads, batches recorded together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

from edge_agent.core import Evidence, Inspection, Record, Source
from edge_agent.line.inspect import EvidenceSaver, MessageBuilder, Recorder, Station, inspect
from edge_agent.line.judge import AlarmState
from edge_agent.line.keeping import Job, Keeping


def replay(
    source: Source,
    station: Station,
    evidence_saver: EvidenceSaver,
    journal: Recorder,
    build_messages: MessageBuilder,
    *,
    batch: int = 8,
    simulated: bool = True,
    stop: threading.Event | None = None,
    alarms: dict[str, AlarmState] | None = None,
) -> Iterator[tuple[Inspection, Evidence]]:
    """Inspect all frames of a source that ends, in order; each is recorded before it is yielded.

    The pictures of a batch are kept while the next one is read; none is shrunk or dropped.

    Args:
        source: gives the frames.
        station: how they are inspected.
        evidence_saver: keeps evidence.
        journal: records.
        build_messages: gives the messages of an inspection.
        batch: frames that are read at once.
        simulated: how the inspections are marked.
        stop: ends the replay before the next batch.
        alarms: debounce states to go on from; updated. None starts afresh.
    """
    alarms = {} if alarms is None else alarms
    frames = source.frames(stop or threading.Event())
    keeping = Keeping(evidence_saver, when_behind="wait")

    def recorded(jobs: list[Job]) -> Iterator[tuple[Inspection, Evidence]]:
        kept = [(job.inspection, keeping.result(job)) for job in jobs]
        if kept:
            journal.commit([Record(one, evidence, build_messages(one, evidence)) for one, evidence in kept])
        yield from kept

    keeping.start()
    try:
        before: list[Job] = []
        while chunk := list(islice(frames, batch)):
            found = inspect(chunk, {station.name: station}, alarms, simulated=simulated)
            jobs = [keeping.keep(one) for one in found]
            yield from recorded(before)
            before = jobs
        yield from recorded(before)
    finally:
        keeping.close()
