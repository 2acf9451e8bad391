"""Files that ask for a picture by appearing in a folder, SN123.trg for part SN123; each is answered once, come what may.

A file is claimed by moving it into a subfolder, and deleted once the journal holds its inspection. So a part may come
again while its last picture waits; a file that is claimed when the agent starts tells of a picture that it could not
take, or not record; and who wrote the file sees by its end that the verdict is there.
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
LOOK_S = 0.02  # how often the folder is looked at
DONE_S = 0.5  # how often the journal is asked what is recorded


class TriggerFiles:
    """The requests of one folder; for one thread."""

    def __init__(self, station: str, folder: Path, pattern: str, ledger: Ledger) -> None:
        self._station, self._folder, self._pattern, self._ledger = station, folder, pattern, ledger
        self._taken = folder / TAKEN
        self._claimed: dict[str, StoredFile] = {}  # what waits for the journal
        self._looked_at = self._asked_at = 0.0
        self._recovered = False
        self._trouble: str | None = None

    def requests(self) -> Iterator[PictureRequest]:
        """Those that are new. Looks at most every LOOK_S seconds."""
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
            self._tell(f"cannot be compared with the journal ({error})")
        except OSError as error:
            self._recovered = False
            remedy = {
                errno.ENOENT: "create or mount it",
                errno.EROFS: "mount it for writing; a service of systemd also needs ReadWritePaths= (docs/operation.md)",
            }.get(error.errno or 0, f"let user {os.geteuid()} write there")
            self._tell(f"cannot be used ({error.strerror}): {remedy}")
        else:
            self._tell(None)
        if now - self._asked_at >= DONE_S:
            self._asked_at = now
            self._delete_recorded()

    def _new(self, since: float | None, now: float) -> Iterator[PictureRequest]:
        """Claim what has appeared, the oldest first. since: the last look (monotonic); None: nobody has looked yet."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if fnmatch(entry.name.lower(), self._pattern.lower()) and not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        if entry.is_file(follow_symlinks=False):
                            found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
        for mtime, name in sorted(found):
            # The clock of a file server may be off: what was not there at the last look is not older than that.
            age = max(0.0, time.time() - mtime)
            at = now - (age if since is None else min(age, now - since))
            claimed = self._taken / f"{uuid6.uuid7()}-{name}"
            try:
                os.rename(self._folder / name, claimed)
            except FileNotFoundError:  # taken back
                continue
            file = self._claimed[str(claimed)] = _stored(claimed)
            yield _request(name, at, file)

    def _recover(self, now: float) -> Iterator[PictureRequest]:
        """Answer what an earlier run has claimed and not answered."""
        for claimed in sorted(self._taken.iterdir()):
            if str(claimed) in self._claimed or not claimed.is_file():
                continue
            file = _stored(claimed)
            answered = self._ledger.seen(self._station, file)
            self._claimed[str(claimed)] = file
            if not answered:
                name = claimed.name[37:]  # behind the UUID and its dash
                yield _request(name, now, file, "the agent stopped before it could inspect this part")

    def _delete_recorded(self) -> None:
        for claimed, file in list(self._claimed.items()):
            try:
                if self._ledger.seen_stat(self._station, file.path, file.inode, file.size, file.mtime_ns):
                    os.unlink(claimed)
                    del self._claimed[claimed]
            except FileNotFoundError:
                del self._claimed[claimed]
            except (OSError, JournalError) as error:
                log.debug("station %s: %s is deleted later (%s)", self._station, claimed, error)
                return

    def _tell(self, trouble: str | None) -> None:
        """Log a trouble when it begins or changes, and its end."""
        if trouble and trouble != self._trouble:
            log.warning("station %s: the trigger folder %s %s", self._station, self._folder, trouble)
        elif self._trouble and not trouble:
            log.warning("station %s: the trigger folder %s is well", self._station, self._folder)
        self._trouble = trouble


def _stored(claimed: Path) -> StoredFile:
    """What the ledger knows a claimed file by: its path alone, as that is never given twice."""
    path = printable(claimed)
    return StoredFile(path, claimed.stat().st_ino, 0, 0, hashlib.sha256(path.encode()).hexdigest())


def _request(name: str, at: float, file: StoredFile, fault: str | None = None) -> PictureRequest:
    return PictureRequest(printable(Path(name).stem), printable(name), at, file, fault)
