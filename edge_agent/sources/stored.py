"""Gives stored pictures and videos from the first to the last, for replay; watches nothing and asks no ledger."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from edge_agent import pictures
from edge_agent.core import Frame
from edge_agent.errors import EdgeAgentError, PictureError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})


class StoredSource:
    """A core.Source that ends. It gives files in the order of `paths`, those of a folder or glob in natural order.

    A folder stands for the pictures and videos in it and in its subfolders, hidden ones apart, a glob for those among
    what it matches; no file is taken twice. What cannot be read becomes a frame with a fault. taken_at is when the file
    was modified, part_id the name of the file without its suffix, for a video with the frame's number behind it.
    """

    live = False

    def __init__(
        self,
        station: str,
        paths: Sequence[str | os.PathLike[str]],
        *,
        every: int = 1,
        max_megapixels: float = 100,
        bit_depth: int = 16,
        leave_out: Path | None = None,
    ) -> None:
        """every: of a video, take the first of so many frames. max_megapixels, bit_depth: see pictures.decode.
        leave_out: an absolute folder, such as that of an earlier replay's overlays, of which nothing is taken, unless a
        path leads into it.

        Raises EdgeAgentError, which names every one of the paths that gives nothing to inspect.
        """
        self.station = station
        self._every, self._max_megapixels, self._bit_depth = every, max_megapixels, bit_depth
        self._files = _files(paths, leave_out)

    @property
    def count(self) -> int | None:
        """The number of frames; None with a video among the files, as what those say of their length is a guess."""
        return None if any(map(_is_video, self._files)) else len(self._files)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield every frame, or until `stop` is set."""
        seq = 0
        for path in self._files:
            taken_at = datetime.now(timezone.utc)
            with suppress(OSError):  # reading it will tell what is wrong
                taken_at = pictures.modified_at(os.stat(path).st_mtime_ns)
            name = pictures.printable(path)
            stem = pictures.printable(Path(path).stem)
            for place, pixels, fault in self._video(path) if _is_video(path) else self._picture(path):
                if stop.is_set():
                    return
                part_id = stem + place.replace("#", "-")
                yield Frame(self.station, seq, taken_at, pixels, part_id, origin=name + place, fault=fault)
                seq += 1

    def _picture(self, path: str) -> Iterator[tuple[str, np.ndarray, str | None]]:
        """(what to add to the path, pixels, fault) of its one frame."""
        try:
            pixels = pictures.decode(
                path, max_megapixels=self._max_megapixels, bit_depth=self._bit_depth, min_side=pictures.MIN_SIDE
            )
        except PictureError as error:
            yield "", pictures.nothing(), str(error)
        else:
            yield "", pixels, None

    def _video(self, path: str) -> Iterator[tuple[str, np.ndarray, str | None]]:
        """(what to add to the path, pixels, fault) of each frame, and of what keeps it from giving more."""
        name = pictures.printable(path)
        # OpenCV 5 crashes over a name that is not UTF-8.
        video = cv2.VideoCapture(path, cv2.CAP_FFMPEG) if name == path else cv2.VideoCapture()
        try:
            if name != path:
                raise PictureError(f"{name}: its name is not UTF-8, which videos need: rename it")
            if not video.isOpened():
                raise PictureError(f"{name}: cannot be opened as a video, empty or damaged: record it again, or as mp4")
            size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
            pictures.check_size(size, name, self._max_megapixels, pictures.MIN_SIDE)
            announced, number = video.get(cv2.CAP_PROP_FRAME_COUNT), 0
            while video.grab():
                if number % self._every == 0:
                    read, pixels = video.retrieve()
                    if not read:
                        break
                    yield f"#{number}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), None
                number += 1
            # Most videos announce how many frames they have to within one or two, by their duration.
            if number == 0 or number < 0.95 * announced - 2:
                raise PictureError(
                    f"{name}: ends after {number} of {announced:.0f} frames, cut off or damaged: "
                    "copy or record it again"
                )
        except PictureError as error:
            yield "", pictures.nothing(), str(error)
        finally:
            video.release()


def _files(paths: Sequence[str | os.PathLike[str]], leave_out: Path | None) -> list[str]:
    """The absolute paths of the files to read, each once."""
    files: dict[str, None] = {}
    problems: list[str] = []
    for path in [os.fspath(path) for path in paths]:
        known_problems = len(problems)
        if os.path.isdir(path):
            found = _in_folder(path, problems)
        elif os.path.lexists(path):
            found = [path]
        elif glob.has_magic(path):
            found = _in_glob(path, problems)
        else:
            problems.append(f"{path}: no such file or folder: correct the path")
            continue
        if leave_out and not _is_in(path, leave_out):
            found = [file for file in found if not _is_in(file, leave_out)]
        if not found and len(problems) == known_problems:
            problems.append(f"{path}: no picture or video there: give files, folders or globs of them")
        files.update(dict.fromkeys(map(os.path.abspath, found)))
    if problems:
        raise EdgeAgentError("\n".join(problems))
    if not files:
        raise EdgeAgentError("nothing to inspect: give files, folders or globs of pictures or videos")
    return list(files)


def _in_folder(folder: str, problems: list[str]) -> list[str]:
    def note(error: OSError) -> None:
        problems.append(pictures.unreadable(error.filename, error))

    found = []
    for place, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if not name.startswith(".") and _is_ours(name)]
    return _naturally(found)


def _in_glob(pattern: str, problems: list[str]) -> list[str]:
    found = []
    for path in _naturally(glob.iglob(pattern, recursive=True)):
        found += _in_folder(path, problems) if os.path.isdir(path) else [path] if _is_ours(path) else []
    return found


def _is_in(path: str, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(folder)


def _naturally(paths: Iterable[str]) -> list[str]:
    """Sorted as people would: part2 before part10, and folder by folder."""

    def key(path: str) -> list[list[str | int]]:
        # Every second piece is a number, so that numbers only ever meet numbers.
        pieces = (re.split("([0-9]+)", part) for part in path.split(os.sep))
        return [[int(piece) if i % 2 else piece.lower() for i, piece in enumerate(part)] for part in pieces]

    return sorted(paths, key=lambda path: (key(path), path))


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def _is_ours(path: str) -> bool:
    return _is_video(path) or os.path.splitext(path)[1].lower() in pictures.SUFFIXES
