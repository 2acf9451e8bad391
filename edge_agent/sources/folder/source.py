"""Gives every picture that is put into a folder, once; changes nothing there, and leaves cameras to others."""

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
from edge_agent.errors import JournalError, PictureError
from edge_agent.io import pictures
from edge_agent.sources.folder.seen_files import Given, Noted, Stat, stat_of
from edge_agent.sources.folder.watch import Watch, needs_polling
from edge_agent.sources.names import Names

log = logging.getLogger(__name__)

TICK_S = 0.2  # how often a stop is looked for
RETRY_S = 0.5  # how often a folder that is gone is looked for
TROUBLE_S = 2.0  # how often a folder is scanned of which a part cannot be read
YOUNG_S = 30.0  # how old a file has to be before a failure to read or decode it is held against it
MOST_KNOWN = 200_000  # files that are kept in mind; for those beyond, the ledger is asked at every scan
MOST_GIVEN = 4096  # frames that may wait to be recorded; a line holds some hundred


class FolderSource:
    """A core.Source of the pictures in a folder, those that lie there at the start too, in the order they were written.

    A file is read once its writer has closed it or moved it in. One that is only found there, by a scan or by polling,
    is read once it has not changed for `settle_s`. A picture that cannot be decoded becomes a frame with a fault.
    taken_at is when the file was modified, part_id its name without the suffix.
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
        settle_s: float = 2.0,
        max_megapixels: float = 100,
        bit_depth: int = 16,
    ) -> None:
        """patterns: of file names, in any case; none means every picture format. Hidden files and unfinished ones
        (*.part, *.tmp and the like) never match. polling: None means only where inotify sees nothing. rescan_s: seconds
        between scans for what the operating system did not tell. max_megapixels, bit_depth: see pictures.decode.
        """
        self.station = station
        self._events = Counter({"vanished": 0, "unreadable": 0})
        self._path = os.fspath(path)
        self._ledger = ledger
        self._names = Names(tuple(pattern.lower() for pattern in patterns), recursive)
        self._polling, self._rescan_s, self._settle_s = polling, rescan_s, settle_s
        self._max_megapixels, self._bit_depth = max_megapixels, bit_depth
        self._seq = 0
        self._trouble: str | None = None
        self._scan: Iterator[None] | None = None  # the one that is being made
        self._next_scan = 0.0
        # Files that were found, and since when (monotonic) they are as they are.
        self._settling: OrderedDict[str, tuple[Stat, float]] = OrderedDict()
        self._known = Noted(MOST_KNOWN)  # those that need not be read
        self._refused = Noted(MOST_KNOWN)  # those that a frame has told to be unreadable
        self._given = Given(MOST_GIVEN)  # what the ledger may not know yet

    def counts(self) -> SourceCounts:
        """Count frames, and files that vanished before they were read or could not be read. Call from any thread."""
        return SourceCounts(self._seq, events=dict(self._events))

    def status(self) -> SourceStatus:
        """Report whether the folder can be read now. Call from any thread."""
        return SourceStatus(self._trouble is None, self._trouble)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield every new picture until `stop` is set. While the folder is not there, wait for it."""
        watch: Watch | None = None
        try:
            while not stop.is_set():
                if watch is None or not watch.alive:
                    if watch is not None:
                        watch.close()
                    # In this order: what comes after a scan and before a watch would be seen by neither.
                    watch = self._watch()
                    self._scan_anew()
                if watch is None:
                    stop.wait(RETRY_S)
                    continue
                try:
                    yield from self._new_frames(watch, stop)
                except JournalError as error:  # a scan finds again what is dropped here
                    self._tell(f"cannot be compared with the journal ({error})")
                    self._scan_anew()
                    stop.wait(TROUBLE_S)
        finally:
            if watch is not None:
                watch.close()

    def _new_frames(self, watch: Watch, stop: Event) -> Iterator[Frame]:
        """What has become ready by now, waiting a tick for it, or scanning for as long."""
        finished, touched, missed = watch.take(0.0 if self._scan else TICK_S)
        for path in touched:
            if self._names.match(path, watch.folder) and (now := self._look(path)):
                self._settle(path, now)
        if missed:
            self._next_scan = 0.0
        if self._scan is None and time.monotonic() >= self._next_scan:
            self._scan = self._scanning(watch.folder)
            self._next_scan = time.monotonic() + self._rescan_s
        if self._scan and _advanced_to_its_end(self._scan):
            self._scan = None
            if self._trouble:
                self._next_scan = time.monotonic() + min(TROUBLE_S, self._rescan_s)
        for _, path, is_finished in sorted(self._ready(finished, watch.folder, stop)):
            if stop.is_set():
                return
            if (frame := self._frame(path, finished=is_finished)) is not None:
                yield frame

    def _scan_anew(self) -> None:
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
                    "station %s: polls %s, as no inotify watch is to be had (%s): raise fs.inotify.max_user_watches "
                    "and max_user_instances with sysctl", self.station, self._path, error.strerror,
                )  # fmt: skip
                watch = Watch(self._path, recursive=self._names.recursive, polling=True)
        except OSError as error:
            self._tell(_trouble(error, self._path))
            return None
        log.info("station %s: watches %s by %s", self.station, self._path, "polling" if watch.polling else "inotify")
        return watch

    def _tell(self, trouble: str | None) -> None:
        """Log a trouble with the folder when it begins or changes, and its end."""
        if trouble and trouble != self._trouble:
            log.warning("station %s: %s %s; trying again until it is well", self.station, self._path, trouble)
        elif self._trouble and not trouble:
            log.warning("station %s: %s is well", self.station, self._path)
        self._trouble = trouble

    def _scanning(self, folder: str) -> Iterator[None]:
        """Let every file that may be new settle and forget those that are gone, yielding in between."""
        self._known.begin_scan()
        self._refused.begin_scan()
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
            if self._known.has(path, now) or self._is_recorded(path, now):
                self._known.note(path, now)
                continue
            if self._refused.has(path, now):
                self._refused.note(path, now)
            fresh.append((path, now))
        # All at one moment, however long the scan took, so that they settle together and come in their order.
        moment = time.monotonic()
        for path, now in fresh:
            if not self._known.has(path, now):  # events have gone on meanwhile
                self._settle(path, now, moment)
        self._tell(_trouble(errors[0], folder) if errors else None)
        self._known.end_scan()
        self._refused.end_scan()

    def _settle(self, path: str, now: Stat, since: float | None = None) -> None:
        """Have the file read once it has stayed like this for settle_s."""
        if path not in self._settling or self._settling[path][0] != now:
            self._settling[path] = now, time.monotonic() if since is None else since
            self._settling.move_to_end(path)

    def _ready(self, finished: Sequence[str], folder: str, stop: Event) -> Iterator[tuple[int, str, bool]]:
        """(mtime_ns, path, whether its writer has finished it) of the files that are to be read now."""
        for path in finished:
            self._settling.pop(path, None)
            if self._names.match(path, folder) and (now := self._look(path)):
                yield now.mtime_ns, path, True
        settled = time.monotonic() - self._settle_s
        while self._settling and not stop.is_set():
            path, (before, since) = next(iter(self._settling.items()))
            if since > settled:
                return
            del self._settling[path]
            now = self._look(path)
            if now == before:
                yield before.mtime_ns, path, False
            elif now:
                self._settle(path, now)

    def _look(self, path: str) -> Stat | None:
        """The file's stat now; None where there is none to be had: it is gone, or left to the next scan."""
        try:
            return stat_of(path)
        except OSError as error:
            self._count(path, error)
            return None

    def _count(self, path: str, error: OSError) -> None:
        self._events["vanished" if isinstance(error, FileNotFoundError) else "unreadable"] += 1
        log.warning("station %s: %s", self.station, pictures.unreadable(path, error))

    def _frame(self, path: str, *, finished: bool) -> Frame | None:
        """The frame of a file that is new; None if it is not, or if it is too early to tell."""
        now = self._look(path)
        if now is None or self._known.has(path, now):
            return None
        if self._is_recorded(path, now):
            self._known.note(path, now)
            return None
        try:
            file, data = pictures.read(path, max_bytes=pictures.max_bytes(self._max_megapixels))
        except PictureError:  # it is being written
            self._settle(path, now)
            return None
        except OSError as error:
            return self._frame_of_unreadable(path, now, error)
        now = Stat(file.inode, file.size, file.mtime_ns)
        if file in self._given or self._ledger.seen(self.station, file):
            self._known.note(path, now)
            return None
        pixels, fault = self._decode(data, file.path)
        # Its writer may only have paused, or closed it empty to open it again.
        if fault and _is_young(now) and not (finished and now.size):
            self._settle(path, now)
            return None
        self._known.note(path, now)
        self._given.add(file)
        return self._new_frame(path, now, pixels, file, fault)

    def _decode(self, data: bytes | None, name: str) -> tuple[np.ndarray, str | None]:
        """The pixels, and why there are none."""
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
        """A frame that says so, once; the file stays new, and every scan has it tried again."""
        if isinstance(error, FileNotFoundError):
            self._count(path, error)
        elif _is_young(now):  # who copied it here may have yet to set its permissions
            self._settle(path, now)
        elif not self._refused.has(path, now):
            self._refused.note(path, now)
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
        return self._ledger.seen_stat(self.station, pictures.printable(path), *now)


def _is_young(now: Stat) -> bool:
    return abs(time.time() - now.mtime_ns / 1e9) < YOUNG_S


def _advanced_to_its_end(scan: Iterator[None]) -> bool:
    """Work on a scan for a tick; say whether it is done."""
    until = time.monotonic() + TICK_S
    return all(time.monotonic() < until for _ in scan)


def _trouble(error: OSError, folder: str) -> str:
    remedy = {
        FileNotFoundError: "create or mount it, or correct the path",
        NotADirectoryError: "give a folder",
        PermissionError: f"let user {os.geteuid()} read and enter it",
    }.get(type(error), "check the disk or the network share")
    inside = f" at {pictures.printable(error.filename)}" if error.filename not in (None, folder) else ""
    return f"cannot be read ({error.strerror}{inside}): {remedy}"
