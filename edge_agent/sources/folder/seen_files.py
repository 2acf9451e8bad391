"""Files that a folder source has seen in this run, in bounded memory; the ledger knows those of earlier runs."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import NamedTuple

from edge_agent.core import StoredFile


class Stat(NamedTuple):
    """Identifies a version of a file without reading it.

    changed_ns: when its content or its inode was last changed, which no writer can set back, as it can mtime_ns.
    """

    inode: int
    size: int
    mtime_ns: int
    changed_ns: int


def stat_of(path: str) -> Stat | None:
    """Return the file's stat; None if it is not a regular file, such as a symbolic link to itself. Raises OSError."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stat(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class SeenFiles:
    """A set of files of a folder, each in one version, at most `most` of them.

    Each scan of the folder renews the set: files that are not added again between begin_scan and end_scan are removed at
    end_scan.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._files: dict[str, Stat] = {}
        self._before: dict[str, Stat] = {}

    def get(self, path: str) -> Stat | None:
        """Return the version of the file in the set; None if it is not there."""
        return self._files.get(path) or self._before.get(path)

    def has(self, path: str, now: Stat) -> bool:
        """Return whether the file is in the set, in this version."""
        return now == self.get(path)

    def add(self, path: str, now: Stat) -> None:
        """Add a file in this version; do nothing once the set is full."""
        if len(self._files) < self._most:
            self._files[path] = now

    def begin_scan(self) -> None:
        """Start to renew the set."""
        self._before |= self._files  # added to, because the scan before this one may have been interrupted
        self._files = {}

    def end_scan(self) -> None:
        """Remove the files that were not added again."""
        self._before = {}


class RecentFiles:
    """The last `most` files that became frames, by the two keys that the ledger will have for each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def __contains__(self, file: StoredFile) -> bool:
        return any(key in self._keys for key in _keys(file))

    def add(self, file: StoredFile) -> None:
        """Add a file; remove the oldest if there are too many."""
        self._keys.update(dict.fromkeys(_keys(file)))
        while len(self._keys) > 2 * self._most:
            self._keys.popitem(last=False)


def _keys(file: StoredFile) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return the keys of this content at this path, and of this content in this file under any path."""
    return (file.path, file.sha256), (file.inode, file.size, file.mtime_ns, file.sha256)
