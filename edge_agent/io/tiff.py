"""Finds the picture among the pages of a TIFF, and damage in its compressed data that libtiff passes over."""

from __future__ import annotations

import zlib
from itertools import count

from PIL.TiffImagePlugin import TiffImageFile

from edge_agent.errors import DamageError
from edge_agent.io import jpeg

_SUBFILE, _OLD_SUBFILE, _COMPRESSION, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 254, 255, 259, 273, 279, 324, 325
_PLANES, _JPEG_TABLES = 284, 347
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_RAW, _LZW, _JPEG, _DEFLATE, _PACKBITS = 1, 5, 7, (8, 32946), 32773
_HOLE = bytes(64)  # No encoder of these compressions writes as many zeros.
_MOST_PAGES = 64
_WIDEST, _SPARE = 8, 1 << 20  # bytes of a pixel; of a tile beyond the edge of a small picture


def picture_pages(picture: TiffImageFile) -> list[int]:
    """Return the numbers, from 0, of the pages that are neither thumbnails nor masks. Leaves the picture at the first."""
    pages = []
    for number in count():
        try:
            picture.seek(number)
        except EOFError:
            break
        kind, old_kind = picture.tag_v2.get(_SUBFILE, 0), picture.tag_v2.get(_OLD_SUBFILE, 0)
        if not kind & (_REDUCED | _MASK) and old_kind != _OLD_REDUCED:
            pages.append(number)
        if number == _MOST_PAGES:
            break
    if not pages:
        raise DamageError("it holds nothing but thumbnails")
    picture.seek(pages[0])
    return pages


def has_raw_rows(picture: TiffImageFile) -> bool:
    """Return whether the samples of the page are stored as they are, row by row, in the order of the picture."""
    tags = picture.tag_v2
    return tags.get(_COMPRESSION, _RAW) == _RAW and _TILES not in tags and tags.get(_PLANES, 1) == 1


def keep_colours(picture: TiffImageFile) -> None:
    """Have the page decoded without dividing its colours by its alpha: many programs leave zeros there."""
    picture.tile = [
        tile._replace(args=(str(tile.args[0]).replace("RGBa", "RGBA"), *tile.args[1:]))
        if isinstance(tile.args, tuple)
        else tile
        for tile in picture.tile
    ]


def require_whole(picture: TiffImageFile, data: bytes) -> None:
    """Raise DamageError if the strips or tiles of the page show damage. data: the file's bytes."""
    tags = picture.tag_v2
    compression = tags.get(_COMPRESSION, _RAW)
    offsets = tags.get(_TILES, tags.get(_STRIPS, ()))
    lengths = tags.get(_TILE_BYTES, tags.get(_STRIP_BYTES, ()))
    most = picture.width * picture.height * _WIDEST + _SPARE
    for number, (offset, length) in enumerate(zip(offsets, lengths, strict=False)):
        part = data[offset : offset + length]
        where = f"its strip {number + 1} of {len(offsets)}"
        if len(part) < length:
            raise DamageError(f"{where} lies beyond its {len(data)} bytes")
        if compression in (_LZW, _PACKBITS) and _HOLE in part:
            raise DamageError(f"{where} holds zeros in place of data")
        if compression in _DEFLATE and not _is_whole(part, most):
            raise DamageError(f"{where} is damaged (its deflate data are cut off, or their checksum is wrong)")
        if compression == _JPEG:
            tables = tags.get(_JPEG_TABLES, b"")
            jpeg.decode(tables[:-2] + part[2:] if tables else part)


def _is_whole(deflated: bytes, most: int) -> bool:
    """Return whether deflate data are whole, by their checksum, and hold no more than `most` bytes."""
    inflate = zlib.decompressobj()
    try:
        rest, held = deflated, 0
        while rest and not inflate.eof and held <= most:
            held += len(inflate.decompress(rest, 1 << 20))
            rest = inflate.unconsumed_tail
    except zlib.error:
        return False
    return inflate.eof
