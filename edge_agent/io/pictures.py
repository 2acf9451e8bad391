"""Reads stored pictures (png, jpg, bmp, tiff, webp) as RGB, whole or not at all; leaves out folders and videos.

How other content of a picture file is treated:

- 16-bit samples become 8-bit ones by one fixed scale, `bit_depth`. Where it is not given, the highest value tells whether 12
  or all 16 bits are used; other pictures are refused. So pictures of one camera are never read by two scales.
- Alpha is dropped. Cameras have none; it comes from programs that save a four-byte buffer, often with zeros in the fourth.
  Blending such a picture over black would inspect black.
- EXIF orientation is applied, because people draw masks and compare overlays in viewers that apply it. Industrial cameras
  do not write it.
- A file of several pages or frames is refused, as only one of them would be inspected. Thumbnails are passed over.
- Colour profiles and other side information are ignored, however odd or long.

A picture that is damaged is refused as far as its format lets that be seen: see jpeg.py, png.py, webp.py, tiff.py, zeros.py.

Pillow decodes, because it refuses truncated files; JPEG and WebP are decoded where their damage is found. Pillow keeps only
the upper half of 16-bit colours, so those are decoded by OpenCV, and accepted only if both decoders agree: OpenCV alone
misreads some TIFF layouts without an error.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from io import BytesIO
from threading import Event

import cv2
import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edge_agent.core import StoredFile
from edge_agent.errors import DamageError, PictureError
from edge_agent.io import jpeg, png, tiff, webp, zeros
from edge_agent.io.drawings import is_marked

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})

# Detectors read patches of at least 14 pixels. In a smaller picture they see nothing, and every verdict would be OK.
MIN_SIDE = 16

CHUNK = 1 << 20  # bytes that are read at once
READ_S = 300.0  # a file that takes longer to read cannot be inspected
MOST_CHUNKS = 200_000  # of a PNG; 100 megapixels of 16 bits have 75,000 of libpng's size
MOST_SEGMENTS = 1_000  # of a JPEG before its first scan; each has at most 64 KiB

# Chosen by content, not by suffix, and without Pillow's registry, so that no other decoder is ever given the bytes.
_FORMATS: tuple[tuple[re.Pattern[bytes], type[ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
)
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_JPEG_SCAN = 0xDA
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO, _ORIENTATION, _UPRIGHT_ALREADY = 258, 262, 0, 0x0112, 1
_BMP_UNCOMPRESSED = (0, 3)
# The highest values of pictures that use 12 bits and 16 bits; others may be a dark picture of more bits.
_TWELVE_BITS, _SIXTEEN_BITS = (1 << 10, 1 << 12), (1 << 14, 1 << 16)

# How to turn a picture upright, by its EXIF orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


class UnfinishedPictureError(PictureError):
    """The file was changed while it was read, so that the bytes are neither the old picture nor the new one."""


def decode(
    path: str | os.PathLike[str],
    *,
    max_megapixels: float = 100,
    bit_depth: int | None = None,
    min_side: int = 1,
    refuse_drawings: bool = False,
) -> np.ndarray:
    """Decode a picture file to (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        max_megapixels: larger pictures are refused by their header, before memory is allocated for them.
        bit_depth: how many bits of a 16-bit picture the camera uses, in [8, 16]; 2**bit_depth - 1 becomes 255. None: 12
            where the highest value is in [1024, 4095], 16 where it is 16384 or more; others are refused.
        min_side: pictures with a side of fewer pixels are refused.
        refuse_drawings: refuse overlays and contact sheets, which are not to be inspected.

    Raises:
        PictureError: names the file, what is wrong with it and what to do.
    """
    try:
        file, data = read(path, max_bytes=max_bytes(max_megapixels))
    except OSError as error:
        raise PictureError(unreadable(path, error)) from error
    return decode_bytes(
        data,
        file.path,
        max_megapixels=max_megapixels,
        bit_depth=bit_depth,
        min_side=min_side,
        refuse_drawings=refuse_drawings,
    )


def read(path: str | os.PathLike[str], *, max_bytes: int, stop: Event | None = None) -> tuple[StoredFile, bytes | None]:
    """Return the file as the ledger knows it, and its bytes; None instead of more than `max_bytes` bytes.

    A larger file is known by its first MiB, as reading all of a sparse or growing file may never end.

    Args:
        path: the file.
        max_bytes: of a file that is kept in memory.
        stop: ends the reading of a slow file; None: nothing does.

    Raises:
        OSError: unchanged; TimeoutError if the file takes more than READ_S seconds.
        UnfinishedPictureError: the file changed meanwhile, or `stop` was set.
    """
    with open(path, "rb", opener=_open_without_waiting) as opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise PictureError(f"{printable(path)}: not a regular file: give pictures, or folders of pictures")
        keep = before.st_size <= max_bytes
        until, content = time.monotonic() + READ_S, BytesIO()
        while left := (before.st_size if keep else min(before.st_size, CHUNK)) - content.tell():
            if not (chunk := opened.read(min(left, CHUNK))):
                break
            content.write(chunk)
            if stop and stop.is_set():
                raise UnfinishedPictureError(
                    f"{printable(path)}: its reading was stopped: it is read at the next start"
                )
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, f"not read within {READ_S:g} s")
        after = os.fstat(opened.fileno())
    if keep and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnfinishedPictureError(f"{printable(path)}: changed while it was read: try again once it is written")
    data = content.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return StoredFile(
        printable(path), before.st_ino, before.st_size, before.st_mtime_ns, digest
    ), data if keep else None


def decode_bytes(
    data: bytes | None,
    name: str,
    *,
    max_megapixels: float = 100,
    bit_depth: int | None = None,
    min_side: int = 1,
    refuse_drawings: bool = False,
) -> np.ndarray:
    """Decode the bytes that `read` returned.

    Args:
        data: the bytes; None if there were too many.
        name: the picture's name in errors.
        max_megapixels, bit_depth, min_side, refuse_drawings: see decode().

    Raises:
        PictureError: see decode().
    """
    if data is None:
        raise PictureError(
            f"{name}: more bytes than any picture of {max_megapixels:g} megapixels has: raise max_megapixels"
        )
    if not data:
        raise PictureError(f"{name}: empty, 0 bytes: record it again, and check for a full disk")
    if refuse_drawings and is_marked(data):
        raise PictureError(
            f"{name}: drawn by edge-agent, an overlay or a contact sheet: give the pictures that it was made of"
        )
    open_header = next((opener for magic, opener in _FORMATS if magic.match(data)), None)
    if open_header is None:
        raise PictureError(f"{name}: not a picture, by its first bytes: store pictures as png, jpg, bmp, tiff or webp")
    try:
        _check_parts(data, open_header, name)
        if open_header is WebPImageFile:
            return _webp_pixels(data, name, max_megapixels, min_side)
        if open_header is PngImageFile:
            _check_frames(png.frames(data), name)
            data = png.needed(data)
        if open_header is JpegImageFile and (size := jpeg.size(data)):
            # Before Pillow reads the header, as what it says of one that claims too much differs between its versions.
            check_size(size, name, max_megapixels, min_side)
        with open_header(BytesIO(data)) as picture:
            if isinstance(picture, TiffImageFile):
                _check_frames(len(tiff.picture_pages(picture)), name)
            check_size(picture.size, name, max_megapixels, min_side)
            return _pixels(picture, data, name, bit_depth)
    except DamageError as error:
        raise PictureError(f"{name}: cut off or damaged, {error}: copy or record it again") from error
    except PictureError:
        raise
    except Exception as error:  # Decoders raise nearly every kind of exception for damaged bytes.
        raise PictureError(
            f"{name}: cut off, damaged or in an unusual layout ({str(error) or type(error).__name__}): "
            "copy or record it again, as png if in doubt"
        ) from error


def nothing() -> np.ndarray:
    """Return the (0, 0, 3) uint8 pixels of a frame without a picture."""
    return np.empty((0, 0, 3), np.uint8)


def check_size(size: tuple[int, int], name: str, max_megapixels: float, min_side: int) -> None:
    """Raise PictureError unless a picture can be inspected.

    Args:
        size: (width, height) in pixels.
        name: the picture's name in the error.
        max_megapixels, min_side: see decode().
    """
    width, height = size
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise PictureError(
            f"{name}: {width} x {height} pixels, {megapixels:g} megapixels where {max_megapixels:g} are allowed: "
            "raise max_megapixels, or store it smaller"
        )
    if min(size) < min_side:
        raise PictureError(
            f"{name}: {width} x {height} pixels, too small to inspect: give pictures of {min_side} x {min_side} or more"
        )


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) by the header of a JPEG; None if it has no whole one."""
    try:
        with JpegImageFile(BytesIO(data)) as picture:
            return picture.size
    except Exception:  # as decoders do
        return None


def size_by_header(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return (width, height) of a stored picture by its header; None if that cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception:  # as decoders do
        return None


def max_bytes(max_megapixels: float) -> int:
    """Return the most bytes that a file of so many pixels can need: raw 16-bit RGBA, and 16 MiB more."""
    return int(max_megapixels * 8e6) + (16 << 20)


def modified_at(mtime_ns: int) -> datetime:
    """Return a modification time in UTC. Years that file systems allow and datetime does not become 9999 or 1970."""
    epoch, year_10000 = datetime.fromtimestamp(0, timezone.utc), 253_402_300_800_000_000
    return epoch + timedelta(microseconds=min(max(mtime_ns // 1000, 0), year_10000 - 1))


def printable(path: str | os.PathLike[str]) -> str:
    """Return the path as text that can be stored and sent: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unreadable(path: str | os.PathLike[str], error: OSError) -> str:
    """Return the message for a path that cannot be read, with a remedy."""
    remedy = {
        FileNotFoundError: "check the path, and what else moves or deletes files there",
        PermissionError: f"let user {os.geteuid()}, who runs this, read it",
    }.get(type(error), "check the disk or the network share")
    return f"{printable(path)}: cannot be read ({error.strerror}): {remedy}"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # Opening a pipe named .png would block until it has a writer.


def _check_parts(data: bytes, format_: type[ImageFile], name: str) -> None:
    """Raise PictureError for more chunks or segments than any program writes: Pillow would take minutes over them."""
    at, count, most = 8, 0, MOST_CHUNKS
    if format_ is PngImageFile:
        while at + 12 <= len(data) and count <= most:
            at, count = at + 12 + int.from_bytes(data[at : at + 4], "big"), count + 1
    elif format_ is JpegImageFile:
        at, most = 2, MOST_SEGMENTS
        while (marker := _JPEG_MARKER.search(data, at)) and marker[1][0] != _JPEG_SCAN and count <= most:
            at, count = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big"), count + 1
    if count > most:
        raise PictureError(
            f"{name}: damaged or made up, more than {most} parts before its end: copy or record it again"
        )


def _check_frames(count: int, name: str) -> None:
    if count > 1:
        raise PictureError(f"{name}: {count} pages or frames in one file: store each as a picture of its own")


def _webp_pixels(data: bytes, name: str, max_megapixels: float, min_side: int) -> np.ndarray:
    """Return a WebP, upright, as (H, W, 3) uint8 RGB. Raises PictureError.

    Args:
        data: its bytes.
        name: its name in errors.
        max_megapixels, min_side: see decode().
    """
    check_size(webp.size(data), name, max_megapixels, min_side)
    found = webp.picture(data)
    _check_frames(found.frames, name)
    check_size(found.size, name, max_megapixels, min_side)

    def exif() -> Image.Exif:
        read = Image.Exif()
        read.load(found.exif)
        return read

    return _turned(webp.decode(found), _orientation(exif))


def _pixels(picture: ImageFile, data: bytes, name: str, bit_depth: int | None) -> np.ndarray:
    """Return the opened picture, upright, as (H, W, 3) uint8 RGB. Raises PictureError.

    Args:
        picture: the opened file.
        data: its bytes.
        name: its name in errors.
        bit_depth: see decode().
    """
    orientation = _orientation(picture.getexif)
    if isinstance(picture, JpegImageFile):
        pixels = jpeg.decode(data)
        if pixels.shape[2] == 3:
            return _turned(pixels, orientation)
    deep, white_is_zero = _bits(picture, data) == 16, False
    if isinstance(picture, TiffImageFile):
        white_is_zero = picture.tag_v2.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
        tiff.require_whole(picture, data)
        tiff.keep_colours(picture)
    page = picture.tell()
    picture.load()
    picture.info.pop("transparency", None)
    samples = _sixteen_bits(picture, data, page, name) if deep else _eight_bits(picture, name)
    pixels = eight_bits(bit_depth or _bit_depth(samples, name))[samples] if deep else samples
    if white_is_zero:  # Both decoders invert 8-bit pictures, but not 16-bit ones.
        samples, pixels = (samples, 255 - pixels) if deep else (255 - samples, pixels)
    row_of_zeros = bytes(samples.shape[1])  # or more; most files have none, and that is told at once
    if _has_raw_rows(picture, data, orientation) and row_of_zeros in data:
        is_upside_down = isinstance(picture, BmpImageFile) and not _is_top_down(data)
        if (row := zeros.first_hole(samples[::-1] if is_upside_down else samples)) is not None:
            raise DamageError(
                f"zeros stand in place of its data from row {row} of {len(samples)} on, in the file's order"
            )
    # Pillow turns TIFF pictures itself and then removes the tag; OpenCV turns them too.
    return _turned(pixels, _UPRIGHT_ALREADY if isinstance(picture, TiffImageFile) else orientation)


def _eight_bits(picture: ImageFile, name: str) -> np.ndarray:
    """Return the loaded picture as (H, W, 3) uint8 RGB. Raises PictureError if it has more bits. name: its name in errors."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise PictureError(
            f"{name}: its samples are neither 8 nor unsigned 16 bits wide, and so have no fixed scale: "
            "store pictures with 8 or 16 bits"
        )
    return np.array(picture.convert("RGB"))  # a copy, as torch needs writable arrays


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turn = _UPRIGHT.get(orientation)
    return np.ascontiguousarray(turn(pixels) if turn else pixels)


def _orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """Return the EXIF orientation; upright if the side information cannot be read, as the picture is no worse for it."""
    try:
        return read_exif().get(_ORIENTATION, _UPRIGHT_ALREADY)
    except Exception:  # as decoders do
        return _UPRIGHT_ALREADY


def _has_raw_rows(picture: ImageFile, data: bytes, orientation: int) -> bool:
    """Return whether the rows of samples lie in the file as they are."""
    if picture.mode == "1" or picture.mode == "P":
        return False
    if isinstance(picture, TiffImageFile):
        return tiff.has_raw_rows(picture) and orientation == _UPRIGHT_ALREADY
    is_core = int.from_bytes(data[14:18], "little") < 40
    return isinstance(picture, BmpImageFile) and (is_core or int.from_bytes(data[30:34], "little") in _BMP_UNCOMPRESSED)


def _is_top_down(bmp: bytes) -> bool:
    """Return whether the rows of a BMP begin at the top, by the sign of its height."""
    return int.from_bytes(bmp[14:18], "little") >= 40 and int.from_bytes(bmp[22:26], "little", signed=True) < 0


def _bits(picture: ImageFile, data: bytes) -> int:
    """Return the bits of the widest sample."""
    if isinstance(picture, PngImageFile):
        return data[24]
    return max(picture.tag_v2.get(_TIFF_BITS, (1,))) if isinstance(picture, TiffImageFile) else 8


def _sixteen_bits(picture: ImageFile, data: bytes, page: int, name: str) -> np.ndarray:
    """Decode a page of the picture again, to (H, W, 3) uint16 RGB. Raises PictureError if the decoders disagree.

    Args:
        picture: as Pillow has decoded it.
        data: the file's bytes.
        page: number of the page, from 0.
        name: the file's name in errors.
    """
    encoded = np.frombuffer(data, np.uint8)
    if page:
        found = cv2.imdecodemulti(encoded, cv2.IMREAD_UNCHANGED, range=(page, page + 1))[1]
        samples = found[0] if found else None
    else:
        samples = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise PictureError(f"{name}: a layout of 16-bit samples that is not supported: store it as png")
    rgb: np.ndarray = np.dstack([samples] * 3) if samples.ndim == 2 else samples[..., 2::-1]
    pillow: np.ndarray = np.asarray(picture if picture.mode.startswith("I") else picture.convert("RGB"))
    upper = rgb >> 8
    if not np.array_equal(upper if pillow.ndim == 3 else upper[..., 0], pillow if pillow.ndim == 3 else pillow >> 8):
        raise PictureError(f"{name}: Pillow and OpenCV decode it differently: store it as png, or as interleaved tiff")
    return rgb


def _bit_depth(samples: np.ndarray, name: str) -> int:
    """Return how many bits the samples use, where their highest value tells. Raises PictureError if it does not."""
    highest = int(samples.max())
    for depth, (low, above) in ((12, _TWELVE_BITS), (16, _SIXTEEN_BITS)):
        if low <= highest < above:
            return depth
    raise PictureError(
        f"{name}: its 16-bit samples go up to {highest}, which does not tell how many bits the camera uses: set bit_depth "
        f"of the station's source, to {highest.bit_length()} or more, or store pictures with 8 bits"
    )


@lru_cache
def eight_bits(bit_depth: int) -> np.ndarray:
    """Return a table, (65536,) uint8, from 16-bit to 8-bit samples; samples above 2**bit_depth - 1 become 255."""
    top = (1 << bit_depth) - 1
    return ((np.minimum(np.arange(1 << 16), top) * 255 + top // 2) // top).astype(np.uint8)
