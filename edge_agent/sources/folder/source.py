"""Yields every picture that is put into a folder, once; changes nothing in the folder."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np

from edge_agent.core import Frame, Ledger, SourceCounts, SourceStatus, StoredFile
from edge_agent.errors import EdgeAgentError, JournalError, PictureError
from edge_agent.io import pictures
from edge_agent.sources.folder.seen_files import RecentFiles, SeenFiles, Stat, stat_of
from edge_agent.sources.folder.watch import Taken, Watch, needs_polling
from edge_agent.sources.names import Names, is_passed_over
from edge_agent.sources.passed_over import MOST_COUNTED, SUBFOLDERS, PassedOver, describe, is_likely_picture, kind_of

log = logging.getLogger(__name__)

TICK_S = 0.2  # how often the stop event is checked
RETRY_S = 0.5  # how often a missing folder is tried again
ERROR_S = 2.0  # how often a folder is scanned while a part of it cannot be read
POLL_S = 1.0  # the pause between scans where inotify reports nothing
YOUNG_S = 30.0  # a file that has not changed for less, and cannot be read or decoded, may still be being written
DAY_S = 86400.0  # by more than this no file server's clock is wrong
AGAIN_S = 1.0  # a file that was changed less than this after it was read was written once; some servers close twice
MOST_WRITING_S = 600.0  # a file that is written for longer is reported
UNWRITTEN = bytes(4096)  # the end of a file that was given its size before its content
ASKED_AT_ONCE = 500  # files that the ledger is asked for in one query
MOST_SEEN = 200_000  # files that are remembered; for those beyond, the ledger is asked at every scan
MOST_RECENT = 4096  # files whose frames may not be recorded yet; a line holds a few hundred frames


class How(IntEnum):
    """How a file came to be known."""

    CLOSED = 0  # by its writer, or moved in from elsewhere
    RENAMED = 1  # within the folder, from a name that is inspected too
    LINKED = 2  # a symbolic link, or a further name of a file
    FOUND = 3  # by a scan, which cannot tell whether it is complete
    OLD = 4  # by the first scan


class Arrival(NamedTuple):
    """A file to read; arrivals sort in the order the files were written."""

    mtime_ns: int
    path: str
    how: How


@dataclass(slots=True)
class Waiting:
    """A file that may not be complete. Times by time.monotonic(), as the clock of a file server may be wrong.

    now: its version. looked_at: when it was last looked at. since: when this version was first seen. first: when any was.
    reported: whether it was reported that it is being written for long.
    """

    now: Stat
    how: How
    looked_at: float
    since: float
    first: float
    reported: bool = False


class FolderSource:
    """A core.Source of the pictures in a folder, with those that are there at the start, in the order they were written.

    A file is read whenever its writer has closed it or moved it in, whatever its name, times and size. A file that is
    found by a scan is read once it has not changed for `unchanged_s`. Content that was inspected before under the same
    name is inspected again if it was written again, unless skip_same. A picture that cannot be decoded becomes a frame
    with a fault. taken_at is the file's modification time, part_id its name without the suffix.
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
        skip_same: bool = False,
        max_megapixels: float = 100,
        bit_depth: int | None = None,
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
            skip_same: pass over a file that is written again with content that was inspected before.
            max_megapixels, bit_depth: see pictures.decode.
        """
        self.station = station
        self._events = Counter({"known": 0, "vanished": 0, "unreadable": 0, "failed": 0, "same_again": 0, "losses": 0})
        self._path = os.fspath(path)
        self._ledger = ledger
        self._names = Names(tuple(pattern.lower() for pattern in patterns), recursive)
        self._polling, self._rescan_s, self._unchanged_s = polling, rescan_s, unchanged_s
        self._skip_same, self._max_megapixels, self._bit_depth = skip_same, max_megapixels, bit_depth
        self._seq = 0
        self._problem: str | None = None
        self._scan: Iterator[None] | None = None  # the scan in progress
        self._next_scan = 0.0
        self._device: int | None = None  # of the file system that the folder was last on
        self._polls = False  # whether no events are reported
        self._scanned = False  # whether a scan has been completed
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()  # in the order of looked_at
        self._pending: deque[Arrival] = deque()  # to be read now
        self._seen = SeenFiles(MOST_SEEN)  # files that need not be read
        self._unreadable = SeenFiles(MOST_SEEN)  # files that a frame has reported as unreadable
        self._passed_over = PassedOver()
        self._recent = RecentFiles(MOST_RECENT)  # files that the ledger may not know yet

    def counts(self) -> SourceCounts:
        """Count frames, files of known content, those that vanished, were unreadable or failed, and losses of the folder.

        same_again: of the files of known content, those that were written again. Call from any thread.
        """
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
        taken = watch.take(0.0 if self._scan or self._pending else TICK_S)
        if taken.missed:
            self._next_scan = 0.0
        if self._scan is None and time.monotonic() >= self._next_scan:
            self._scan = self._scan_folder(watch)
            self._next_scan = time.monotonic() + self._rescan_s
        if self._scan and _finished_scan(self._scan):
            self._scan = None
            if self._problem:
                self._next_scan = time.monotonic() + min(ERROR_S, self._rescan_s)
        self._pending.extend(sorted(self._ready(taken, watch.folder, stop)))
        while self._pending and not stop.is_set():
            # Removed only when it is done, so that an error of the journal loses none.
            frame = self._frame_whatever_happens(self._pending[0], stop)
            self._pending.popleft()
            if frame is not None:
                yield frame
        if not stop.is_set():
            yield from self._written_for_long()

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
        self._polls = watch.polling
        if self._device not in (None, watch.device):
            log.warning(
                "station %s: %s lies on another disk or share than before: check whether it is mounted",
                self.station, self._path,
            )  # fmt: skip
        self._device = watch.device
        log.info("station %s: watches %s by %s", self.station, self._path, "polling" if watch.polling else "inotify")
        return watch

    def _report(self, problem: str | None) -> None:
        """Log a problem with the folder when it starts or changes, and when it is over. problem: None if there is none."""
        if problem and problem != self._problem:
            self._events["losses"] += self._problem is None
            log.warning("station %s: %s %s; trying again until it works", self.station, self._path, problem)
        elif self._problem and not problem:
            log.warning("station %s: %s can be read again", self.station, self._path)
        self._problem = problem

    def _scan_folder(self, watch: Watch) -> Iterator[None]:
        """Find the files that may be new, and forget those that are gone; yield after each file."""
        folder, begun = watch.folder, time.monotonic()
        self._seen.begin_scan()
        self._unreadable.begin_scan()
        self._passed_over.begin_scan()
        fresh: list[tuple[str, Stat]] = []
        asked: dict[str, Stat] = {}  # not known in this run, but maybe to the ledger
        errors: list[OSError] = []
        for path in self._names.files(folder, errors, self._pass_over):
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
            before = self._seen.get(path)
            if now == before:
                self._seen.add(path, now)
                continue
            if self._unreadable.has(path, now):
                self._unreadable.add(path, now)
            if before:  # what it is compared with when it is read
                self._seen.add(path, before)
                fresh.append((path, now))
                continue
            asked[path] = now
            if len(asked) == ASKED_AT_ONCE:
                fresh += self._unrecorded(asked)
                asked = {}
        fresh += self._unrecorded(asked)
        # All with one time, however long the scan took, so that they are ready together and are read in order.
        moment = time.monotonic()
        for path, now in fresh:
            waiting = self._waiting.get(path)
            # It may have been read meanwhile, after an event. If it waits already, it is due when it was.
            if not self._seen.has(path, now) and not (waiting and waiting.now == now):
                self._wait_unchanged(path, now, How.FOUND if self._scanned else How.OLD, moment)
        self._report(_problem_of(errors[0], folder) if errors else None)
        self._seen.end_scan()
        self._unreadable.end_scan()
        self._scanned = True
        self._tell_passed_over(folder)
        if watch.polling:  # at most half of the time is spent on scans
            self._next_scan = moment + max(POLL_S, moment - begun)

    def _pass_over(self, entry: os.DirEntry[str]) -> None:
        """Count a file that does not match, unless patterns say that it is not meant, or the pictures in a subfolder."""
        if entry.is_dir(follow_symlinks=False):
            if not self._passed_over.has_reported(SUBFOLDERS):
                inside = replace(self._names, recursive=True).files(entry.path, [])
                self._passed_over.add(SUBFOLDERS, sum(1 for _ in islice(inside, MOST_COUNTED)))
        elif not self._names.patterns:
            self._passed_over.add(kind_of(entry.name))

    def _tell_passed_over(self, folder: str) -> None:
        if kinds := self._passed_over.news():
            level = logging.WARNING if any(map(is_likely_picture, kinds)) else logging.INFO
            log.log(level, "station %s: not looked at in %s: %s", self.station, folder, describe(kinds))

    def _wait_unchanged(self, path: str, now: Stat, how: How, at: float | None = None) -> None:
        """Have the file read once it has not changed for unchanged_s.

        Args:
            path: of the file.
            now: its version.
            how: how it came to be known.
            at: monotonic time at which it was looked at; None: now.
        """
        at = time.monotonic() if at is None else at
        known = self._waiting.get(path)
        if known is None:
            self._waiting[path] = Waiting(now, how, looked_at=at, since=at, first=at)
            return
        if known.now != now:
            known.now, known.how, known.since = now, how, at
        known.how, known.looked_at = min(known.how, how), at
        self._waiting.move_to_end(path)

    def _ready(self, taken: Taken, folder: str, stop: Event) -> Iterator[Arrival]:
        """Yield the files to read now."""
        events = [
            (path, How.RENAMED if source and self._names.match(source, folder) else How.CLOSED)
            for path, source in taken.finished.items()
        ]
        for path, how in [*events, *((path, How.LINKED) for path in taken.linked)]:
            if not self._names.match(path, folder):
                kind = kind_of(path)
                if not (
                    self._names.patterns
                    or is_passed_over(os.path.basename(path))
                    or self._passed_over.has_reported(kind)
                ):
                    self._passed_over.add(kind)
                    self._tell_passed_over(folder)
            elif now := self._stat(path):
                yield Arrival(now.mtime_ns, path, how)
        latest = time.monotonic() - self._unchanged_s
        for path in list(self._waiting):
            waiting = self._waiting[path]
            if waiting.looked_at > latest or stop.is_set():
                return
            now = self._stat(path)
            if now is None:
                del self._waiting[path]
            elif now == waiting.now:
                waiting.looked_at = time.monotonic()
                self._waiting.move_to_end(path)
                yield Arrival(now.mtime_ns, path, waiting.how)
            else:
                self._wait_unchanged(path, now, How.FOUND)

    def _written_for_long(self) -> Iterator[Frame]:
        """Yield a fault, once, for each file that has been changing for so long that it may never be complete."""
        latest = time.monotonic() - MOST_WRITING_S
        for path, waiting in list(self._waiting.items()):
            if waiting.first <= latest and not waiting.reported:
                waiting.reported = True
                self._events["unreadable"] += 1
                name = pictures.printable(path)
                fault = f"{name}: still being written after {MOST_WRITING_S / 60:g} minutes: check what writes it"
                log.warning("station %s: %s", self.station, fault)
                yield self._new_frame(path, waiting.now, pictures.nothing(), None, fault)

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

    def _frame_whatever_happens(self, arrival: Arrival, stop: Event) -> Frame | None:
        """Return _frame(); for an error of any other kind, which the same file would cause at every start, its fault."""
        path = arrival.path
        try:
            return self._frame(path, arrival.how, stop)
        except EdgeAgentError:
            raise
        except Exception as error:
            self._events["failed"] += 1
            log.exception("station %s: %s cannot be inspected", self.station, pictures.printable(path))
            if (now := self._stat(path)) is None:
                return None
            self._done(path, now)
            fault = (
                f"{pictures.printable(path)}: cannot be inspected ({type(error).__name__}): see the log, store it again"
            )
            return self._new_frame(path, now, pictures.nothing(), None, fault)

    def _frame(self, path: str, how: How, stop: Event) -> Frame | None:
        """Return the frame of a new file; None if it is not new, or may not be complete yet."""
        now, before = self._stat(path), self._seen.get(path)
        if now is None:
            self._waiting.pop(path, None)
            return None
        is_event = how < How.FOUND
        if not is_event and (now == before or (before is None and not self._unrecorded({path: now}))):
            self._done(path, now)
            return None
        try:
            file, data = pictures.read(path, max_bytes=pictures.max_bytes(self._max_megapixels), stop=stop)
        except PictureError:  # it changed while it was read
            self._wait_unchanged(path, now, how)
            return None
        except OSError as error:
            return self._frame_of_unreadable(path, now, how, error)
        now = now._replace(inode=file.inode, size=file.size, mtime_ns=file.mtime_ns)
        if file in self._recent or self._ledger.seen(self.station, file):
            if not self._came_again(path, how, before, now):
                self._events["known"] += 1
                self._done(path, now)
                return None
            file = replace(file, again=True)
        if data and not is_event and data.endswith(UNWRITTEN) and self._is_young(path, now, how):
            self._wait_unchanged(path, now, how)
            return None
        pixels, fault = self._decode(data, file.path)
        # The writer may only have paused, or closed an empty file to open it again.
        is_closed = how in (How.CLOSED, How.RENAMED) and now.size > 0
        if fault and data is not None and not is_closed and self._is_young(path, now, how):
            self._wait_unchanged(path, now, how)
            return None
        self._done(path, now)
        self._recent.add(file)
        return self._new_frame(path, now, pixels, file, fault)

    def _came_again(self, path: str, how: How, before: Stat | None, now: Stat) -> bool:
        """Return whether a file of known content was written again, and is to be inspected again; count it if not.

        Where no events are reported, a new inode, size or modification time stands for one.

        Args:
            path: of the file.
            how: how it came to be known; a rename or a link brings nothing new.
            before: its version when it was last read in this run.
            now: its version.
        """
        if how is How.CLOSED:
            if before and abs(now.changed_ns - before.changed_ns) < AGAIN_S * 1e9:
                return False
        elif not (self._polls and how is How.FOUND and before and before[:3] != now[:3]):
            return False
        if not self._skip_same:
            return True
        if not self._events["same_again"]:
            log.warning(
                "station %s: %s was written again with content that was inspected before, and is skipped, as others will "
                "be (source: same_again: skip); they are counted in the metrics", self.station, pictures.printable(path),
            )  # fmt: skip
        self._events["same_again"] += 1
        return False

    def _done(self, path: str, now: Stat) -> None:
        """Note that a file need not be read before it changes."""
        self._seen.add(path, now)
        self._waiting.pop(path, None)

    def _is_young(self, path: str, now: Stat, how: How) -> bool:
        """Return whether a file may still be being written: by our own clock, as that of a file server may be wrong.

        Only a file that lay there at the start is judged by its modification time, on a share with a day's allowance.
        """
        if how is How.OLD:
            age_s = abs(time.time() - now.mtime_ns / 1e9)
            return age_s < (DAY_S if self._polls else YOUNG_S) and self._unchanged_for(path, now) < YOUNG_S
        return self._unchanged_for(path, now) < YOUNG_S

    def _unchanged_for(self, path: str, now: Stat) -> float:
        waiting = self._waiting.get(path)
        return time.monotonic() - waiting.since if waiting and waiting.now == now else 0.0

    def _decode(self, data: bytes | None, name: str) -> tuple[np.ndarray, str | None]:
        """Return the pixels, and why there are none."""
        try:
            pixels = pictures.decode_bytes(
                data,
                name,
                max_megapixels=self._max_megapixels,
                bit_depth=self._bit_depth,
                min_side=pictures.MIN_SIDE,
                refuse_drawings=True,
            )
        except PictureError as error:
            return pictures.nothing(), str(error)
        return pixels, None

    def _frame_of_unreadable(self, path: str, now: Stat, how: How, error: OSError) -> Frame | None:
        """Return a frame with the reason, once. The file stays new, and every scan tries it again."""
        if isinstance(error, FileNotFoundError):
            self._count(path, error)
        elif self._is_young(path, now, how):  # its permissions may not have been set yet
            self._wait_unchanged(path, now, how)
            return None
        elif not self._unreadable.has(path, now):
            self._waiting.pop(path, None)
            self._unreadable.add(path, now)
            self._count(path, error)
            return self._new_frame(path, now, pictures.nothing(), None, pictures.unreadable(path, error))
        self._waiting.pop(path, None)
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

    def _unrecorded(self, files: Mapping[str, Stat]) -> list[tuple[str, Stat]]:
        """Return the files that the ledger does not know by their stat; note that the others need not be read."""
        known = self._ledger.seen_stats(
            self.station, {pictures.printable(path): (now.inode, now.size, now.mtime_ns) for path, now in files.items()}
        )
        unrecorded = []
        for path, now in files.items():
            if pictures.printable(path) in known:
                self._seen.add(path, now)
            else:
                unrecorded.append((path, now))
        return unrecorded


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
