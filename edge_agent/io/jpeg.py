"""Decodes JPEG data that is whole, and says of other data where it is damaged.

A decoder shows something for whatever bytes it is given. Three signs tell that it had to invent a part: a warning of libjpeg;
zeros that no encoder writes; and a step of brightness or colour that begins amid a row of blocks and lasts for the width of
the picture, because each block is coded as the difference from the one before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from edge_agent.errors import DamageError

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_PROGRESSIVE, _TABLES, _END, _SCAN, _QUANTISATION = 0xC2, 0xC4, 0xD9, 0xDA, 0xDB
_WITHOUT_LENGTH = (0x01, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SIDE = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})  # without JFIF's and Adobe's, which tell the colours
_MOST_SCANS = 100
_HOLE = bytes(16)
_STEP, _MARGIN = 1.5, 0.18  # levels of 255; of a row, in which real edges begin
_FEWEST = 20  # blocks in a row: a step of fewer may be there by chance
_SHARE, _BESIDE = 0.9, 0.5  # of the blocks along the shift, and of as many before and after
_COMPONENTS = {1: "RGB", 3: "RGB", 4: "CMYK"}


class _Scan(NamedTuple):
    """Where the codes of one scan lie in the bytes. zeros_are_plain: whether zeros among them stand for a plain area."""

    begin: int
    end: int
    zeros_are_plain: bool


class _Component(NamedTuple):
    """A colour of the picture. across, down: sampling factors. step: by which the brightness of a block can change, in levels."""

    across: int
    down: int
    step: float


class _Parts(NamedTuple):
    """What the markers of a JPEG tell. end: where its end marker ends. side: (begin, end) of segments of side information."""

    end: int
    side: list[tuple[int, int]]
    scans: list[_Scan]
    components: list[_Component]


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG to (H, W, 3) uint8 RGB, or to (H, W, 4) uint8 CMYK as it is stored. Raises DamageError.

    Bytes after its end, and zeros before its end marker, as some cameras write, are passed over.
    """
    parts = _parts(data)
    padding = _padding(data, parts.scans[-1])
    for scan in parts.scans:
        end = scan.end - (padding if scan is parts.scans[-1] else 0)
        if not scan.zeros_are_plain and (hole := data.find(_HOLE, scan.begin, end)) >= 0:
            raise DamageError(f"its JPEG data is damaged from byte {hole} of {len(data)} on (zeros in place of data)")
    kind = _COMPONENTS.get(len(parts.components))
    if kind is None:
        raise DamageError(f"its JPEG data is damaged, or has {len(parts.components)} colours where 1, 3 or 4 are usual")
    if not padding:
        pixels = _decode(_without(parts.side, data, parts.end), kind)
    else:
        unpadded = _without(parts.side, data, parts.scans[-1].end - padding)
        try:
            pixels = _decode(unpadded + b"\xff\xd9", kind)
        except DamageError:  # The first zero may belong to the data.
            pixels = _decode(unpadded + b"\0\xff\xd9", kind)
    if (row := _first_step(pixels, parts.components)) is not None:
        raise DamageError(
            f"its JPEG data is damaged from row {row} of {len(pixels)} on (brightness or colour changes amid a row of blocks)"
        )
    return pixels


def size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) as the header says, None where there is none. Segments are skipped by their length."""
    at = 2
    while marker := _MARKER.search(data, at):
        kind, at = marker[1][0], marker.end()
        if kind in _FRAMES and at + 7 <= len(data):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
        if kind in (_SCAN, _END):
            return None
        if kind not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _decode(data: bytes, kind: str) -> np.ndarray:
    """Decode with any warning as an error. kind: colours to decode to. Raises DamageError."""
    try:
        return simplejpeg.decode_jpeg(data, kind, strict=True)
    except ValueError as error:
        raise DamageError(f"its JPEG data is damaged ({str(error).removeprefix('Corrupt JPEG data: ')})") from error


def _without(side: list[tuple[int, int]], data: bytes, end: int) -> bytes:
    """Return the bytes up to `end` without side information, which libjpeg may warn of though the picture is whole."""
    begins = [2, *(after for _, after in side)]
    ends = [*(begin for begin, _ in side), end]
    return data[:2] + b"".join(data[begin:stop] for begin, stop in zip(begins, ends, strict=True))


def _padding(data: bytes, scan: _Scan) -> int:
    """Return how many zeros follow the codes of a scan, 0 if they may be codes."""
    coded = data[scan.begin : scan.end]
    zeros = len(coded) - len(coded.rstrip(b"\0"))
    return zeros if zeros >= len(_HOLE) and not scan.zeros_are_plain else 0


def _parts(data: bytes) -> _Parts:
    """Read the markers of a JPEG. Segments are skipped by their length, as thumbnails in them have markers too."""
    at = 2
    scans: list[_Scan] = []
    side: list[tuple[int, int]] = []
    factors: list[tuple[int, int, int]] = []
    first_symbols: dict[int, int] = {}
    steps: dict[int, float] = {}
    is_progressive = False
    while marker := _MARKER.search(data, at):
        kind, at = marker[1][0], marker.end()
        if kind == _END:
            if not scans or not factors:
                break
            return _Parts(
                at, side, scans, [_Component(across, down, steps.get(table, 1)) for across, down, table in factors]
            )
        if kind in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        segment = data[at + 2 : at + length]
        at += length
        if kind in _SIDE:
            side.append((marker.start(), at))
        elif kind == _SCAN:
            if len(scans) == _MOST_SCANS:
                raise DamageError(f"more than {_MOST_SCANS} scans of one picture, which would take minutes to decode")
            following = _MARKER.search(data, at)
            is_plain = _zeros_are_plain(segment, first_symbols, is_progressive)
            scans.append(_Scan(at, following.start() if following else len(data), is_plain))
        elif kind in _FRAMES:
            is_progressive = kind == _PROGRESSIVE
            factors = [(both >> 4, both & 15, table) for both, table in zip(segment[7::3], segment[8::3], strict=False)]
        elif kind == _QUANTISATION:
            while segment:
                wide = segment[0] >> 4
                steps[segment[0] & 15] = int.from_bytes(segment[1 : 3 if wide else 2], "big") / 8
                segment = segment[129 if wide else 65 :]
        elif kind == _TABLES:
            while len(segment) > 17:
                first_symbols[segment[0]] = segment[17]
                segment = segment[17 + sum(segment[1:17]) :]
    raise DamageError(f"its {len(data)} bytes have no end")


def _zeros_are_plain(segment: bytes, first_symbols: dict[int, int], is_progressive: bool) -> bool:
    """Return whether the zeros in a scan stand for blocks like the one before, without structure.

    Args:
        segment: the scan's header.
        first_symbols: of each Huffman table, by its class (16 for AC) and number. Its code consists of zeros.
        is_progressive: whether a scan holds a part of the coefficients.
    """
    count = segment[0]
    first, last, approximation = segment[1 + 2 * count : 4 + 2 * count]
    if approximation >> 4:  # It refines earlier scans, with a zero for what stays as it is.
        return True
    numbers = segment[2 : 2 + 2 * count : 2]
    dc = [first_symbols.get(number >> 4) for number in numbers if first == 0]
    ac = [first_symbols.get(16 | number & 15) for number in numbers if last and not (is_progressive and first == 0)]
    ends_block = [symbol is not None and symbol & 15 == 0 and symbol != 0xF0 for symbol in ac]
    return all(symbol == 0 for symbol in dc) and all(ends_block)


def _first_step(pixels: np.ndarray, components: list[_Component]) -> int | None:
    """Return the row from which on brightness or colour is shifted, or None.

    A shift begins at some block and holds for all blocks after it. So there is a step at the upper edge of that block and of
    those right of it, and one row of blocks below at those left of it. Edges of real things do not run so; but one that runs
    straight along a row of blocks looks nearly like it, so steps that begin near the picture's border are passed over.
    """
    is_interleaved = len(components) > 1
    width = 8 * max(one.across for one in components) if is_interleaved else 8
    height = 8 * max(one.down for one in components) if is_interleaved else 8
    edges = np.arange(height, len(pixels) - 1, height)
    columns = -(-pixels.shape[1] // width)
    if len(edges) < 2 or columns < _FEWEST:
        return None
    least = [max(_STEP, 1.5 * one.step) for one in components[:3]]
    around = np.concatenate([pixels[edges + offset, :, :3] for offset in (-2, -1, 0, 1)])
    planes = cv2.split(cv2.cvtColor(around, cv2.COLOR_RGB2YCrCb))
    shifts = [
        _shifted_blocks(plane, width, of) for plane, of in zip(planes[: len(least)], least, strict=True)
    ]  # a gray one has brightness alone
    up, down = (np.stack([one.ravel() for one in each], axis=1) for each in zip(*shifts, strict=True))
    start = np.arange(len(up) - columns + 1)
    from_border = np.minimum(start % columns, columns - start % columns)
    inside = from_border >= max(2, _MARGIN * columns)
    for shifted in (up, down):
        summed = np.cumsum(np.concatenate([np.zeros((1, shifted.shape[1]), int), shifted]), axis=0)
        share = (summed[columns:] - summed[:-columns]) / columns
        # A picture of large pixels, as of an enlarged one, has steps in every row.
        beside = np.pad(share, ((columns, columns), (0, 0)))
        is_single = np.maximum(beside[: -2 * columns], beside[2 * columns :]) <= _BESIDE
        found = np.flatnonzero(((share >= _SHARE) & is_single).any(axis=1) & inside)
        if found.size:
            return int((found[0] // columns + 1) * height)
    return None


def _shifted_blocks(around: np.ndarray, width: int, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the median step at the upper edge of a block is above `least` and below -`least`, each (rows, columns) bool.

    Args:
        around: (4 rows, W) uint8, one colour: second last and last row of pixels above each edge, first and second below it.
        width: of a block in pixels; the last one is filled up with the last pixel's step.
        least: in levels.
    """
    around = np.pad(around.astype(np.int16), ((0, 0), (0, -around.shape[1] % width)), mode="edge")
    above2, above, below, below2 = around.reshape(4, -1, around.shape[1] // width, width)
    step = 2 * (below - above)  # twice, as halves are not whole
    beyond = step - (below2 - below) - (above - above2)  # what the slopes on both sides do not explain
    limit, middle = 2 * least, width // 2

    def most(step: np.ndarray, beyond: np.ndarray) -> np.ndarray:
        count = ((step > limit) & (beyond > limit)).sum(axis=2)
        found = count > middle
        even = count == middle  # The median lies between the two steps in the middle.
        first, second = step[even], beyond[even]
        same = (first > 0) == (second > 0)
        steps = np.sort(np.where(same, np.sign(first) * np.minimum(abs(first), abs(second)), 0))
        found[even] = steps[:, middle - 1] + steps[:, middle] > 2 * limit
        return found

    return most(step, beyond), most(-step, -beyond)
