"""Whether the files of an open SQLite journal are still those that SQLite works with; for the one connection that writes.

SQLite notices neither that its log was deleted or overwritten nor that its file was cut: it goes on writing, and what it
writes cannot be read at the next start. Its index of the log (-shm) says what has to be in the log (-wal), see
https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from edge_agent.errors import JournalError, JournalGone, JournalOverwritten
from edge_agent.journal.database import DISK_FAILS

MAGIC = b"SQLite format 3\0"
_FILE_HEADER = struct.Struct(">16sH10xI")  # magic, bytes in a page, pages in the file
_INDEX_HEADER = struct.Struct(
    "=12xBxHI4x8s8s56xI"
)  # is set, bytes in a page, frames, checksum, salt, frames in the file
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes

RESTART = "start the agent again; what it had recorded is in the file"
RESCUE = (
    "nothing more is written to it: keep copies of the file and of its -wal, then restore a backup or rescue the rows "
    "with sqlite3's .recover, and start the agent again"
)
LOST = (
    "its newest rows are lost: start the agent again, which inspects once more whatever files of theirs are still there"
)


class SqliteFiles:
    """The file, its log and the log's index, held open as they were when the writing connection had opened them.

    Closing any descriptor of them would free SQLite's own locks, which POSIX gives to a process: close() comes last.
    """

    def __init__(self, path: Path) -> None:
        """path: of the journal; the writing connection has used it already."""
        self._path = path
        self._open = {suffix: os.open(f"{path}{suffix}", os.O_RDONLY | os.O_CLOEXEC) for suffix in ("", "-wal", "-shm")}
        self._size = 0  # bytes of the file at the last check

    def close(self) -> None:
        """Close the descriptors; call it once all connections of this process to the journal are closed."""
        for opened in self._open.values():
            os.close(opened)

    def check(self) -> None:
        """Check all three; call while no other connection may write.

        Raises:
            JournalGone: one of them was deleted or replaced. What was recorded is safe once the connection is closed.
            JournalOverwritten: the content of the file or of the log is not SQLite's. The connection must not be closed,
                as it would write what is in the log into the file.
            JournalError: the disk does not answer; trying again may help.
        """
        try:
            self._check()
        except OSError as error:
            raise JournalError(f"journal {self._path}: {error.strerror}: {DISK_FAILS}") from error

    def _check(self) -> None:
        for suffix, opened in self._open.items():
            if not _is_same(f"{self._path}{suffix}", opened):
                what = f"its {self._path.name}{suffix}" if suffix else "the file"
                remedy = RESTART if suffix else "put it back if it was moved, and start the agent again"
                raise JournalGone(
                    f"journal {self._path}: {what} was deleted or replaced while the agent used it, so nothing more can be "
                    f"recorded in it: {remedy}"
                )
        # Compare the file with its header, and the log with its index: its size, its salt and its last checksum.
        index = os.pread(self._open["-shm"], _INDEX_HEADER.size, 0)
        if len(index) < _INDEX_HEADER.size:
            raise self._overwritten(f"{self._path.name}-shm was cut", RESTART)
        is_set, page, frames, checksum, salt, frames_in_file = _INDEX_HEADER.unpack(index)
        frames *= is_set
        if fault := self._fault_of_file(frames_in_file >= frames):
            raise self._overwritten(fault, RESCUE)
        if frames and (fault := self._fault_of_log(page if page > 1 else 65536, frames, checksum, salt)):
            raise self._overwritten(fault, LOST)

    def _overwritten(self, fault: str, remedy: str) -> JournalOverwritten:
        return JournalOverwritten(f"journal {self._path}: {fault} while the agent used it: {remedy}")

    def _fault_of_file(self, has_all: bool) -> str | None:
        """has_all: nothing is in the log that is not in the file, too. Otherwise a crash may have left the file short."""
        start = os.pread(self._open[""], _FILE_HEADER.size, 0)
        if len(start) < _FILE_HEADER.size or not start.startswith(MAGIC):
            return "the beginning of the file was overwritten or cut off"
        _, page, pages = _FILE_HEADER.unpack(start)
        before, self._size = self._size, os.fstat(self._open[""]).st_size
        if self._size < (page if page > 1 else 65536) * pages and (has_all or self._size < before):
            return f"the file was cut to {self._size} bytes"
        return None

    def _fault_of_log(self, page: int, frames: int, checksum: bytes, salt: bytes) -> str | None:
        log = self._open["-wal"]
        size, last = os.fstat(log).st_size, _LOG_HEADER + (frames - 1) * (_FRAME_HEADER + page)
        if size < last + _FRAME_HEADER + page:
            return f"{self._path.name}-wal was cut to {size} bytes"
        frame = os.pread(log, _FRAME_HEADER, last)
        expected = salt + struct.pack(">2I", *struct.unpack("=2I", checksum))
        if os.pread(log, _LOG_HEADER, 0)[16:24] != salt or frame[8:] != expected:
            return f"{self._path.name}-wal was overwritten"
        return None


def _is_same(path: str, opened: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(opened))
    except FileNotFoundError:
        return False
