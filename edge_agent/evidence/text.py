"""Draws one line of text as pixels, in any script the machine supports; uses no font files and does no layout.

Pillow's built-in font draws ASCII. OpenCV 5 includes a font for nearly everything else; with an older OpenCV (as on Jetson)
other letters lose their accents or become escapes such as \\u90e8, so that different part ids stay distinguishable.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

_LONGEST = 1000  # characters; the rest of a text is ignored


def line_height(size: int) -> int:
    """Return the distance between lines of text of this size, in pixels."""
    return round(size * 1.35)


def width(text: str, size: int) -> int:
    """Return the width of one line of text in pixels."""
    text = _drawable(text)
    if text.isascii():
        return math.ceil(_font(size).getlength(text))
    (_, _, wide, _) = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), _opencv_size(size))
    return int(wide) + 1


def write(canvas: np.ndarray, x: int, y: int, text: str, size: int, colour: tuple[int, int, int]) -> None:
    """Draw one line of text; what reaches outside the canvas is cut off.

    Args:
        canvas: (H, W, 3) uint8 RGB, drawn on in place.
        x: left edge of the line in pixels; negative counts as 0.
        y: top edge of the line in pixels; negative counts as 0.
        text: any text; characters that cannot be drawn are replaced.
        size: text size in pixels.
        colour: RGB, 0 to 255 each.
    """
    x, y = max(0, x), max(0, y)
    cover = _coverage(text, size)[: max(0, canvas.shape[0] - y), : max(0, canvas.shape[1] - x)]
    room = canvas[y : y + cover.shape[0], x : x + cover.shape[1]]
    alpha = cover[..., None].astype(np.float32) / 255  # (h, w, 1)
    room[:] = np.rint(room + (np.array(colour, np.float32) - room) * alpha).astype(np.uint8)


def shorten(text: str, size: int, room: int) -> str:
    """Return the text, or as much of its start and end as fits: either end of a name may distinguish it.

    Args:
        text: one line.
        size: text size in pixels.
        room: available width in pixels.
    """
    text = _clean(text)
    if width(text, size) <= room:
        return text
    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if width(_ends(text, middle), size) <= room:
            fits = middle
        else:
            too_many = middle
    return _ends(text, fits) if fits else ""


def wrap(text: str, size: int, room: int, lines: int) -> list[str]:
    """Break the text into lines; the last one is shortened when the text does not fit.

    Args:
        text: any text; line breaks count as spaces.
        size: text size in pixels.
        room: width of a line in pixels.
        lines: most lines to return, at least 1.
    """
    text = _clean(text)
    per_line = max(1, int(room * 0.92 * len(text) / max(1, width(text, size))))
    found = textwrap.wrap(text, per_line)
    if len(found) > lines:
        found = [*found[: lines - 1], " ".join(found[lines - 1 :])]
    return [shorten(line, size, room) for line in found]


def _ends(text: str, count: int) -> str:
    head = (count + 1) // 2
    return f"{text[:head]}...{text[len(text) - (count - head) :]}"


def _clean(text: str) -> str:
    """Replace what cannot be drawn: line breaks, control characters, lone surrogates (bytes in file names)."""
    # OpenCV's Python binding crashes the process on a lone surrogate.
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[:_LONGEST])


def _drawable(text: str) -> str:
    text = _clean(text)
    if text.isascii() or hasattr(cv2, "FontFace"):
        return text
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "backslashreplace").decode("ascii")


def _coverage(text: str, size: int) -> np.ndarray:
    """Return as (line_height, width) uint8 how much of each pixel the letters cover."""
    text, shape, baseline = _drawable(text), (line_height(size), width(text, size)), round(size * 1.02)
    if not text.isascii():
        cover = np.zeros(shape, np.uint8)
        cv2.putText(cover, text, (0, baseline), 255, cv2.FontFace("sans"), _opencv_size(size))
        return cover
    picture = Image.new("L", shape[::-1])
    ImageDraw.Draw(picture).text((0, baseline), text, fill=255, font=_font(size), anchor="ls")
    return np.asarray(picture)


def _opencv_size(size: int) -> int:
    """Convert a size: OpenCV measures the height above the baseline, Pillow that of the whole line."""
    return round(size * 0.95)


@lru_cache(maxsize=32)
def _font(size: int) -> FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, FreeTypeFont)  # with a size it always is, or Pillow raises
    return font
