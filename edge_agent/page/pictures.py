"""The pictures of an inspection as a browser shows them: read from the evidence, scaled, and kept in a limited cache."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote_to_bytes, urlsplit

import cv2
import numpy as np

from edge_agent.core import SavedFile
from edge_agent.errors import PictureError
from edge_agent.evidence.overlay import cut, fit, scaled
from edge_agent.io import pictures
from edge_agent.io.files import open_durably
from edge_agent.journal.rows import RecordedInspection

log = logging.getLogger(__name__)

Kind = Literal["thumbnail", "original", "map"]  # map: the picture with its map and regions drawn on it
KINDS: tuple[Kind, ...] = get_args(Kind)
THUMBNAIL = 320  # pixels of the longer side
MEGAPIXELS = 200  # larger pictures are not decoded
SLACK = 0.1  # share of the cache that is freed in addition, so that not every picture needs a listing
AT_ONCE = 2  # pictures that are decoded at the same time: the line beside it needs the processor


class Pictures:
    """Makes the pictures that are asked for, as JPEG. Thread-safe; pictures are small or scaled, so none stays in memory."""

    def __init__(self, folder: Path, keep_bytes: float) -> None:
        """Open the cache.

        Args:
            folder: of the cache; made when it is needed, and readable by its owner alone.
            keep_bytes: the most bytes it takes; beyond that, those made first are deleted.
        """
        self._folder, self._keep_bytes = folder, keep_bytes
        self._used: float | None = None  # bytes; None: not counted yet
        self._lock, self._decoding = threading.Lock(), threading.Semaphore(AT_ONCE)

    def jpeg(self, recorded: RecordedInspection, kind: Kind) -> bytes:
        """Return a picture of an inspection as the bytes of a JPEG file.

        Args:
            recorded: the inspection.
            kind: thumbnail: small, with the map if one was kept; original: as it was inspected; map: with map and regions.

        Raises:
            PictureError: it was not kept, was deleted, or is no longer the picture that was recorded.
        """
        if recorded.evidence.overlay is None and recorded.evidence.image is None and recorded.origin is None:
            raise PictureError("no picture was kept, or retention has deleted it")
        path = self._folder / f"{recorded.id}_{kind}.jpg"
        try:
            return path.read_bytes()
        except OSError:
            pass
        with self._decoding:
            content = _encoded(_thumbnail(recorded) if kind == "thumbnail" else _pixels(recorded, kind))
        self._keep(path, content)
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        """Write a file of the cache; where that fails, pictures are made anew each time."""
        try:
            with self._lock:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._used is None:
                    self._used = sum(size for _, _, size in self._files())
                if self._used + len(content) > self._keep_bytes:
                    self._used = self._make_room(len(content))
                if self._used + len(content) > self._keep_bytes:
                    return
                self._used += len(content)
            with open_durably(path, shared=True) as file:
                file.write(content)
        except OSError as error:
            log.warning("page: %s cannot be written (%s): pictures are made anew each time", path, error.strerror)

    def _make_room(self, wanted: int) -> float:
        """Delete the oldest files until `wanted` more bytes fit, and some more; return the bytes that are left."""
        files = sorted(self._files())
        used = float(sum(size for _, _, size in files))
        for _, path, size in files:
            if used + wanted <= (1 - SLACK) * self._keep_bytes:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used

    def _files(self) -> list[tuple[int, Path, int]]:
        """Return time of modification, path and size of every file."""
        with os.scandir(self._folder) as entries:
            return [(one.stat().st_mtime_ns, Path(one), one.stat().st_size) for one in entries if one.is_file()]


def _pixels(recorded: RecordedInspection, kind: Kind) -> np.ndarray:
    """Return a picture as (H, W, 3) uint8 RGB at the size of an overlay's, so that both lie on each other."""
    if kind == "map":
        if recorded.evidence.overlay is None:
            raise PictureError("the picture with its map was not kept, or retention has deleted it")
        drawn, shape = _saved(recorded.evidence.overlay), (recorded.height, recorded.width)
        return scaled(cut(drawn, shape), fit(shape)) if all(shape) else drawn
    original = _original(recorded)
    return scaled(original, fit(original.shape))


def _thumbnail(recorded: RecordedInspection) -> np.ndarray:
    """Return a small picture: with the map if it was kept, else with the regions framed."""
    try:
        picture = _pixels(recorded, "map")
    except PictureError:
        picture = _pixels(recorded, "original")
        high, wide = picture.shape[0] / recorded.height, picture.shape[1] / recorded.width
        for region in recorded.verdict.regions:
            x, y, w, h = region.bbox
            corner, other = (int(x * wide), int(y * high)), (int((x + w) * wide), int((y + h) * high))
            cv2.rectangle(picture, corner, other, (235, 0, 40), 2 + max(picture.shape) // 200)
    high, wide = picture.shape[:2]
    share = min(1.0, THUMBNAIL / max(high, wide))
    return scaled(picture, (max(1, round(high * share)), max(1, round(wide * share))))


def _original(recorded: RecordedInspection) -> np.ndarray:
    """Return the inspected pixels, from the evidence or from the file they came from, if it is still as it was."""
    if recorded.evidence.image is not None:
        return _saved(recorded.evidence.image)
    if recorded.origin is None or not os.path.isabs(recorded.origin):
        raise PictureError("the original picture was not kept: set evidence.originals to keep it")
    try:
        file, data = pictures.read(recorded.origin, max_bytes=pictures.max_bytes(MEGAPIXELS))
    except OSError as error:
        raise PictureError(f"the original picture is no longer there ({error.strerror})") from error
    pixels = pictures.decode_bytes(data, file.path, max_megapixels=MEGAPIXELS)
    if pixels.shape[:2] != (recorded.height, recorded.width) or (
        pictures.modified_at(file.mtime_ns) > recorded.inspected_at
    ):
        raise PictureError("the original picture's file was changed since")
    return pixels


def _saved(file: SavedFile) -> np.ndarray:
    """Return a picture of the evidence as pixels. What is not the recorded content is not shown, whatever its path."""
    try:
        path = os.fsdecode(unquote_to_bytes(urlsplit(file.uri).path))
        stored, data = pictures.read(path, max_bytes=pictures.max_bytes(MEGAPIXELS))
    except OSError as error:
        raise PictureError(f"the picture is no longer there ({error.strerror})") from error
    if stored.sha256 != file.sha256:
        raise PictureError("the picture's file was changed since")
    return pictures.decode_bytes(data, stored.path, max_megapixels=MEGAPIXELS)


def _encoded(pixels: np.ndarray) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise PictureError("the picture cannot be encoded")
    return content.tobytes()
