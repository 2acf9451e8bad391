"""Files that request a picture by appearing in a folder, SN123.trg for part SN123; each gets exactly one inspection.

A file is claimed by moving it into a subfolder, and deleted once the journal has its inspection. So a part may come again
while its last picture waits; a file that is claimed when the agent starts stands for a picture that was not taken, or not
recorded; and the writer of the file sees from its deletion that the verdict is there.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import uuid6

from edge_agent.core import Ledger, PictureRequest, StoredFile
from edge_agent.errors import JournalError
from edge_agent.io.pictures import printable

log = logging.getLogger(__name__)

TAKEN = ".taken"  # the subfolder
LOOK_S = 0.02  # how often the folder is listed
DONE_S = 0.5  # how often the journal is asked which requests are recorded


class TriggerFiles:
    """A core.Triggers of one folder; use from one thread."""

    def __init__(self, station: str, folder: Path, pattern: str, ledger: Ledger) -> None:
        """Set up; the folder is first used by requests().

        Args:
            station: name of the station.
            folder: where the files appear; it need not exist yet.
            pattern: of file names, in any case.
            ledger: knows which requests are recorded.
        """
        self._station, self._folder, self._pattern, self._ledger = station, folder, pattern, ledger
        self._taken = folder / TAKEN
        self._claimed: dict[str, StoredFile] = {}  # those that are not recorded yet
        self._looked_at = self._asked_at = 0.0
        self._recovered = False
        self._problem: str | None = None

    def requests(self) -> Iterator[PictureRequest]:
        """Yield the requests that are new; list the folder at most every LOOK_S seconds."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        since, self._looked_at = self._looked_at or None, now
        try:
            if not self._recovered:
                self._taken.mkdir(exist_ok=True)
                yield from self._recover(now)
                self._recovered = True
            yield from self._new(since, now)
        except JournalError as error:
            self._report(f"cannot be compared with the journal ({error})")
        except OSError as error:
            self._recovered = False
            remedy = {
                errno.ENOENT: "create or mount it",
                errno.EROFS: "mount it for writing; a service of systemd also needs ReadWritePaths= (docs/operation.md)",
            }.get(error.errno or 0, f"let user {os.geteuid()} write there")
            self._report(f"cannot be used ({error.strerror}): {remedy}")
        else:
            self._report(None)
        if now - self._asked_at >= DONE_S:
            self._asked_at = now
            self._delete_recorded()

    def _new(self, since: float | None, now: float) -> Iterator[PictureRequest]:
        """Claim the files that have appeared, the oldest first.

        Args:
            since: when the folder was last listed, in time.monotonic(); None: never.
            now: time.monotonic().
        """
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if fnmatch(entry.name.lower(), self._pattern.lower()) and not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        if entry.is_file(follow_symlinks=False):
                            found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
        for mtime, name in sorted(found):
            # A file server's clock may be wrong: a file that was not there at the last listing is not older than that.
            age = max(0.0, time.time() - mtime)
            at = now - (age if since is None else min(age, now - since))
            claimed = self._taken / f"{uuid6.uuid7()}-{name}"
            try:
                os.rename(self._folder / name, claimed)
            except FileNotFoundError:  # its writer has deleted it
                continue
            file = self._claimed[str(claimed)] = _stored(claimed)
            yield _request(name, at, file)

    def _recover(self, now: float) -> Iterator[PictureRequest]:
        """Yield faults for the files that an earlier run has claimed and not recorded."""
        for claimed in sorted(self._taken.iterdir()):
            if str(claimed) in self._claimed or not claimed.is_file():
                continue
            file = _stored(claimed)
            recorded = self._ledger.seen(self._station, file)
            self._claimed[str(claimed)] = file
            if not recorded:
                name = claimed.name[37:]  # after the UUID and its dash
                yield _request(name, now, file, "the agent stopped before it could inspect this part")

    def _delete_recorded(self) -> None:
        for claimed, file in list(self._claimed.items()):
            try:
                if self._ledger.seen_stats(self._station, {file.path: (file.inode, file.size, file.mtime_ns)}):
                    os.unlink(claimed)
                    del self._claimed[claimed]
            except FileNotFoundError:
                del self._claimed[claimed]
            except (OSError, JournalError) as error:
                log.debug("station %s: %s is deleted later (%s)", self._station, claimed, error)
                return

    def _report(self, problem: str | None) -> None:
        """Log a problem when it starts or changes, and when it is over. problem: None if there is none."""
        if problem and problem != self._problem:
            log.warning("station %s: the trigger folder %s %s", self._station, self._folder, problem)
        elif self._problem and not problem:
            log.warning("station %s: the trigger folder %s works again", self._station, self._folder)
        self._problem = problem


def _stored(claimed: Path) -> StoredFile:
    """Return the entry of a claimed file in the ledger: its path only, as that is never used twice."""
    path = printable(claimed)
    return StoredFile(path, claimed.stat().st_ino, 0, 0, hashlib.sha256(path.encode()).hexdigest())


def _request(name: str, at: float, file: StoredFile, fault: str | None = None) -> PictureRequest:
    return PictureRequest(printable(Path(name).stem), printable(name), at, file, fault)
