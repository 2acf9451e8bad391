"""Write more pictures at once than inotify can queue: each is inspected exactly once, though the kernel drops events.

The agent is stopped while the pictures come, so that its queue in the kernel overflows. Each is written under another name
and renamed twice; one in ten is renamed once more, and one in ten is deleted before it can be read.
Run: python -m benchmarks.faults.burst [--files 10000]
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.faults.agent import AllBad, station
from benchmarks.faults.line import recorded, within
from benchmarks.faults.results import tell
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.line.line import Line
from edge_agent.sources.folder.source import FolderSource
from tests.agent import journalled
from tests.made import gradient, png

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
MUST_BE_NONE = (
    "never_inspected",
    "inspected_twice",
    "inspected_though_deleted_before",
    "events_that_the_queue_had_room_for",
)


def watch(folder: Path, rescan_s: float) -> None:
    """The agent on `cam1`, in a process of its own, until SIGTERM."""
    logging.disable(logging.WARNING)  # it tells of each name that a file no longer has
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    journal = Journal.open(f"sqlite:///{folder / 'journal.db'}")
    store = EvidenceStore(
        folder / "evidence", render=lambda one, largest: one.frame.pixels, originals="none", overlays="none"
    )
    source = FolderSource("cam1", folder / "cam1", journal, rescan_s=rescan_s, unchanged_s=0.5)
    Line([source], {"cam1": station("cam1", AllBad())}, store, journal, lambda *_: [], []).run(stop)
    journal.close()


def soak(folder: Path, files: int, renames: int = 2, rescan_s: float = 5.0) -> dict[str, float]:
    """The counts; two runs of the agent, the second after the burst has been worked off by half or more."""
    incoming, journal = folder / "cam1", folder / "journal.db"
    incoming.mkdir()
    content = [png(gradient(16, 16, seed)) for seed in range(50)]
    context = multiprocessing.get_context("spawn")
    agent = context.Process(target=watch, args=(folder, rescan_s))
    agent.start()
    (incoming / "first.png").write_bytes(content[0])
    assert within(120, lambda: journal.exists() and recorded(journal) == 1)
    assert agent.pid is not None
    os.kill(agent.pid, signal.SIGSTOP)
    expected, deleted = {"first.png"}, set()
    for number in range(files):
        path = incoming / f"{number:06}.part"
        path.write_bytes(content[number % 50])
        for name in [f"{number:06}-{again}.png" for again in range(renames + (number % 10 == 0))]:
            path = path.rename(incoming / name)
        if number % 10 == 1:
            path.unlink()
            deleted.add(path.name)
        else:
            expected.add(path.name)
    events = files * (1 + 2 * renames)  # a close, and two for each renaming, at least
    os.kill(agent.pid, signal.SIGCONT)
    begun = time.monotonic()
    within(600, lambda: recorded(journal) >= len(expected) // 2)
    agent.kill()
    agent.join()
    again = context.Process(target=watch, args=(folder, rescan_s))
    again.start()
    within(1200, lambda: recorded(journal) >= len(expected))
    took_s = time.monotonic() - begun
    time.sleep(2 * rescan_s)  # in which nothing more may come
    again.terminate()
    again.join()
    found = Counter(Path(row["origin"]).name for row in journalled(journal))
    return {
        "files": files,
        "events_at_least": events,
        "events_that_the_queue_had_room_for": int(events <= int(QUEUE.read_text())),
        "expected": len(expected),
        "never_inspected": sum(name not in found for name in expected),
        "inspected_twice": sum(count - 1 for count in found.values()),
        "inspected_though_deleted_before": sum(name in found for name in deleted),
        "seconds": round(took_s, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return tell("burst", soak(Path(folder), options.files), MUST_BE_NONE)


if __name__ == "__main__":
    sys.exit(main())
