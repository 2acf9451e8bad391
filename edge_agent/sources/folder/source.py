"""Yields every picture that is put into a folder, once; changes nothing in the folder."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np

from edge_agent.core import Frame, Ledger, SourceCounts, SourceStatus, StoredFile
from edge_agent.errors import EdgeAgentError, JournalError, PictureError
from edge_agent.io import pictures
from edge_agent.sources.folder.seen_files import RecentFiles, SeenFiles, Stat, stat_of
from edge_agent.sources.folder.watch import Watch, needs_polling
from edge_agent.sources.names import Names

log = logging.getLogger(__name__)

TICK_S = 0.2  # how often the stop event is checked
RETRY_S = 0.5  # how often a missing folder is tried again
ERROR_S = 2.0  # how often a folder is scanned while a part of it cannot be read
YOUNG_S = 30.0  # a younger file that cannot be read or decoded may still be being written
MOST_SEEN = 200_000  # files that are remembered; for those beyond, the ledger is asked at every scan
MOST_RECENT = 4096  # files whose frames may not be recorded yet; a line holds a few hundred frames


class FolderSource:
    """A core.Source of the pictures in a folder, with those that are there at the start, in the order they were written.

    A file is read once its writer has closed it or moved it in. A file that is found by a scan or by polling is read once
    it has not changed for `unchanged_s`. A picture that cannot be decoded becomes a frame with a fault. taken_at is the
    file's modification time, part_id its name without the suffix.
    """

    live = False

    def __init__(
        self,
        station: str,
        path: str | os.PathLike[str],
        ledger: Ledger,
        *,
        recursive: bool = False,
        patterns: Sequence[str] = (),
        polling: bool | None = None,
        rescan_s: float = 60.0,
        unchanged_s: float = 2.0,
        max_megapixels: float = 100,
        bit_depth: int = 16,
    ) -> None:
        """Set up; the folder is first read by frames().

        Args:
            station: name of the station.
            path: the folder; it need not exist yet.
            ledger: knows which files were inspected.
            recursive: read subfolders too.
            patterns: of file names, in any case; none means every picture format. Hidden files and unfinished ones
                (*.part, *.tmp and the like) never match.
            polling: None polls only where inotify reports nothing.
            rescan_s: seconds between scans for files that the operating system did not report.
            unchanged_s: seconds without a change after which a file that was only found is read.
            max_megapixels, bit_depth: see pictures.decode.
        """
        self.station = station
        self._events = Counter({"vanished": 0, "unreadable": 0, "failed": 0})
        self._path = os.fspath(path)
        self._ledger = ledger
        self._names = Names(tuple(pattern.lower() for pattern in patterns), recursive)
        self._polling, self._rescan_s, self._unchanged_s = polling, rescan_s, unchanged_s
        self._max_megapixels, self._bit_depth = max_megapixels, bit_depth
        self._seq = 0
        self._problem: str | None = None
        self._scan: Iterator[None] | None = None  # the scan in progress
        self._next_scan = 0.0
        # Files that were found, and since when (monotonic) they have not changed.
        self._waiting: OrderedDict[str, tuple[Stat, float]] = OrderedDict()
        self._seen = SeenFiles(MOST_SEEN)  # files that need not be read
        self._unreadable = SeenFiles(MOST_SEEN)  # files that a frame has reported as unreadable
        self._recent = RecentFiles(MOST_RECENT)  # files that the ledger may not know yet

    def counts(self) -> SourceCounts:
        """Count frames, and files that vanished before they were read, were unreadable or failed. Call from any thread."""
        return SourceCounts(self._seq, events=dict(self._events))

    def status(self) -> SourceStatus:
        """Report whether the folder can be read now. Call from any thread."""
        return SourceStatus(self._problem is None, self._problem)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield every new picture until `stop` is set. While the folder is not there, wait for it."""
        watch: Watch | None = None
        try:
            while not stop.is_set():
                if watch is None or not watch.alive:
                    if watch is not None:
                        watch.close()
                    # In this order: a file that comes after a scan and before a watch would be missed by both.
                    watch = self._watch()
                    self._restart_scan()
                if watch is None:
                    stop.wait(RETRY_S)
                    continue
                try:
                    yield from self._new_frames(watch, stop)
                except JournalError as error:  # the next scan finds again what is dropped here
                    self._report(f"cannot be compared with the journal ({error})")
                    self._restart_scan()
                    stop.wait(ERROR_S)
        finally:
            if watch is not None:
                watch.close()

    def _new_frames(self, watch: Watch, stop: Event) -> Iterator[Frame]:
        """Yield the frames of files that are ready now; wait or scan for one tick before."""
        finished, touched, missed = watch.take(0.0 if self._scan else TICK_S)
        for path in touched:
            if self._names.match(path, watch.folder) and (now := self._stat(path)):
                self._wait_unchanged(path, now)
        if missed:
            self._next_scan = 0.0
        if self._scan is None and time.monotonic() >= self._next_scan:
            self._scan = self._scan_folder(watch.folder)
            self._next_scan = time.monotonic() + self._rescan_s
        if self._scan and _finished_scan(self._scan):
            self._scan = None
            if self._problem:
                self._next_scan = time.monotonic() + min(ERROR_S, self._rescan_s)
        for _, path, is_finished in sorted(self._ready(finished, watch.folder, stop)):
            if stop.is_set():
                return
            if (frame := self._frame_whatever_happens(path, stop, finished=is_finished)) is not None:
                yield frame

    def _restart_scan(self) -> None:
        self._scan, self._next_scan = None, 0.0

    def _watch(self) -> Watch | None:
        polling = needs_polling(Path(self._path)) if self._polling is None else self._polling
        try:
            try:
                watch = Watch(self._path, recursive=self._names.recursive, polling=polling)
            except OSError as error:
                if polling or error.errno not in (errno.ENOSPC, errno.EMFILE):
                    raise
                log.warning(
                    "station %s: polls %s, as no inotify watch is available (%s): raise fs.inotify.max_user_watches "
                    "and max_user_instances with sysctl", self.station, self._path, error.strerror,
                )  # fmt: skip
                watch = Watch(self._path, recursive=self._names.recursive, polling=True)
        except OSError as error:
            self._report(_problem_of(error, self._path))
            return None
        log.info("station %s: watches %s by %s", self.station, self._path, "polling" if watch.polling else "inotify")
        return watch

    def _report(self, problem: str | None) -> None:
        """Log a problem with the folder when it starts or changes, and when it is over. problem: None if there is none."""
        if problem and problem != self._problem:
            log.warning("station %s: %s %s; trying again until it works", self.station, self._path, problem)
        elif self._problem and not problem:
            log.warning("station %s: %s can be read again", self.station, self._path)
        self._problem = problem

    def _scan_folder(self, folder: str) -> Iterator[None]:
        """Find the files that may be new, and forget those that are gone; yield after each file."""
        self._seen.begin_scan()
        self._unreadable.begin_scan()
        fresh: list[tuple[str, Stat]] = []
        errors: list[OSError] = []
        for path in self._names.files(folder, errors):
            yield
            try:
                now = stat_of(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.append(error)
                continue
            if now is None:
                continue
            if self._seen.has(path, now) or self._is_recorded(path, now):
                self._seen.add(path, now)
                continue
            if self._unreadable.has(path, now):
                self._unreadable.add(path, now)
            fresh.append((path, now))
        # All with one time, however long the scan took, so that they are ready together and are read in order.
        moment = time.monotonic()
        for path, now in fresh:
            if not self._seen.has(path, now):  # it may have been read meanwhile, after an event
                self._wait_unchanged(path, now, moment)
        self._report(_problem_of(errors[0], folder) if errors else None)
        self._seen.end_scan()
        self._unreadable.end_scan()

    def _wait_unchanged(self, path: str, now: Stat, since: float | None = None) -> None:
        """Have the file read once it has not changed for unchanged_s. since: monotonic time; None: now."""
        if path not in self._waiting or self._waiting[path][0] != now:
            self._waiting[path] = now, time.monotonic() if since is None else since
            self._waiting.move_to_end(path)

    def _ready(self, finished: Sequence[str], folder: str, stop: Event) -> Iterator[tuple[int, str, bool]]:
        """Yield (mtime_ns, path, whether its writer has closed it) of the files to read now."""
        for path in finished:
            self._waiting.pop(path, None)
            if self._names.match(path, folder) and (now := self._stat(path)):
                yield now.mtime_ns, path, True
        latest = time.monotonic() - self._unchanged_s
        while self._waiting and not stop.is_set():
            path, (before, since) = next(iter(self._waiting.items()))
            if since > latest:
                return
            del self._waiting[path]
            now = self._stat(path)
            if now == before:
                yield before.mtime_ns, path, False
            elif now:
                self._wait_unchanged(path, now)

    def _stat(self, path: str) -> Stat | None:
        """Return the file's stat; None if it is gone, or cannot be read before the next scan."""
        try:
            return stat_of(path)
        except OSError as error:
            self._count(path, error)
            return None

    def _count(self, path: str, error: OSError) -> None:
        self._events["vanished" if isinstance(error, FileNotFoundError) else "unreadable"] += 1
        log.warning("station %s: %s", self.station, pictures.unreadable(path, error))

    def _frame_whatever_happens(self, path: str, stop: Event, *, finished: bool) -> Frame | None:
        """Return _frame(); for an error of any other kind, which the same file would cause at every start, its fault."""
        try:
            return self._frame(path, stop, finished=finished)
        except EdgeAgentError:
            raise
        except Exception as error:
            self._events["failed"] += 1
            log.exception("station %s: %s cannot be inspected", self.station, pictures.printable(path))
            if (now := self._stat(path)) is None:
                return None
            self._seen.add(path, now)
            fault = (
                f"{pictures.printable(path)}: cannot be inspected ({type(error).__name__}): see the log, store it again"
            )
            return self._new_frame(path, now, pictures.nothing(), None, fault)

    def _frame(self, path: str, stop: Event, *, finished: bool) -> Frame | None:
        """Return the frame of a new file; None if it is not new, or may not be complete yet."""
        now = self._stat(path)
        if now is None or self._seen.has(path, now):
            return None
        if self._is_recorded(path, now):
            self._seen.add(path, now)
            return None
        try:
            file, data = pictures.read(path, max_bytes=pictures.max_bytes(self._max_megapixels), stop=stop)
        except PictureError:  # it changed while it was read
            self._wait_unchanged(path, now)
            return None
        except OSError as error:
            return self._frame_of_unreadable(path, now, error)
        now = Stat(file.inode, file.size, file.mtime_ns)
        if file in self._recent or self._ledger.seen(self.station, file):
            self._seen.add(path, now)
            return None
        pixels, fault = self._decode(data, file.path)
        # The writer may only have paused, or closed an empty file to open it again.
        if fault and data is not None and _is_young(now) and not (finished and now.size):
            self._wait_unchanged(path, now)
            return None
        self._seen.add(path, now)
        self._recent.add(file)
        return self._new_frame(path, now, pixels, file, fault)

    def _decode(self, data: bytes | None, name: str) -> tuple[np.ndarray, str | None]:
        """Return the pixels, and why there are none."""
        try:
            pixels = pictures.decode_bytes(
                data,
                name,
                max_megapixels=self._max_megapixels,
                bit_depth=self._bit_depth,
                min_side=pictures.MIN_SIDE,
            )
        except PictureError as error:
            return pictures.nothing(), str(error)
        return pixels, None

    def _frame_of_unreadable(self, path: str, now: Stat, error: OSError) -> Frame | None:
        """Return a frame with the reason, once. The file stays new, and every scan tries it again."""
        if isinstance(error, FileNotFoundError):
            self._count(path, error)
        elif _is_young(now):  # its permissions may not have been set yet
            self._wait_unchanged(path, now)
        elif not self._unreadable.has(path, now):
            self._unreadable.add(path, now)
            self._count(path, error)
            return self._new_frame(path, now, pictures.nothing(), None, pictures.unreadable(path, error))
        return None

    def _new_frame(self, path: str, now: Stat, pixels: np.ndarray, file: StoredFile | None, fault: str | None) -> Frame:
        self._seq += 1
        return Frame(
            station=self.station,
            seq=self._seq - 1,
            taken_at=pictures.modified_at(now.mtime_ns),
            pixels=pixels,
            part_id=pictures.printable(Path(path).stem),
            origin=pictures.printable(path),
            file=file,
            fault=fault,
        )

    def _is_recorded(self, path: str, now: Stat) -> bool:
        try:
            return self._ledger.seen_stat(self.station, pictures.printable(path), *now)
        except EdgeAgentError:
            raise
        except Exception:  # of a stat that no database can compare; its frame will say so
            return False


def _is_young(now: Stat) -> bool:
    return abs(time.time() - now.mtime_ns / 1e9) < YOUNG_S


def _finished_scan(scan: Iterator[None]) -> bool:
    """Continue a scan for one tick; return whether it is finished."""
    until = time.monotonic() + TICK_S
    return all(time.monotonic() < until for _ in scan)


def _problem_of(error: OSError, folder: str) -> str:
    remedy = {
        FileNotFoundError: "create or mount it, or correct the path",
        NotADirectoryError: "give a folder",
        PermissionError: f"let user {os.geteuid()} read and enter it",
    }.get(type(error), "check the disk or the network share")
    inside = f" at {pictures.printable(error.filename)}" if error.filename not in (None, folder) else ""
    return f"cannot be read ({error.strerror}{inside}): {remedy}"
