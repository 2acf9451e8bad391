"""A reserve file beside the journal: deleted when the disk is full, so that alarms can still be recorded."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from edge_agent.io.files import write_durably

log = logging.getLogger(__name__)

MAX_BYTES = 16 << 20  # SQLite's log grows to 4 MiB before it is reused; the rest holds some thousand inspections
MIN_BYTES = 1 << 20
DISK_PARTS = 40  # the file takes at most one of so many equal parts of the disk
AGAIN_S = 60.0  # between two attempts to write the file


class Ballast:
    """The reserve file PATH.ballast: 16 MiB, or a fortieth of a small disk; none where that would be below 1 MiB."""

    def __init__(self, beside: Path) -> None:
        self._path = beside.with_name(f"{beside.name}.ballast")
        self._next = 0.0  # monotonic seconds

    def reserve(self) -> None:
        """Write the file if it is missing and four times its size is free; try at most once a minute. Never raise."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + AGAIN_S
        try:
            if not self._path.exists():
                disk = shutil.disk_usage(self._path.parent)
                size = _size(disk.total)
                if size and disk.free >= 4 * size:
                    write_durably(self._path, os.urandom(size))  # random, so that no file system can compress it
        except OSError as error:
            log.warning("%s cannot be written (%s): once the disk is full, alarms have to wait", self._path, error)

    def release(self) -> bool:
        """Delete the file if the disk is full, and return whether that freed space."""
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
    size = min(MAX_BYTES, disk_bytes // DISK_PARTS)
    return size if size >= MIN_BYTES else 0
