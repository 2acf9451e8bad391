"""Room on a disk kept for the moment when it is full: a file beside the journal that is deleted then, so that alarms go on."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from edge_agent.io.files import write_durably

log = logging.getLogger(__name__)

MOST_BYTES = 16 << 20  # SQLite's log takes 4 MiB before it is used again; the rest is some thousand inspections
LEAST_BYTES = 1 << 20
SHARE = 40  # of the disk, one such part
AGAIN_S = 60.0


class Ballast:
    """The file PATH.ballast, of 16 MiB or, on a small disk, of a fortieth of it; where that is below 1 MiB, none."""

    def __init__(self, beside: Path) -> None:
        self._path = beside.with_name(f"{beside.name}.ballast")
        self._next = 0.0  # monotonic seconds

    def reserve(self) -> None:
        """Write the file, if there is none and much more room than it takes; tried once a minute. Never raises."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + AGAIN_S
        try:
            if not self._path.exists():
                disk = shutil.disk_usage(self._path.parent)
                size = _size(disk.total)
                if size and disk.free >= 4 * size:
                    write_durably(self._path, os.urandom(size))  # which no file system can make smaller
        except OSError as error:
            log.warning("%s cannot be written (%s): once the disk is full, alarms have to wait", self._path, error)

    def release(self) -> bool:
        """Delete the file, if the disk is full; whether there is more room now."""
        try:
            size = self._path.stat().st_size
            if shutil.disk_usage(self._path.parent).free >= size:
                return False
            self._path.unlink()
        except OSError:
            return False
        self._next = time.monotonic() + AGAIN_S
        log.error(
            "the disk of %s is full: %.1f MB that were kept for this moment are free now, and alarms go on being "
            "recorded: free some space soon", self._path.parent, size / 1e6,
        )  # fmt: skip
        return True


def _size(disk_bytes: int) -> int:
    size = min(MOST_BYTES, disk_bytes // SHARE)
    return size if size >= LEAST_BYTES else 0
