"""Fill the disk again and again under the real daemon while pictures come in, then count what became of them.

The daemon's data lie on a tmpfs of their own; its detector takes no time. Of two stations one finds all pictures NotOK and
raises alarms, the other finds all OK, and all originals are kept. Beyond the counts of the other soaks: whether alarms were
still recorded each time the disk was full, and whether evidence was deleted in the documented order: OK pictures first, the
oldest first. Runs in a mount namespace of its own (unshare).
Run: python -m benchmarks.faults.disk [--times 10] [--seconds 15]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.kills import lighten
from benchmarks.faults.line import WRONG, Camera, account, faults_of, picture, recorded, waiting, within
from benchmarks.faults.results import tell
from tests.agent import ALL_OK, Daemon, journalled, station, write_config
from tests.mosquitto import Listener, Mosquitto

MEGABYTES = 64
FIRST_S = 20.0  # so that there is evidence that can make way
MUST_BE_NONE = (
    *WRONG,
    "full_times_without_an_alarm_recorded",
    "evidence_dropped_of_not_ok",
    "evidence_dropped_before_older",
    "full_times_not_told",
    "journals_that_did_not_open",
)


def fill(disk: Path) -> Path:
    """A file that takes all free space."""
    others = disk / "others"
    with others.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return others


def dropped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inspections whose picture was written and has made way."""
    return [row for row in rows if row["image_sha256"] and not row["image_uri"]]


def out_of_order(rows: list[dict[str, Any]]) -> int:
    """How many OK pictures went though an older one is still there."""
    written = [row for row in rows if row["image_sha256"] and row["evaluation"] == "OK"]
    kept = [number for number, row in enumerate(written) if row["image_uri"]]
    return sum(not row["image_uri"] for row in written[min(kept, default=0) :]) if kept else 0


def soak(folder: Path, times: int, seconds: float, *, first_s: float = FIRST_S) -> dict[str, float]:
    """Fill the disk below folder/data so many times, for so long each; the counts."""
    journal, log = folder / "data" / "journal.db", folder / "log"
    silent = untold = most_waiting = full_alarms = 0
    with Mosquitto(folder) as broker, Listener(broker) as listener:
        stations = station("cam1"), station("cam2", threshold=ALL_OK)
        evidence = {"originals": "all", "overlays": "none"}
        config = write_config(folder, *stations, broker=broker, evidence=evidence)
        large = partial(picture, height=240, width=320)
        with Daemon(config, before=lighten) as daemon:
            daemon.until("ready")
            with Camera(folder / "cam1", 0.2) as bad, Camera(folder / "cam2", 0.4, large) as good:
                time.sleep(first_s)
                for _ in range(times):
                    said, before = len(log.read_text()), alarms(journal)
                    others = fill(folder / "data")
                    time.sleep(seconds)
                    more = alarms(journal) - before
                    full_alarms, silent = full_alarms + more, silent + (more == 0)
                    most_waiting = max(most_waiting, waiting(journal))
                    untold += "full" not in log.read_text()[said:] and "the oldest evidence goes" not in log.read_text()
                    others.unlink()
                    time.sleep(seconds)
            written = [*bad.written, *good.written]
            within(600, lambda: recorded(journal) >= len(written) and waiting(journal) == 0)
            daemon.stop()
        figures = account(written, journal, listener)
        rows = journalled(journal)
    return {
        "times_full": times,
        "seconds_each": seconds,
        **figures,
        "alarms_recorded_while_full": full_alarms,
        "full_times_without_an_alarm_recorded": silent,
        "full_times_not_told": untold,
        "most_alarms_queued_at_the_end_of_a_full_time": most_waiting,
        "evidence_dropped_of_ok": sum(row["evaluation"] == "OK" for row in dropped(rows)),
        "evidence_dropped_of_not_ok": sum(row["evaluation"] != "OK" for row in dropped(rows)),
        "evidence_dropped_before_older": out_of_order(rows),
        "evidence_not_kept_for_want_of_room": sum(not row["image_sha256"] for row in rows),
        "journals_that_did_not_open": int(bool(faults_of(journal))),
    }


def alarms(journal: Path) -> int:
    """How many the journal holds."""
    return sum(bool(row["alarm"]) for row in journalled(journal))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15.0, help="that the disk is full, and then is not, each time")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.alone:
        root = [] if os.geteuid() == 0 else ["--map-root-user"]
        alone = ["unshare", *root, "--mount", sys.executable, "-m", "benchmarks.faults.disk", "--alone", *sys.argv[1:]]
        return subprocess.run(alone, check=False).returncode
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name) / "data"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", disk], check=True)
        try:
            assert shutil.disk_usage(disk).total == MEGABYTES << 20
            return tell("disk", soak(Path(name), options.times, options.seconds), MUST_BE_NONE)
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


if __name__ == "__main__":
    sys.exit(main())
