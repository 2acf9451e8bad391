"""Keeps pictures as evidence, for a time and up to a size; what was inspected is the journal's to know, not this.

    <folder>/<station>/<2026-11-20>/<081530.123>_<NotOK>_<part>_<end of the inspection's id>.png
                                    ..._overlay.jpg

The day and time are those of the inspection, in UTC, taken from its id: a picture's place says all that retention has
to know, and stays true when a clock, a copy or a restored backup does not keep times of modification.

Originals are kept as PNG of the pixels that were inspected, whatever they came from: without loss, the same for cameras
and files, and not a second reading of a file that may have changed meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from math import ceil
from pathlib import Path
from threading import RLock
from typing import Literal, NamedTuple
from uuid import UUID

import cv2
import numpy as np

from edge_agent.core import Evaluation, Evidence, Inspection, SavedFile
from edge_agent.evidence.overlay import draw
from edge_agent.io.files import sync_folder, write_durably

log = logging.getLogger(__name__)

Kept = Literal["all", "not_ok", "none"]
Format = Literal["jpg", "png", "webp"]

SLACK = 0.05  # share of the limit that is freed beyond it, so that not every picture needs a look into a folder
SPARE, MOST_SPARE = 0.05, 1 << 30  # of the disk, what is left for the journal: this share, but no more bytes than that
AT_ONCE = 100  # files that a sweep deletes before a picture may be kept in between
QUIET_S = 600.0  # for how long one kind of failure is not logged again

_ENCODING = {
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    # Thin outlines of strong colours are what other samplings blur.
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAME = re.compile(
    r"\d{6}\.\d{3}_(?P<evaluation>OK|NotOK|NotDecidable|Undefined)_([A-Za-z0-9._-]+_)?[0-9a-f]{12}(_overlay)?\.(png|jpg|webp)",
    re.ASCII,
)


class _Batch(NamedTuple):
    """The pictures of one day that are OK, or those that are not."""

    ok: bool
    day: str


class EvidenceStore:
    """The pictures in one folder, which belongs to one agent. Any thread may call it: one keeps pictures, one sweeps.

    kept, lost: pictures that were written, and inspections of which one could not be. dropped: pictures that went because
    there were too many, or too little room, before they were too old.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        render: Callable[[Inspection], np.ndarray | bytes] = draw,
        originals: Kept = "not_ok",
        overlays: Kept = "not_ok",
        fmt: Format = "jpg",
        keep_days: float = 30,
        keep_gb: float = 20,
    ) -> None:
        """render: draws an overlay, (H, W, 3) uint8 RGB, or gives a `fmt` file of it; only called for those that are kept.
        "not_ok" is all that is not OK, what could not be decided too. keep_gb: of 1e9 bytes.
        """
        self._folder = Path(folder).absolute()
        self._render = render
        self._originals, self._overlays, self._format = originals, overlays, fmt
        self._keep_days, self._keep_bytes = keep_days, keep_gb * 1e9
        self._used: Counter[_Batch] | None = None  # bytes
        self._logged_at: dict[object, float] = {}
        self._has_complained = False
        self._lock = RLock()  # of all that is below; a sweep lets go of it after every few files
        self._dropped_early: list[str] = []  # URIs that nobody has been told of
        self.kept = self.lost = self.dropped = 0

    def save(self, inspection: Inspection) -> Evidence:
        """Write the pictures that are to be kept of one inspection; on return they are safely on disk.

        Never raises for a disk that is full, missing or not to be written to: what could not be written is None.
        """
        with self._lock:
            return self._save(inspection)

    def _save(self, inspection: Inspection) -> Evidence:
        image = overlay = None
        evaluation = inspection.verdict.evaluation
        try:
            if is_kept(self._originals, evaluation) and inspection.frame.pixels.size:
                image = self._write(inspection, "", inspection.frame.pixels, "png")
            if is_kept(self._overlays, evaluation):
                overlay = self._write(inspection, "_overlay", self._render(inspection), self._format)
        except OSError as error:
            self.lost += 1
            self._complain(error)
        else:
            if self._has_complained and (image or overlay):
                log.warning("evidence is kept in %s again; that of %d inspections was not", self._folder, self.lost)
                self._has_complained = False
        return Evidence(image, overlay)

    def sweep(self, now: datetime) -> list[str]:
        """Delete what is too old and what is too much, and return the URIs of what was deleted.

        Whole days go, once all of their pictures are older than keep_days. When there are too many bytes, or too few
        are left on the disk, pictures that are OK go first, the oldest first. Cheap if there is nothing to do.
        """
        removed = self.take_removed()
        try:
            oldest_kept = _day(now, self._keep_days)
            with self._lock:
                too_old = [batch for batch in self._usage() if batch.day < oldest_kept]
            for batch in too_old:
                self._remove(batch, float("inf"), removed)
            self._drop(removed)
        except OSError as error:
            self._complain(error)
        return removed

    def take_removed(self) -> list[str]:
        """The URIs of what was deleted between two sweeps, as there was no room for a newer picture; each is told once."""
        with self._lock:
            removed, self._dropped_early = self._dropped_early, []
        return removed

    def _drop(self, removed: list[str], wanted: int = 0) -> None:
        """Delete what is too much, with `wanted` bytes more, OK first, the oldest first."""
        with self._lock:
            excess, before = self._excess(wanted), len(removed)
            batches = sorted(self._usage(), key=lambda batch: (not batch.ok, batch.day))
        for batch in batches:
            if excess <= 0:
                break
            excess -= self._remove(batch, excess, removed)
        with self._lock:
            self.dropped += len(removed) - before

    def _make_room(self, wanted: int) -> None:
        """Drop pictures rather than take what is left of the disk for the journal; raise OSError if none are left."""
        for drop in (True, False):
            disk = shutil.disk_usage(self._folder)
            if disk.free - wanted >= _spare(disk.total) / 2:
                return
            if drop:
                self._drop(self._dropped_early, wanted)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write(self, inspection: Inspection, ending: str, pixels: np.ndarray | bytes, fmt: Format) -> SavedFile:
        used = self._usage()  # before there is a new file, which would be counted twice
        moment = datetime.fromtimestamp((UUID(inspection.id).int >> 80) / 1000, timezone.utc)
        batch = _Batch(inspection.verdict.evaluation is Evaluation.OK, f"{moment:%Y-%m-%d}")
        parts = [f"{moment:%H%M%S}.{moment.microsecond // 1000:03}", inspection.verdict.evaluation.value]
        parts += [_safe(inspection.frame.part_id)] if inspection.frame.part_id else []
        name = "_".join([*parts, UUID(inspection.id).hex[-12:]]) + f"{ending}.{fmt}"
        path = self._folder / _safe(inspection.frame.station) / batch.day / name
        content = pixels if isinstance(pixels, bytes) else encode(pixels, fmt)
        _make_folder(path.parent)
        self._make_room(len(content))
        write_durably(path, content)
        used[batch] += len(content)
        self.kept += 1
        return SavedFile(path.as_uri(), hashlib.sha256(content).hexdigest(), len(content))

    def _usage(self) -> Counter[_Batch]:
        """Bytes by batch: counted once, with what a crash left half-written removed, and kept up to date from then on."""
        if self._used is None:
            used: Counter[_Batch] = Counter()
            for day in self._days():
                for entry in _entries(day):
                    if ours := _NAME.fullmatch(entry.name):
                        used[_Batch(ours["evaluation"] == "OK", day.name)] += entry.stat(follow_symlinks=False).st_size
                    elif _NAME.fullmatch(entry.name.removeprefix(".").removesuffix(".tmp")):
                        os.unlink(entry)
            self._used = used
        return self._used

    def _days(self, name: str | None = None) -> Iterator[Path]:
        """The folders of all days, or of one, in all stations."""
        for station in _entries(self._folder):
            if station.is_dir(follow_symlinks=False):
                for day in _entries(Path(station)):
                    if day.is_dir(follow_symlinks=False) and _DAY.fullmatch(day.name) and name in (None, day.name):
                        yield Path(day)

    def _excess(self, wanted: int) -> float:
        """How many bytes have to go before `wanted` more may come; 0 or less for none."""
        total = sum(self._usage().values())
        if not total or not self._folder.is_dir():
            return 0
        excess = total - self._keep_bytes
        if excess > 0:
            excess += SLACK * self._keep_bytes
        disk = shutil.disk_usage(self._folder)
        missing = _spare(disk.total) + wanted - disk.free
        if missing > 0:
            excess = max(excess, missing + SLACK * total)
            if self._is_time_to_log("spare"):
                log.warning(
                    "only %d MB are free on the disk of %s: the oldest evidence goes, OK first; free some space, "
                    "or lower evidence.keep_gb", disk.free // 1_000_000, self._folder,
                )  # fmt: skip
        return excess

    def _remove(self, batch: _Batch, wanted: float, removed: list[str]) -> float:
        """Delete the oldest pictures of a batch until `wanted` bytes are free; return how many are."""
        with self._lock:
            files = sorted(self._files(batch))
            # Counted anew, should others have deleted or added something.
            self._usage()[batch] = sum(size for *_, size in files)
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
            for folder in {path.parent for _, path, _ in files}:
                if not any(_entries(folder)):
                    folder.rmdir()
        return freed

    def _files(self, batch: _Batch) -> Iterator[tuple[str, Path, int]]:
        """Name, path and size in bytes of the pictures of a batch."""
        for day in self._days(batch.day):
            for entry in _entries(day):
                ours = _NAME.fullmatch(entry.name)
                if ours and (ours["evaluation"] == "OK") == batch.ok:
                    yield entry.name, Path(entry), entry.stat(follow_symlinks=False).st_size

    def _complain(self, error: OSError) -> None:
        """Log each kind of failure once in a while, and not for every picture."""
        if not self._is_time_to_log(error.errno):
            return
        self._has_complained = True
        remedy = {
            errno.ENOSPC: "free some space, or lower evidence.keep_gb",
            errno.EDQUOT: "free some space, or lower evidence.keep_gb",
            errno.EACCES: f"let user {os.geteuid()} write there",
            errno.EPERM: f"let user {os.geteuid()} write there",
            errno.ENOTDIR: "a file is in its place: change evidence.folder",
            errno.EROFS: "mount it for writing, under systemd with ReadWritePaths=, or change evidence.folder",
        }.get(error.errno or 0, "check the disk")
        log.error("evidence in %s: %s: %s; inspection and alarms go on without", self._folder, error.strerror, remedy)

    def _is_time_to_log(self, kind: object) -> bool:
        now = time.monotonic()
        if now - self._logged_at.get(kind, float("-inf")) < QUIET_S:
            return False
        self._logged_at[kind] = now
        return True


def _spare(disk_bytes: int) -> float:
    """Bytes of a disk that evidence leaves free, by and large; half of them always."""
    return min(SPARE * disk_bytes, MOST_SPARE)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing if there is none."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return


def encode(pixels: np.ndarray, fmt: Format) -> bytes:
    """(H, W, 3) uint8 RGB as the bytes of a file."""
    done, encoded = cv2.imencode(f".{fmt}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _ENCODING[fmt])
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be written as {fmt}")
    return encoded.tobytes()


def is_kept(rule: Kept, evaluation: Evaluation) -> bool:
    """Whether pictures of such a verdict are kept."""
    return rule == "all" or (rule == "not_ok" and evaluation is not Evaluation.OK)


def _safe(text: str) -> str:
    """A text from outside as part of a file name: it can neither leave the folder nor hide in it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:64].lstrip(".") or "_"


def _day(now: datetime, days_ago: float) -> str:
    """The day that began at least so many days ago, or the first there is: some people want to keep things for ever."""
    today = now.astimezone(timezone.utc).date()
    return date.fromordinal(max(today.toordinal() - ceil(days_ago), 1)).isoformat()
