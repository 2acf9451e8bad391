"""Yields stored pictures and videos once, in order, for replay; watches nothing and uses no ledger."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import NamedTuple

import cv2
import numpy as np

from edge_agent.core import Frame, SourceCounts, SourceStatus
from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io import pictures
from edge_agent.io.drawings import is_drawing
from edge_agent.sources.decode_ahead import decoded, sensible_workers
from edge_agent.sources.edit_list import shown_s
from edge_agent.sources.names import is_passed_over
from edge_agent.sources.passed_over import SUBFOLDERS, VIDEO_SUFFIXES, describe, is_likely_picture, kind_of
from edge_agent.sources.video_damage import MISSING, VideoDamage, is_installed

log = logging.getLogger(__name__)

MJPEG, UNDECODED = cv2.VideoWriter.fourcc(*"MJPG"), -1

Known = Callable[[str, datetime | None], bool]  # whether a frame of this origin and time is left out


def _never(origin: str, taken_at: datetime | None) -> bool:
    return False


class _Turn(NamedTuple):
    """A file to read. modified_at: None if it cannot be found out."""

    path: str
    modified_at: datetime | None
    is_known: bool  # a picture that is left out


class StoredSource:
    """A core.Source that ends: files in the order of `paths`, those of a folder or glob in natural order.

    A folder stands for the pictures and videos in it and, if recursive, in its subfolders, except those that
    is_passed_over(); a glob for those among its matches. What is not looked at is logged, once. No file is taken twice. A
    file that cannot be read becomes a frame with a fault. taken_at is the file's modification time, part_id its name without
    the suffix, for a video followed by the frame's number.
    """

    live = False

    def __init__(
        self,
        station: str,
        paths: Sequence[str | os.PathLike[str]],
        *,
        every: int = 1,
        max_megapixels: float = 100,
        bit_depth: int | None = None,
        leave_out: Path | None = None,
        recursive: bool = True,
        workers: int | None = 0,
    ) -> None:
        """List the files.

        Args:
            station: name of the station.
            paths: pictures, videos, folders or globs.
            every: of a video, take every N-th frame, from the first on.
            max_megapixels, bit_depth: see pictures.decode.
            leave_out: absolute folder that is left out, such as that of an earlier replay's overlays, unless one of
                `paths` is in it.
            recursive: read subfolders too.
            workers: processes that decode pictures ahead; 0 decodes in this one, None chooses. Videos are always decoded
                in this one, by OpenCV's threads.

        Raises:
            EdgeAgentError: names every path that has nothing to inspect.
        """
        self.station = station
        self._every, self._max_megapixels, self._bit_depth = every, max_megapixels, bit_depth
        self._known: Known = _never
        self._yielded = 0
        self._has_told = False  # that an extra is missing
        self._files = _files(station, paths, leave_out, recursive=recursive)
        self._workers = sensible_workers(len(self._files)) if workers is None else workers

    def skip(self, known: Known) -> None:
        """Leave out the frames that are known; the others keep their seq."""
        self._known = known

    def part(self, files: Sequence[str]) -> StoredSource:
        """Return the same source of these files only, whether they exist or not; it decodes in the process that reads it."""
        part = copy(self)
        part._files, part._workers, part._known, part._yielded = list(files), 0, _never, 0
        return part

    def counts(self) -> SourceCounts:
        """Count the frames so far. Call from any thread."""
        return SourceCounts(self._yielded)

    def status(self) -> SourceStatus:
        """Report that stored files can always be tried; what cannot be read becomes a frame with a fault."""
        return SourceStatus(up=True)

    @property
    def unknown_pictures(self) -> list[str]:
        """Return the absolute paths of the pictures that are not known, in order."""
        return [turn.path for turn in self._turns() if not turn.is_known and not _is_video(turn.path)]

    @property
    def count(self) -> int | None:
        """Return the number of frames; None with a video among the files, as the length in its header is a guess."""
        return None if any(map(_is_video, self._files)) else len(self._files)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield every frame that is not known, or until `stop` is set."""
        seq = 0
        turns = ((turn, None if turn.is_known or _is_video(turn.path) else turn.path) for turn in self._turns())
        for turn, found in decoded(
            turns, self._workers, stop, max_megapixels=self._max_megapixels, bit_depth=self._bit_depth
        ):
            if turn.is_known:
                seq += 1
                continue
            name, stem = pictures.printable(turn.path), pictures.printable(Path(turn.path).stem)
            for place, pixels, fault in self._video(turn) if found is None else _picture(found):
                if stop.is_set():
                    return
                if pixels is not None:
                    self._yielded += 1
                    yield Frame(
                        self.station,
                        seq,
                        turn.modified_at or datetime.now(timezone.utc),
                        pixels,
                        part_id=stem + place.replace("#", "-"),
                        origin=name + place,
                        fault=fault,
                    )
                seq += 1

    def _turns(self) -> Iterator[_Turn]:
        for path in self._files:
            try:
                modified_at = pictures.modified_at(os.stat(path).st_mtime_ns)
            except OSError:  # reading it will report the reason
                modified_at = None
            is_known = not _is_video(path) and self._known(pictures.printable(path), modified_at)
            yield _Turn(path, modified_at, is_known)

    def _video(self, turn: _Turn) -> Iterator[tuple[str, np.ndarray | None, str | None]]:
        """Yield (suffix of the origin, pixels, fault) for each frame, and for the error that ends the video early.

        Frames that are known have no pixels: they are only grabbed, to reach the first one that is not. Frames of MJPEG are
        decoded as stored JPEGs are, because FFmpeg fills up what is damaged; of others VideoDamage says which are.
        """
        path, name = turn.path, pictures.printable(turn.path)
        # OpenCV 5 crashes over a name that is not UTF-8.
        video = cv2.VideoCapture(path, cv2.CAP_FFMPEG) if name == path else cv2.VideoCapture()
        damage: VideoDamage | None = None
        try:
            if name != path:
                raise PictureError(f"{name}: its name is not UTF-8, which videos need: rename it")
            if not video.isOpened():
                raise PictureError(f"{name}: cannot be opened as a video, empty or damaged: record it again, or as mp4")
            size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
            pictures.check_size(size, name, self._max_megapixels, pictures.MIN_SIDE)
            announced, number = _announced(video, path), 0
            are_jpegs = _holds_jpegs(path, size) and video.set(cv2.CAP_PROP_FORMAT, UNDECODED)
            damage = None if are_jpegs else self._damage(path)
            while video.grab():
                if number % self._every == 0 and self._known(f"{name}#{number}", turn.modified_at):
                    yield f"#{number}", None, None
                elif number % self._every == 0:
                    read, pixels = video.retrieve()
                    if not read:
                        break
                    if are_jpegs:
                        yield f"#{number}", *self._jpeg(pixels.tobytes(), f"{name}#{number}")
                    elif damage and damage.is_at(video.get(cv2.CAP_PROP_POS_MSEC)):
                        fault = "damaged, it or a frame that it builds on has a hole: copy or record the video again"
                        yield f"#{number}", pictures.nothing(), f"{name}#{number}: {fault}"
                    else:
                        yield f"#{number}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), None
                number += 1
            # Most videos announce how many frames they have to within one or two, by their duration.
            if number == 0 or number < (1 if are_jpegs else 0.95) * announced - 2:
                raise PictureError(
                    f"{name}: ends after {number} of {announced:.0f} frames, cut off or damaged: "
                    "copy or record it again"
                )
        except (PictureError, cv2.error) as error:
            is_known = self._known(name, turn.modified_at)
            yield "", None if is_known else pictures.nothing(), str(error)
        finally:
            video.release()
            if damage:
                damage.close()

    def _damage(self, path: str) -> VideoDamage | None:
        """Return what knows the damaged frames of a video; without the extra None, which is logged once."""
        if is_installed():
            return VideoDamage(path)
        if not self._has_told:
            self._has_told = True
            log.warning("station %s: %s", self.station, MISSING)
        return None

    def _jpeg(self, data: bytes, name: str) -> tuple[np.ndarray, str | None]:
        """Return a frame's pixels, and why there are none."""
        try:
            return pictures.decode_bytes(
                data, name, max_megapixels=self._max_megapixels, min_side=pictures.MIN_SIDE
            ), None
        except PictureError as error:
            return pictures.nothing(), str(error)


def _announced(video: cv2.VideoCapture, path: str) -> float:
    """Return how many frames a video says that it shows; those that an edit list hides are not among them."""
    count, shown = video.get(cv2.CAP_PROP_FRAME_COUNT), shown_s(path)
    return count if shown is None else min(count, shown * video.get(cv2.CAP_PROP_FPS))


def _holds_jpegs(path: str, size: tuple[int, int]) -> bool:
    """Return whether each frame of a video is one JPEG. size: (width, height) of a frame; JPEGs of single fields are lower."""
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if int(video.get(cv2.CAP_PROP_FOURCC)) != MJPEG or not video.set(cv2.CAP_PROP_FORMAT, UNDECODED):
            return False
        read, data = video.read()
        return not read or pictures.jpeg_size(data.tobytes()) in (size, None)
    finally:
        video.release()


def _picture(found: np.ndarray | PictureError) -> Iterator[tuple[str, np.ndarray, str | None]]:
    """Yield ("", pixels, fault) for the one frame of a picture."""
    if isinstance(found, PictureError):
        yield "", pictures.nothing(), str(found)
    else:
        yield "", found, None


def _files(
    station: str, paths: Sequence[str | os.PathLike[str]], leave_out: Path | None, *, recursive: bool
) -> list[str]:
    """Return the absolute paths of the files to read, each once. See StoredSource for the arguments. Raises EdgeAgentError."""
    files: dict[str, None] = {}
    problems: list[str] = []
    passed_over: Counter[str] = Counter()
    for path in [os.fspath(path) for path in paths]:
        known_problems, listing = len(problems), _Listing(problems, recursive=recursive)
        if os.path.isdir(path):
            found = listing.of_folder(path)
        elif os.path.lexists(path):
            found = [path]
        elif glob.has_magic(path):
            found = listing.of_glob(path)
        else:
            problems.append(f"{path}: no such file or folder: correct the path")
            continue
        passed_over += listing.passed_over
        if leave_out and not _is_in(path, leave_out):
            found = [file for file in found if not _is_in(file, leave_out)]
        if not found and len(problems) == known_problems:
            others = f", but {describe(listing.passed_over)}" if listing.passed_over else ""
            problems.append(f"{path}: no picture or video there{others}: give files, folders or globs of them")
        files.update(dict.fromkeys(map(os.path.abspath, found)))
    if problems:
        raise EdgeAgentError("\n".join(problems))
    if not files:
        raise EdgeAgentError("nothing to inspect: give files, folders or globs of pictures or videos")
    if passed_over:
        level = logging.WARNING if any(map(is_likely_picture, passed_over)) else logging.INFO
        log.log(level, "station %s: not looked at: %s", station, describe(passed_over))
    return list(files)


class _Listing:
    """Lists folders. passed_over: how many files of which kinds are left out."""

    def __init__(self, problems: list[str], *, recursive: bool) -> None:
        """Set up. problems: gets why a folder cannot be listed. recursive: list subfolders too."""
        self.passed_over: Counter[str] = Counter()
        self._problems, self._recursive = problems, recursive

    def of_folder(self, folder: str) -> list[str]:
        """Return all files in a folder, sorted folder by folder to bound the memory of the sort keys.

        Links to folders are not followed.
        """
        found = []
        try:
            with os.scandir(folder) as entries:
                seen = [
                    (entry.name, _is_folder(entry), entry.is_symlink())
                    for entry in entries
                    if not is_passed_over(entry.name)
                ]
        except OSError as error:
            self._problems.append(pictures.unreadable(folder, error))
            return []
        for name, is_folder, is_link in sorted(seen, key=lambda one: (_natural(one[0]), one)):
            path = os.path.join(folder, name)
            if is_folder and not is_link:
                inside = self.of_folder(path)
                found += inside if self._recursive else []
                self.passed_over[SUBFOLDERS] += 0 if self._recursive else len(inside)
            elif not is_folder:
                found += self._chosen(path)
        return found

    def of_glob(self, pattern: str) -> list[str]:
        """Return all files that match, and all files in folders that match."""
        found = []
        matched = sorted(
            glob.iglob(pattern, recursive=True),
            key=lambda path: ([_natural(part) for part in path.split(os.sep)], path),
        )
        for path in matched:
            found += self.of_folder(path) if os.path.isdir(path) else self._chosen(path)
        return found

    def _chosen(self, path: str) -> list[str]:
        if _is_picture_or_video(path) and not is_drawing(path):
            return [path]
        self.passed_over[kind_of(path)] += 1
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # reading it will report the reason
        return False


def _is_in(path: str, folder: Path) -> bool:
    return os.path.join(os.path.abspath(path), "").startswith(os.path.join(folder, ""))


def _natural(name: str) -> list[str | int]:
    """Return a natural sort key: part2 before part10. Numbers are compared only with numbers."""
    return [int(piece) if i % 2 else piece.lower() for i, piece in enumerate(re.split("([0-9]+)", name))]


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def _is_picture_or_video(path: str) -> bool:
    return _is_video(path) or os.path.splitext(path)[1].lower() in pictures.SUFFIXES
