"""Kill the real daemon (SIGKILL) at random moments while pictures come in and a real broker listens, then count.

A fifth of the kills hit the start of the daemon, the others its work. --light: a detector that takes no time, and ten times as
many pictures, so that more kills fall between publishing a message and recording that it was sent.
Run: python -m benchmarks.faults.kills [--kills 200] [--light]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.faults.line import WRONG, Camera, account, faults_of, recorded, waiting, within
from benchmarks.faults.results import tell
from edge_agent.core import Reading
from edge_agent.inference.detector import PromptDetector
from tests.agent import ALL_OK, Daemon, station, write_config
from tests.mosquitto import Listener, Mosquitto

START_S = 1.2  # what a start takes, about
MUST_BE_NONE = (*WRONG, "journals_that_did_not_open", "half_written_pictures_left")


def lighten() -> None:
    """In the daemon's process: detectors give one reading for all, at once."""

    def start(
        self: PromptDetector, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        return lambda: [Reading(0.9, np.full((4, 4), 0.9, np.float32)) for _ in images]

    PromptDetector.start = start  # type: ignore[method-assign]


def soak(
    folder: Path, kills: int, *, every_s: float = 1.2, longest_s: float = 4.0, seed: int = 1, light: bool = False
) -> dict[str, float]:
    """Kill the daemon so many times and let it finish; the counts. longest_s: between being ready and being killed."""
    chance = random.Random(seed)
    journal = folder / "data" / "journal.db"
    opened = early = 0
    with Mosquitto(folder) as broker, Listener(broker) as listener:
        config = write_config(
            folder, station("cam1"), station("cam2", threshold=ALL_OK), broker=broker, evidence={"originals": "all"}
        )
        with Camera(folder / "cam1", every_s) as bad, Camera(folder / "cam2", 3 * every_s) as good:
            for _ in range(kills):
                with Daemon(config, before=lighten if light else None) as daemon:
                    if chance.random() < 0.2:
                        early += 1
                        time.sleep(chance.uniform(0, START_S))
                    else:
                        daemon.until("ready")
                        time.sleep(chance.uniform(0, longest_s))
                    daemon.kill()
                opened += not faults_of(journal)
        written = [*bad.written, *good.written]
        with Daemon(config, before=lighten if light else None) as daemon:
            daemon.until("ready")
            begun = time.monotonic()
            within(3600, lambda: recorded(journal) >= len(written) and waiting(journal) == 0)
            caught_up_s = time.monotonic() - begun
            daemon.stop()
        figures = account(written, journal, listener)
    return {
        "kills": kills,
        "kills_during_the_start": early,
        **figures,
        "seconds_of_catching_up": round(caught_up_s, 1),
        "journals_that_did_not_open": kills - opened,
        "half_written_pictures_left": sum(1 for _ in (folder / "data").rglob("*.tmp")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--light", action="store_true", help="with a detector that takes no time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.light:
            return tell("kills-light", soak(Path(folder), options.kills, every_s=0.1, light=True), MUST_BE_NONE)
        return tell("kills", soak(Path(folder), options.kills), MUST_BE_NONE)


if __name__ == "__main__":
    sys.exit(main())
