"""The daemon's parts in this process, with a detector that takes no time, so that a soak stresses only what it is about."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_agent.core import MQTT, Detector, Evidence, Inspection, Message, Reading, Trace
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.line.inspect import Station
from edge_agent.line.judge import Rules
from edge_agent.line.line import Line
from edge_agent.line.resume import complete_unfinished
from edge_agent.mqtt.broker import Broker
from edge_agent.mqtt.messages import alarm_message
from edge_agent.mqtt.sender import MqttSink
from edge_agent.sources.folder.source import FolderSource
from tests.detectors import SynchronousDetector, info
from tests.line import context


class AllBad(SynchronousDetector):
    """A core.Detector that finds every picture bad and takes no time."""

    info = info("all-bad/none")

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        return [Reading(1.0, np.ones((4, 4), np.float32)) for _ in images]


@contextmanager
def watching(folder: Path, broker: Broker) -> Iterator[MqttSink]:
    """The agent on the folder `cam1`, its data in `data`, until the with ends; its sender is what is given."""
    journal = Journal.open(f"sqlite:///{folder / 'data' / 'journal.db'}")
    sender = MqttSink(broker, context(journal.outbox(MQTT), name=broker.agent))
    stop = threading.Event()
    store = EvidenceStore(folder / "data" / "evidence", render=lambda inspection, largest: inspection.frame.pixels)
    complete_unfinished(journal, store.found, build_messages)
    line = Line(
        [FolderSource("cam1", folder / "cam1", journal)],
        {"cam1": station("cam1", AllBad())},
        store,
        journal,
        build_messages,
        [sender],
        followers=[sender.completed],
    )
    thread = threading.Thread(target=line.run, args=(stop,), name="line")
    thread.start()
    try:
        yield sender
    finally:
        stop.set()
        thread.join()
        sender.close()
        journal.close()


def station(name: str, detector: Detector) -> Station:
    trace = Trace(detector.info.name, detector.info.model_sha256, detector.info.checkpoint_sha256, None, "2" * 64)
    return Station(name, detector, Rules(0.5), trace)


def build_messages(inspection: Inspection, evidence: Evidence) -> list[Message]:
    """The alarm alone."""
    alarm = alarm_message(inspection, evidence)
    return [alarm] if alarm else []
