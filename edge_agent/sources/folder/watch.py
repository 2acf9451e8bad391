"""Reports which files of a folder were written or moved in, by inotify or by polling; opens and remembers none."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from edge_agent.io.mounts import NETWORK, file_system

log = logging.getLogger(__name__)

POLL_S = 1.0
MOST_PATHS = 10_000  # waiting to be taken; beyond that a whole scan is cheaper

# inotify does not report what another machine writes: network shares, and folders that a host shares with a virtual machine.
_REMOTE = NETWORK | {"9p", "vboxsf", "virtiofs", "fuse.vmhgfs-fuse", "prl_fs"}


class Watch(FileSystemEventHandler):
    """Watches one folder from construction to close(). Raises OSError if it cannot be watched."""

    def __init__(self, folder: str, *, recursive: bool, polling: bool) -> None:
        """Watch a folder from now on. Raises OSError.

        Args:
            folder: absolute path.
            recursive: with its subfolders.
            polling: look again and again, as inotify is silent on network folders.
        """
        self.folder = os.path.realpath(folder)  # inotify would watch a symbolic link itself
        self.polling = polling
        self._name, self._inode = folder, _inode(folder)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._finished: dict[str, None] = {}
        self._touched: dict[str, None] = {}
        self._missed = False
        self._observer = _observer(polling)
        # A folder made or moved in here may hold files whose own events came before it was watched.
        wanted = [FileClosedEvent, FileMovedEvent, *([FileCreatedEvent, FileModifiedEvent] if polling else [])]
        wanted += [DirCreatedEvent, DirMovedEvent] if recursive else []
        try:
            self._observer.schedule(self, self.folder, recursive=recursive, event_filter=wanted)
            self._observer.start()
        except OSError:
            self._observer.stop()
            raise

    @property
    def alive(self) -> bool:
        """Return whether the folder is still the same one, and is still watched."""
        try:
            same = _inode(self._name) == self._inode
        except OSError:
            return False
        return same and all(emitter.is_alive() for emitter in self._observer.emitters)

    def take(self, timeout_s: float) -> tuple[list[str], list[str], bool]:
        """Return what happened since the last call; wait up to timeout_s for it.

        Returns:
            The paths that were closed by their writer or moved in; the paths that only changed, and may not be complete;
            whether something was missed, so that the folder has to be scanned.
        """
        self._changed.wait(timeout_s)
        with self._lock:
            self._changed.clear()
            taken = list(self._finished), list(self._touched), self._missed
            self._finished, self._touched, self._missed = {}, {}, False
        return taken

    def close(self) -> None:
        """Stop watching."""
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join(2 * POLL_S)  # with a limit: a poll may hang on a dead network share

    def dispatch(self, event: FileSystemEvent) -> None:
        """Note an event; called by the observer's thread."""
        path = os.fsdecode(event.dest_path if isinstance(event, FileMovedEvent) else event.src_path)
        with self._lock:
            if event.is_directory or len(self._finished) + len(self._touched) >= MOST_PATHS:
                self._missed = True
            elif path:  # a file that was moved out has no destination
                (self._touched if self.polling else self._finished)[path] = None
            self._changed.set()


def needs_polling(folder: Path) -> bool:
    """Return whether inotify reports nothing there, as on network file systems."""
    return file_system(folder) in _REMOTE


def _observer(polling: bool) -> BaseObserver:
    if polling or sys.platform != "linux":
        return PollingObserver(timeout=POLL_S)
    from watchdog.observers.inotify import InotifyObserver  # does not import on other systems

    # Without full events a file moved in from elsewhere is reported as created, as one being written is.
    return InotifyObserver(generate_full_events=True)


def _inode(folder: str) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino
