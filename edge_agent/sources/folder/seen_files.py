"""What a folder source remembers of files, in bounded memory; what was inspected in earlier runs is the ledger's to know."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import NamedTuple

from edge_agent.core import StoredFile


class Stat(NamedTuple):
    """What tells one version of a file from another without reading it."""

    inode: int
    size: int
    mtime_ns: int


def stat_of(path: str) -> Stat | None:
    """The file's stat; None for what is no regular file, such as a symbolic link to itself. Raises OSError."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return Stat(found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


class Noted:
    """Files of a folder of which something is noted, in the version it is true of, `most` at a time.

    A scan of the folder rolls the notes over: between begin_scan and end_scan it notes again what it still finds, and
    the rest is forgotten. Until then the old notes hold.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._notes: dict[str, Stat] = {}
        self._before: dict[str, Stat] = {}

    def has(self, path: str, now: Stat) -> bool:
        return now in (self._notes.get(path), self._before.get(path))

    def note(self, path: str, now: Stat) -> None:
        if len(self._notes) < self._most:
            self._notes[path] = now

    def begin_scan(self) -> None:
        self._before |= self._notes  # and not only those: the scan before this one may have been broken off
        self._notes = {}

    def end_scan(self) -> None:
        self._before = {}


class Given:
    """The last `most` files that became frames, by the two names that the ledger will know each by."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def __contains__(self, file: StoredFile) -> bool:
        return any(name in self._names for name in _names(file))

    def add(self, file: StoredFile) -> None:
        self._names.update(dict.fromkeys(_names(file)))
        while len(self._names) > 2 * self._most:
            self._names.popitem(last=False)


def _names(file: StoredFile) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """This content at this path, and this content in this very file under whatever path."""
    return (file.path, file.sha256), (file.inode, file.size, file.mtime_ns, file.sha256)
