"""Reports which files of a folder were written, moved in or linked in, by inotify; opens and remembers none."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver

from edge_agent.io.mounts import LOCAL, file_system

STOP_S = 2.0  # that the observer's thread may take to end
MOST_PATHS = 10_000  # waiting to be taken; beyond that a whole scan is cheaper


class Taken(NamedTuple):
    """What happened in a folder since it was last asked.

    finished: the paths that were closed by their writer or moved in, each with where in the folder it was moved from, if
    it was. linked: the paths that links were made at. missed: something else was missed, so that the folder has to be
    scanned.
    """

    finished: dict[str, str | None]
    linked: list[str]
    missed: bool


class Watch(FileSystemEventHandler):
    """Watches one folder from construction to close(). Raises OSError if it cannot be watched."""

    def __init__(self, folder: str, *, recursive: bool, polling: bool) -> None:
        """Watch a folder from now on. Raises OSError.

        Args:
            folder: absolute path.
            recursive: with its subfolders.
            polling: report nothing, as inotify is silent there: the folder has to be scanned again and again.
        """
        self.folder = os.path.realpath(folder)  # inotify would watch a symbolic link itself
        self.polling = polling
        self._name, self._inode = folder, _inode(folder)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._finished: dict[str, str | None] = {}
        self._linked: dict[str, None] = {}
        self._missed = False
        self._observer: BaseObserver | None = None
        if polling:
            os.scandir(self.folder).close()
            return
        self._observer = _observer()
        # A folder made or moved in here may hold files whose own events came before it was watched.
        wanted = [FileClosedEvent, FileMovedEvent, FileCreatedEvent]
        wanted += [DirCreatedEvent, DirMovedEvent] if recursive else []
        try:
            self._observer.schedule(self, self.folder, recursive=recursive, event_filter=wanted)
            self._observer.start()
        except OSError:
            self._observer.stop()
            raise

    @property
    def device(self) -> int:
        """Return the number of the file system that the folder lies on."""
        return self._inode[0]

    @property
    def alive(self) -> bool:
        """Return whether the folder is still the same one, and is still watched."""
        try:
            same = _inode(self._name) == self._inode
        except OSError:
            return False
        return same and (self._observer is None or all(emitter.is_alive() for emitter in self._observer.emitters))

    def take(self, timeout_s: float) -> Taken:
        """Return what happened since the last call; wait up to timeout_s for it."""
        self._changed.wait(timeout_s)
        with self._lock:
            self._changed.clear()
            taken = Taken(self._finished, list(self._linked), self._missed)
            self._finished, self._linked, self._missed = {}, {}, False
        return taken

    def close(self) -> None:
        """Stop watching."""
        if self._observer is None:
            return
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join(STOP_S)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Note an event; called by the observer's thread."""
        path = os.fsdecode(event.dest_path if isinstance(event, FileMovedEvent) else event.src_path)
        is_created = isinstance(event, FileCreatedEvent)
        if is_created and not _is_link(path):  # it is being written: its writer will close it
            return
        with self._lock:
            if event.is_directory or len(self._finished) + len(self._linked) >= MOST_PATHS:
                self._missed = True
            elif path and is_created:
                self._linked[path] = None
            elif path:  # a file that was moved out has no destination
                moved_from = os.fsdecode(event.src_path) if isinstance(event, FileMovedEvent) else ""
                self._finished[path] = moved_from or None
            self._changed.set()


def needs_polling(folder: Path) -> bool:
    """Return whether inotify may report nothing there: on every file system that is not known to be of this machine alone.

    Network shares are silent, and so are folders that a host shares with a container or a virtual machine.
    """
    return sys.platform != "linux" or file_system(folder) not in LOCAL


def _observer() -> BaseObserver:
    from watchdog.observers.inotify import InotifyObserver  # does not import on other systems

    # Without full events a file moved in from elsewhere is reported as created, as one being written is.
    return InotifyObserver(generate_full_events=True)


def _is_link(path: str) -> bool:
    """Return whether a new name is a symbolic link, or a further name of a file, of which no close is reported."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)


def _inode(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino
