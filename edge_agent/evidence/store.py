"""Stores pictures as evidence, limited by age and by size; leaves the record of inspections to the journal.

    <folder>/<station>/<2026-11-20>/<081530.123>_<NotOK>_<part>_<end of the inspection's id>.png
                                    ..._overlay.jpg

The day and time are those of the inspection, in UTC, taken from its id: the path holds all that retention needs, and stays
right when a clock, a copy or a restored backup changes modification times.

Originals are kept as PNG of the inspected pixels, whatever their source: lossless, the same for cameras and files, and not
read again from a file that may have changed. Only what is to be kept quickly, as the line is behind, is JPEG.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timezone
from math import ceil
from pathlib import Path
from threading import RLock
from typing import NamedTuple
from uuid import UUID

import numpy as np

from edge_agent.core import Evaluation, Evidence, EvidenceState, Inspection, SavedFile
from edge_agent.evidence.choices import FORMATS, LARGEST, Format, Kept
from edge_agent.evidence.encoding import encode
from edge_agent.evidence.overlay import draw
from edge_agent.evidence.place import Place
from edge_agent.io.clock import EARLIEST
from edge_agent.io.drawings import OVERLAY, marked
from edge_agent.io.files import sync_folder, write_durably
from edge_agent.io.names import file_part

log = logging.getLogger(__name__)

SLACK = 0.05  # share of the limit that is freed in addition, so that not every picture needs a folder listing
AT_ONCE = 100  # files that a sweep deletes before it releases the lock, so that a picture can be saved in between
PAUSES_S = (0.05, 0.2, 0.5)  # before a picture is written again that failed for what may pass in a moment
MOMENTARY = frozenset(
    (errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
)
SHRUNK_SIDE = 640  # pixels of an overlay that is drawn quickly
QUIET_S = 600.0  # after logging one kind of failure, how long it is not logged again

_EARLIEST_DAY = EARLIEST.date().isoformat()
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAME = re.compile(
    r"\d{6}\.\d{3}_(?P<evaluation>OK|NotOK|NotDecidable|Undefined)_([A-Za-z0-9._-]+_)?(?P<id>[0-9a-f]{12})(_overlay)?\.(png|jpg|webp)",
    re.ASCII,
)


class _Batch(NamedTuple):
    """The pictures of one day that are OK, or those of that day that are not."""

    ok: bool
    day: str


class EvidenceStore:
    """The pictures in one folder, which belongs to one agent. Thread-safe: some threads save while another sweeps.

    kept: pictures written. lost: inspections of which a picture could not be written. dropped: pictures deleted before
    they were too old, because of the size limit or too little free space. fault: why nothing can be kept now, or None.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        render: Callable[[Inspection, int], np.ndarray | bytes] = draw,
        originals: Kept = "not_ok",
        overlays: Kept = "not_ok",
        fmt: Format = "jpg",
        overlay_side: int = LARGEST,
        keep_days: float = 30,
        keep_gb: float = 20,
    ) -> None:
        """Open the store; creates no folder before the first picture.

        Args:
            folder: where the pictures are kept.
            render: draws an overlay as (H, W, 3) uint8 RGB, or returns the bytes of a file in format `fmt`; gets the most
                pixels of its longer side, too, and is called only for overlays that are kept; default overlay.draw.
            originals: of which inspections to keep the original; default "not_ok": all evaluations but OK,
                NotDecidable included.
            overlays: of which inspections to keep the overlay; default "not_ok".
            fmt: file format of overlays; default "jpg".
            overlay_side: pixels of the longer side of the picture in an overlay, at most; default LARGEST.
            keep_days: pictures older than this are deleted; default 30.
            keep_gb: limit of all pictures in 1e9 bytes; default 20.
        """
        self._folder = Path(folder).absolute()
        self._place = Place(self._folder)
        self._render = render
        self._originals, self._overlays, self._format, self._side = originals, overlays, fmt, overlay_side
        self._keep_days, self._keep_bytes = keep_days, keep_gb * 1e9
        self._used: Counter[_Batch] | None = None  # bytes
        self._under_way: Counter[_Batch] = Counter()  # bytes of files that are being written; in _used as well
        self._links: set[str] = (
            set()
        )  # folders of stations that are links to elsewhere, and that pictures are written to
        self._logged_at: dict[object, float] = {}
        self._has_failed = False  # a failure was logged, and no picture written since
        self.fault: str | None = None
        self._lock = RLock()  # guards files and counts; a sweep releases it after every AT_ONCE files
        self._held: frozenset[str] = frozenset()  # ends of ids, as in the names of files
        self._removed_for_space: list[str] = []  # URIs not yet returned by take_removed
        self.kept = self.lost = self.dropped = 0

    def wants(self, inspection: Inspection) -> bool:
        """Return whether a picture of this inspection is to be kept."""
        evaluation = inspection.verdict.evaluation
        return is_kept(self._overlays, evaluation) or self._wants_image(inspection)

    def _wants_image(self, inspection: Inspection) -> bool:
        return is_kept(self._originals, inspection.verdict.evaluation) and inspection.frame.pixels.size > 0

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        """Write the pictures of one inspection that are to be kept; on return they are synced to disk.

        Never raises for a disk that is full, missing or read-only: what could not be written is None.

        Args:
            inspection: what was found.
            shrunk: as quickly as may be: the original as JPEG, the overlay small. Default False.
        """
        image = overlay = state = None
        try:
            if self._wants_image(inspection):
                fmt: Format = "jpg" if shrunk else "png"
                image = self._try(inspection, "", encode(inspection.frame.pixels, fmt), fmt)
            if is_kept(self._overlays, inspection.verdict.evaluation):
                drawn = self._render(inspection, min(self._side, SHRUNK_SIDE) if shrunk else self._side)
                content = drawn if isinstance(drawn, bytes) else encode(drawn, self._format)
                overlay = self._try(inspection, OVERLAY, marked(content), self._format)
        except OSError as error:
            state = EvidenceState.FAILED
            with self._lock:
                self.lost += 1
                self.fault = self._explained(error)
                self._log_failure(error)
        else:
            with self._lock:
                self._note_kept(image or overlay)
        return Evidence(image, overlay, EvidenceState.SHRUNK if shrunk and (image or overlay) else state)

    def _note_kept(self, one: SavedFile | None) -> None:
        if one is None:
            return
        self.fault = None
        if self._has_failed:
            log.warning("evidence is kept in %s again; that of %d inspections was not", self._folder, self.lost)
            self._has_failed = False

    def found(self, inspection: Inspection) -> Evidence:
        """Return the pictures of an inspection that were written before the agent ended, as far as they were.

        Raises OSError if the disk cannot be read.
        """
        saved = {}
        for ending in ("", OVERLAY):
            for fmt in FORMATS:
                path = self._path(inspection, ending, fmt)
                if path.exists():
                    content = path.read_bytes()
                    saved[ending] = SavedFile(path.as_uri(), hashlib.sha256(content).hexdigest(), len(content))
        is_whole = (not self._wants_image(inspection) or "" in saved) and (
            OVERLAY in saved or not is_kept(self._overlays, inspection.verdict.evaluation)
        )
        return Evidence(saved.get(""), saved.get(OVERLAY), None if is_whole else EvidenceState.INTERRUPTED)

    def _try(self, inspection: Inspection, ending: str, content: bytes, fmt: Format) -> SavedFile | None:
        """Write a picture; if that fails for what may pass in a moment, try again, unless nothing could be written before."""
        for pause_s in PAUSES_S:
            try:
                return self._write(inspection, ending, content, fmt)
            except FileNotFoundError:  # a sweep has removed the folder, as it was empty
                pass
            except OSError as error:
                if error.errno not in MOMENTARY or self.fault:
                    raise
                time.sleep(pause_s)
        return self._write(inspection, ending, content, fmt)

    def hold(self, ids: Iterable[str]) -> None:
        """Keep the pictures of these inspections, and no longer those of the last call, however old they are.

        The size limit comes first: when nothing else is left to delete, they are deleted, too.
        """
        held = frozenset(UUID(one).hex[-12:] for one in ids)
        with self._lock:
            self._held = held

    def sweep(self, now: datetime) -> list[str]:
        """Delete pictures that are too old or exceed the size limit, and return the URIs of deleted pictures.

        Whole days are deleted once all of their pictures are older than keep_days, but for those on hold, and unless the clock
        was not set when they were taken. When the pictures take too many bytes, or the disk has too few left, OK pictures are
        deleted first, the oldest first. Cheap if there is nothing to do.
        """
        removed = self.take_removed()
        try:
            oldest_kept = _day(now, self._keep_days)
            with self._lock:
                self._look_at_disk()
                too_old = [batch for batch in self._usage() if _EARLIEST_DAY <= batch.day < oldest_kept]
            for batch in too_old:
                self._remove(batch, float("inf"), removed)
            self._drop(removed)
        except OSError as error:
            self._log_failure(error)
        return removed

    def take_removed(self) -> list[str]:
        """Return the URIs of pictures deleted between two sweeps to make room for newer ones; each is returned once."""
        with self._lock:
            removed, self._removed_for_space = self._removed_for_space, []
        return removed

    def _drop(self, removed: list[str], wanted: int = 0) -> None:
        """Delete pictures until `wanted` more bytes fit into the limits, OK first, the oldest first."""
        with self._lock:
            excess, before = self._excess(wanted), len(removed)
            # Days to come are those of a clock that was wrong: as the newest, they would cost all that is taken after them.
            tomorrow = _day(datetime.now(timezone.utc), -1)
            batches = sorted(self._usage(), key=lambda batch: (not batch.ok, batch.day <= tomorrow, batch.day))
        for held_too in (False, True):
            for batch in batches:
                if excess <= 0:
                    break
                excess -= self._remove(batch, excess, removed, held_too)
        with self._lock:
            self.dropped += len(removed) - before

    def _look_at_disk(self) -> None:
        """Count anew what another disk holds. Raises OSError if the disk that was there is gone."""
        if self._place.is_another_disk():
            self._used = None

    def _make_room(self, wanted: int, is_ok: bool) -> bool:
        """Delete pictures until `wanted` more bytes fit into the limits.

        Returns whether they may be written: False for an OK picture that would cost one that is not. Raises OSError if the
        space that is left for the journal would be used.
        """
        excess = sum(self._usage().values()) + wanted - self._keep_bytes
        if excess > 0:
            if is_ok and excess > sum(size for batch, size in self._usage().items() if batch.ok):
                self.dropped += 1
                return False
            self._drop(self._removed_for_space, wanted)
        for drop in (True, False):
            if self._place.missing(wanted, 0.5) <= 0 and not self._place.lacks_inodes(0.5):
                return True
            if drop:
                self._drop(self._removed_for_space, wanted)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _path(self, inspection: Inspection, ending: str, fmt: Format) -> Path:
        """Return where a picture lies: its place holds all that retention needs to know of it."""
        moment = _moment(inspection)
        parts = [f"{moment:%H%M%S}.{moment.microsecond // 1000:03}", inspection.verdict.evaluation.value]
        parts += [file_part(inspection.frame.part_id)] if inspection.frame.part_id else []
        name = "_".join([*parts, UUID(inspection.id).hex[-12:]]) + f"{ending}.{fmt}"
        return self._folder / file_part(inspection.frame.station) / f"{moment:%Y-%m-%d}" / name

    def _write(self, inspection: Inspection, ending: str, content: bytes, fmt: Format) -> SavedFile | None:
        """Write one picture; None if it may not be kept. Raises OSError."""
        batch = _Batch(inspection.verdict.evaluation is Evaluation.OK, f"{_moment(inspection):%Y-%m-%d}")
        path = self._path(inspection, ending, fmt)
        station = path.parent.parent
        with self._lock:
            self._look_at_disk()
            if station.is_symlink() and station.name not in self._links:
                self._links.add(station.name)
                self._used = None
            self._usage()  # before the new file exists, or it would be counted twice
            if not self._make_room(len(content), batch.ok):
                return None
            _make_folder(path.parent)
            self._usage()[batch] += len(content)
            self._under_way[batch] += len(content)
        is_written = False
        try:
            write_durably(path, content)
            is_written = True
        finally:
            with self._lock:
                self._under_way[batch] -= len(content)
                if is_written:
                    self.kept += 1
                elif self._used is not None:
                    self._used[batch] -= len(content)
        return SavedFile(path.as_uri(), hashlib.sha256(content).hexdigest(), len(content))

    def _usage(self) -> Counter[_Batch]:
        """Return the bytes by batch: counted once, removing files that a crash left unfinished, then kept up to date."""
        if self._used is None:
            used: Counter[_Batch] = Counter()
            for day in self._days():
                for entry in _entries(day):
                    if ours := _NAME.fullmatch(entry.name):
                        used[_Batch(ours["evaluation"] == "OK", day.name)] += entry.stat(follow_symlinks=False).st_size
                    elif _NAME.fullmatch(entry.name.removeprefix(".").removesuffix(".tmp")):
                        os.unlink(entry)
            self._used = used + self._under_way
        return self._used

    def _days(self, name: str | None = None) -> Iterator[Path]:
        """Yield the folders of all days, or of one day, of all stations."""
        for station in _entries(self._folder):
            if station.is_dir(follow_symlinks=station.name in self._links):
                for day in _entries(Path(station)):
                    if day.is_dir(follow_symlinks=False) and _DAY.fullmatch(day.name) and name in (None, day.name):
                        yield Path(day)

    def _excess(self, wanted: int) -> float:
        """Return how many bytes must be deleted before `wanted` more fit into the limits; 0 or less for none."""
        total = sum(self._usage().values())
        if not total or not self._folder.is_dir():
            return 0
        excess = total + wanted - self._keep_bytes
        if excess > 0:
            excess += SLACK * self._keep_bytes
        missing = self._place.missing(wanted)
        if missing > 0:
            excess = max(excess, missing + SLACK * total)
            if self._is_time_to_log("spare"):
                log.warning(
                    "only %d MB are free on the disk of %s: the oldest evidence goes, OK first; free some space, "
                    "or lower evidence.keep_gb", self._place.free() // 1_000_000, self._folder,
                )  # fmt: skip
        if self._place.lacks_inodes():
            excess = max(excess, SLACK * total)
            if self._is_time_to_log("inodes"):
                log.warning(
                    "hardly another file can be made on the disk of %s, as its inodes are used up: the oldest evidence goes, "
                    "OK first; delete small files there", self._folder,
                )  # fmt: skip
        return excess

    def _remove(self, batch: _Batch, wanted: float, removed: list[str], held_too: bool = False) -> float:
        """Delete the oldest pictures of a batch until `wanted` bytes are freed; return the bytes freed.

        held_too: those on hold as well; default False.
        """
        with self._lock:
            files = sorted(self._files(batch))
            # Counted again, in case other programs deleted or added files.
            self._usage()[batch] = sum(size for *_, size in files) + self._under_way[batch]
            folders = {path.parent for _, path, _ in files}
            files = [one for one in files if held_too or not self._is_held(one[0])]
        freed = 0
        for some in range(0, len(files), AT_ONCE):
            with self._lock:
                for _, path, size in files[some : some + AT_ONCE]:
                    if freed >= wanted:
                        break
                    path.unlink(missing_ok=True)
                    removed.append(path.as_uri())
                    self._usage()[batch] -= size
                    freed += size
            if freed >= wanted:
                break
        with self._lock:
            if self._usage()[batch] <= 0:
                del self._usage()[batch]
            for folder in folders:
                if not any(_entries(folder)):
                    folder.rmdir()
        return freed

    def _is_held(self, name: str) -> bool:
        ours = _NAME.fullmatch(name)
        return ours is not None and ours["id"] in self._held

    def _files(self, batch: _Batch) -> Iterator[tuple[str, Path, int]]:
        """Yield name, path and size in bytes of the pictures of a batch."""
        for day in self._days(batch.day):
            for entry in _entries(day):
                ours = _NAME.fullmatch(entry.name)
                if ours and (ours["evaluation"] == "OK") == batch.ok:
                    yield entry.name, Path(entry), entry.stat(follow_symlinks=False).st_size

    def _log_failure(self, error: OSError) -> None:
        """Log each kind of failure at most once in QUIET_S, not for every picture."""
        if not self._is_time_to_log(error.errno):
            return
        self._has_failed = True
        log.error("evidence in %s: %s; inspection and alarms go on without", self._folder, self._explained(error))

    def _explained(self, error: OSError) -> str:
        remedy = {
            errno.ENODEV: "mount it again; nothing is written to the disk below it",
            errno.ENOSPC: "free some space, or lower evidence.keep_gb",
            errno.EDQUOT: "free some space, or lower evidence.keep_gb",
            errno.EACCES: f"let user {os.geteuid()} write there",
            errno.EPERM: f"let user {os.geteuid()} write there",
            errno.ENOTDIR: "a file is in its place: change evidence.folder",
            errno.EROFS: "mount it for writing, under systemd with ReadWritePaths=, or change evidence.folder",
        }.get(error.errno or 0, "check the disk")
        if error.errno == errno.ENOSPC and _lacks_inodes(self._place):
            remedy = "the inodes of that disk are used up, however many bytes are free: delete small files there"
        return f"{error.strerror}: {remedy}"

    def _is_time_to_log(self, kind: object) -> bool:
        now = time.monotonic()
        if now - self._logged_at.get(kind, float("-inf")) < QUIET_S:
            return False
        self._logged_at[kind] = now
        return True


def _lacks_inodes(place: Place) -> bool:
    try:
        return place.lacks_inodes(0.5)
    except OSError:
        return False


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _moment(inspection: Inspection) -> datetime:
    """Return when an inspection was made, in UTC, by its id."""
    return datetime.fromtimestamp((UUID(inspection.id).int >> 80) / 1000, timezone.utc)


def is_kept(rule: Kept, evaluation: Evaluation) -> bool:
    """Return whether pictures of this evaluation are kept."""
    return rule == "all" or (rule == "not_ok" and evaluation is not Evaluation.OK)


def _day(now: datetime, days_ago: float) -> str:
    """Return the day that began at least so many days ago, or the first possible day, as some keep evidence for ever."""
    today = now.astimezone(timezone.utc).date()
    return date.fromordinal(max(today.toordinal() - ceil(days_ago), 1)).isoformat()
