"""Reads stored pictures (png, jpg, bmp, tiff, webp) as RGB, whole or not at all; knows nothing of folders or videos.

What a picture file may say beside its pixels, and what is made of it:

- 16-bit samples become 8-bit ones by one fixed scale, `bit_depth`, never by what the picture at hand happens to hold.
- Alpha is dropped. A camera has none; what writes it is a program that saved a four-byte buffer, often with zeros in
  the fourth. Laying such a picture over black would inspect blackness.
- EXIF orientation is applied: people draw masks and ignored areas in viewers that apply it, and compare overlays in
  them. Industrial cameras do not write it.
- Of pages and animations the first is taken. Colour profiles are ignored.

Pillow decodes, because it refuses cut-off files. It keeps only the upper half of 16-bit colours, so those come from
OpenCV, and only if both decoders saw the same picture: OpenCV alone misreads some TIFF layouts without a word.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edge_agent.core import StoredFile
from edge_agent.errors import PictureError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# A detector sees patches of 14 pixels or more; below that a picture shows it nothing, and it would say OK to anything.
MIN_SIDE = 16

# By content, not by suffix, and past Pillow's registry: no decoder but these ever sees the bytes.
_FORMATS: tuple[tuple[re.Pattern[bytes], type[ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
)
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_JPEG_END, _JPEG_WITHOUT_LENGTH = 0xD9, (0x01, 0xD8)
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO, _ORIENTATION = 258, 262, 0, 0x0112

# What brings a picture upright, by its EXIF orientation.
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
    """The file was written to while it was being read: what was read is neither the old picture nor the new one."""


def decode(
    path: str | os.PathLike[str], *, max_megapixels: float = 100, bit_depth: int = 16, min_side: int = 1
) -> np.ndarray:
    """The picture at `path` as (H, W, 3) uint8 RGB.

    max_megapixels: a larger picture is refused from its header, before memory is spent on it.
    bit_depth: how many of the 16 bits of a 16-bit picture the camera fills, in [8, 16]; 2**bit_depth - 1 becomes 255.
    min_side: a picture with a side below that many pixels is refused.
    Raises PictureError, which names the file, what is wrong with it and what to do.
    """
    try:
        file, data = read(path, max_bytes=max_bytes(max_megapixels))
    except OSError as error:
        raise PictureError(unreadable(path, error)) from error
    return decode_bytes(data, file.path, max_megapixels=max_megapixels, bit_depth=bit_depth, min_side=min_side)


def read(path: str | os.PathLike[str], *, max_bytes: int) -> tuple[StoredFile, bytes | None]:
    """The file as the ledger knows it, and its bytes; None for bytes when there are more than `max_bytes`.

    Raises OSError as the operating system gave it, and UnfinishedPictureError when the file changed meanwhile.
    """
    with open(path, "rb", opener=_open_without_waiting) as opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise PictureError(f"{printable(path)}: not a regular file: give pictures, or folders of pictures")
        keep = before.st_size <= max_bytes
        data = opened.read(before.st_size) if keep else None
        digest = hashlib.sha256(data or b"")
        while not keep and (chunk := opened.read(1 << 20)):
            digest.update(chunk)
        after = os.fstat(opened.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnfinishedPictureError(f"{printable(path)}: changed while it was read: try again once it is written")
    return StoredFile(printable(path), before.st_ino, before.st_size, before.st_mtime_ns, digest.hexdigest()), data


def decode_bytes(
    data: bytes | None, name: str, *, max_megapixels: float = 100, bit_depth: int = 16, min_side: int = 1
) -> np.ndarray:
    """As decode, for what `read` gave; `name` is what errors call the picture."""
    if data is None:
        raise PictureError(
            f"{name}: more bytes than any picture of {max_megapixels:g} megapixels has: raise max_megapixels"
        )
    if not data:
        raise PictureError(f"{name}: empty, 0 bytes: record it again, and check for a full disk")
    open_header = next((opener for magic, opener in _FORMATS if magic.match(data)), None)
    if open_header is None:
        raise PictureError(
            f"{name}: not a picture, it begins with {data[:8]!r}: store pictures as png, jpg, bmp, tiff or webp"
        )
    try:
        if open_header is WebPImageFile:  # Pillow asks for the whole canvas as soon as it opens one.
            check_size(_webp_size(data), name, max_megapixels, min_side)
        with open_header(BytesIO(data)) as picture:
            check_size(picture.size, name, max_megapixels, min_side)
            _check_whole(data, open_header, name)
            return _pixels(picture, data, name, _to_eight_bits(bit_depth))
    except PictureError:
        raise
    except Exception as error:  # Decoders meet damaged bytes with nearly every exception there is.
        raise PictureError(
            f"{name}: cut off, damaged or in an unusual layout ({str(error) or type(error).__name__}): "
            "copy or record it again, as png if in doubt"
        ) from error


def nothing() -> np.ndarray:
    """The (0, 0, 3) uint8 pixels of a frame without a picture."""
    return np.empty((0, 0, 3), np.uint8)


def check_size(size: tuple[int, int], name: str, max_megapixels: float, min_side: int) -> None:
    """Raise PictureError unless a picture of (width, height) pixels can be inspected."""
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


def max_bytes(max_megapixels: float) -> int:
    """The most bytes that a file of so many pixels has reason to be: 16-bit RGBA, stored raw, and some to spare."""
    return int(max_megapixels * 8e6) + (16 << 20)


def modified_at(mtime_ns: int) -> datetime:
    """When a file was modified, in UTC. File systems know years that datetime does not; those become 9999 or 1970."""
    epoch, year_10000 = datetime.fromtimestamp(0, timezone.utc), 253_402_300_800_000_000
    return epoch + timedelta(microseconds=min(max(mtime_ns // 1000, 0), year_10000 - 1))


def printable(path: str | os.PathLike[str]) -> str:
    """The path as text that can be stored and sent: names that are not UTF-8 get their odd bytes as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unreadable(path: str | os.PathLike[str], error: OSError) -> str:
    """What to tell the user when `path` cannot be read."""
    remedy = {
        FileNotFoundError: "check the path, and what else moves or deletes files there",
        PermissionError: f"let user {os.geteuid()}, who runs this, read it",
    }.get(type(error), "check the disk or the network share")
    return f"{printable(path)}: cannot be read ({error.strerror}): {remedy}"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # A pipe named .png would make us wait for a writer.


def _check_whole(data: bytes, format_: type[ImageFile], name: str) -> None:
    """Finds what decoders fill in with grey or black, such as the zeros of a file that was only partly copied."""
    end = {PngImageFile: _png_end, JpegImageFile: _jpeg_end}.get(format_)
    if end is not None and end(data) is None:
        raise PictureError(f"{name}: cut off or damaged, its {len(data)} bytes have no end: copy or record it again")


def _png_end(data: bytes) -> int | None:
    """Where the end chunk of a PNG ends, if every chunk up to there has its right checksum."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body_end = at + 8 + length
        if zlib.crc32(memoryview(data)[at + 4 : body_end]) != int.from_bytes(data[body_end : body_end + 4], "big"):
            return None
        if data[at + 4 : at + 8] == b"IEND":
            return body_end + 4
        at = body_end + 4
    return None


def _jpeg_end(data: bytes) -> int | None:
    """Where the end-of-image marker of a JPEG ends, found by walking its segments: thumbnails have such markers too."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        at = marker.end()
        if marker[1][0] == _JPEG_END:
            return at
        if marker[1][0] not in _JPEG_WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) as the first chunk of a WebP states them (RFC 9649)."""
    kind = data[12:16] if len(data) >= 30 else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise ValueError(f"unknown WebP chunk {kind!r}")


def _pixels(picture: ImageFile, data: bytes, name: str, to_eight_bits: np.ndarray) -> np.ndarray:
    """The opened picture, upright, as (H, W, 3) uint8 RGB."""
    deep = _bits(picture, data) == 16
    white_is_zero = isinstance(picture, TiffImageFile) and picture.tag_v2.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
    picture.load()
    picture.info.pop("transparency", None)
    if deep:
        pixels = to_eight_bits[_sixteen_bits(picture, data, name)]
        if white_is_zero:  # Both decoders invert 8-bit pictures by themselves, and leave 16-bit ones as they are.
            pixels = 255 - pixels
    elif picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise PictureError(
            f"{name}: its samples are neither 8 nor unsigned 16 bits wide, and so have no fixed scale: "
            "store pictures with 8 or 16 bits"
        )
    else:
        pixels = np.array(picture.convert("RGB"))  # a copy, as torch wants arrays that it may write to
    # Pillow takes the tag away from what it has turned itself, as it does with TIFF, and so does OpenCV turn it.
    turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    return np.ascontiguousarray(turn(pixels) if turn else pixels)


def _bits(picture: ImageFile, data: bytes) -> int:
    """The bits of the widest sample."""
    if isinstance(picture, PngImageFile):
        return data[24]
    return max(picture.tag_v2.get(_TIFF_BITS, (1,))) if isinstance(picture, TiffImageFile) else 8


def _sixteen_bits(picture: ImageFile, data: bytes, name: str) -> np.ndarray:
    """The loaded picture, decoded again, as (H, W, 3) uint16 RGB."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise PictureError(f"{name}: a layout of 16-bit samples that is not supported: store it as png")
    rgb: np.ndarray = np.dstack([samples] * 3) if samples.ndim == 2 else samples[..., 2::-1]
    seen: np.ndarray = np.asarray(picture if picture.mode.startswith("I") else picture.convert("RGB"))
    upper = rgb >> 8
    if not np.array_equal(upper if seen.ndim == 3 else upper[..., 0], seen if seen.ndim == 3 else seen >> 8):
        raise PictureError(f"{name}: Pillow and OpenCV decode it differently: store it as png, or as interleaved tiff")
    return rgb


@lru_cache
def _to_eight_bits(bit_depth: int) -> np.ndarray:
    """(65536,) uint8: what becomes of each 16-bit sample; what is above 2**bit_depth - 1 becomes 255."""
    top = (1 << bit_depth) - 1
    return ((np.minimum(np.arange(1 << 16), top) * 255 + top // 2) // top).astype(np.uint8)
