"""The disk below the evidence folder: whether it is still the one that was mounted there, and how full it is."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

SPARE, MAX_SPARE = 0.05, 1 << 30  # what is left free for the journal: this share of the disk, at most so many bytes
MAX_SPARE_FILES = 1000  # what is left free of inodes, at most


class Place:
    """Where a folder lies; it need not exist yet. Every method raises OSError where the disk cannot be asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device: int | None = None  # of the folder
        self._below: int | None = None  # of the folder that its disk is mounted on; None on the system's own disk

    def is_another_disk(self) -> bool:
        """Return whether another disk was mounted there since the last call; False at the first.

        Raises OSError (ENODEV) if its disk is no longer mounted: what is written then fills the disk below the mount point,
        and is hidden once the disk comes back.
        """
        device = os.stat(self._nearest()).st_dev
        before = self._device
        if device == before:
            return False
        if before is not None and device == self._below:
            raise OSError(errno.ENODEV, "the disk that was mounted there is gone")
        mounted = next(one for one in (self._nearest(), *self._nearest().parents) if os.path.ismount(one))
        self._device, self._below = device, None if mounted == mounted.parent else os.stat(mounted.parent).st_dev
        return before is not None

    def free(self) -> int:
        """Return the bytes that may still be written."""
        return shutil.disk_usage(self._nearest()).free

    def missing(self, wanted: int, share: float = 1.0) -> int:
        """Return how many bytes have to be freed before `wanted` more leave enough; 0 or less for none.

        share: the part of what evidence leaves free that must stay; default all of it.
        """
        disk = shutil.disk_usage(self._nearest())
        return int(share * min(SPARE * disk.total, MAX_SPARE)) + wanted - disk.free

    def lacks_inodes(self, share: float = 1.0) -> bool:
        """Return whether too few more files can be made, however many bytes are free. share: see missing()."""
        found = os.statvfs(self._nearest())
        return found.f_files > 0 and found.f_favail < share * min(SPARE * found.f_files, MAX_SPARE_FILES)

    def _nearest(self) -> Path:
        return next(one for one in (self._folder, *self._folder.parents) if os.path.lexists(one))
