"""Stored pictures and videos inspected by this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from edge_agent.core import Evidence, Inspection
from edge_agent.evidence.choices import Kept
from edge_agent.evidence.store import EvidenceStore
from edge_agent.line.inspect import MessageBuilder, Recorder, Station
from edge_agent.line.judge import AlarmState
from edge_agent.line.replay import replay
from edge_agent.sources.stored import StoredSource


def replay_here(
    source: StoredSource,
    station: Station,
    evidence: Path,
    journal: Recorder,
    build_messages: MessageBuilder,
    stop: threading.Event,
    *,
    overlays: Kept,
    batch: int,
    alarms: dict[str, AlarmState],
) -> Iterator[tuple[Inspection, Evidence]]:
    """Inspect the source's frames in order; each is recorded before it is yielded.

    Args:
        source: the pictures and videos; skips those that were inspected before.
        station: the detector and the rules.
        evidence: folder of the overlays.
        journal: records the inspections.
        build_messages: makes the messages of each.
        stop: ends the replay before the next picture.
        overlays: of which verdicts an overlay is kept.
        batch: pictures that the detector reads at once, at least 1.
        alarms: the debounce state by station; updated.
    """
    store = EvidenceStore(evidence, originals="none", overlays=overlays, keep_days=1e9, keep_gb=1e9)
    return replay(source, station, store, journal, build_messages, batch=batch, stop=stop, alarms=alarms)
