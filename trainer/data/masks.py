"""Masks of defects: which file belongs to which picture, and which of its pixels mark the defect.

Which pixels mark the defect:

- Gray or colour: all that are not black; in lossy formats those from 128 on. 0/1 and 0/255 mean the same, in 16 bits and in
  floating point too.
- Alpha that varies: the painted layer, whatever its colour. Alpha that is the same everywhere says nothing and is dropped.
- Palette: every index but 0, the background. 255 besides other indices is the undecided ring of Pascal VOC, and not marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edge_agent.errors import PictureError
from edge_agent.io.pictures import SUFFIXES, check_size, decode_bytes, max_bytes, read, unreadable

MOST = 0.5  # share of the picture from which a mask is doubtful
NAMES = "STEM_mask.png, STEM.png, STEM_gt.png, STEM_label.png, or a folder STEM of several"
_LOSSY = frozenset({".jpg", ".jpeg", ".webp"})  # masks in these formats have zeros that are not quite 0
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_MEGAPIXELS = 100.0
_MARK = re.compile(r"[-_. ](masks?|gt|ground_?truth|labels?|seg|segmentation|annotation)$", re.IGNORECASE)
_NOT_MASKS = frozenset({"thumbs.db", "desktop.ini"})
_RING = 255


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """The masks in one folder. named: by the stem of their picture, most likely first; several where they add up."""

    named: dict[str, tuple[Path, ...]]

    @classmethod
    def of(cls, folder: Path) -> MaskFolder:
        """List a folder, which need not exist: STEM_mask.* before STEM.* before other marks; a subfolder STEM holds several."""
        named: dict[str, tuple[Path, ...]] = {}
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        files = [one for one in found if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")]
        for one in sorted(files, key=_likelihood):
            named.setdefault(stem_of(one), (one,))
            named.setdefault(one.stem, (one,))
        for one in found:
            if one.is_dir() and (parts := [part for part in sorted(one.iterdir()) if part.suffix.lower() in SUFFIXES]):
                named.setdefault(one.name, tuple(parts))
        return cls(named)


def stem_of(mask: Path) -> str:
    """Return the stem of the picture that a mask is named after: "000" for 000_mask.png, 000_GT.png and 000.png."""
    return _MARK.sub("", mask.stem)


def unclaimed(ground_truth: Path, claimed: Iterable[Path]) -> list[Path]:
    """List the files below a folder of masks that belong to no picture.

    Args:
        ground_truth: the folder; it need not exist.
        claimed: the masks that pictures have.
    """
    known = set(claimed)
    return [
        one
        for one in sorted(ground_truth.rglob("*"))
        if one not in known
        and one.is_file()
        and one.name.lower() not in _NOT_MASKS
        and not any(part.startswith(".") for part in one.relative_to(ground_truth).parts)
    ]


def decode_mask(path: Path) -> np.ndarray:
    """Return the mask, (H, W) bool, True at the defect. Raises PictureError."""
    try:
        file, data = read(path, max_bytes=max_bytes(_MEGAPIXELS))
    except OSError as error:
        raise PictureError(unreadable(path, error)) from error
    special = _special(data, file.path) if data else None
    if special is not None:
        return special
    samples = decode_bytes(data, file.path, max_megapixels=_MEGAPIXELS, bit_depth=8).max(axis=2)
    return samples >= (128 if path.suffix.lower() in _LOSSY else 1)


def is_doubtful(mask: np.ndarray) -> bool:
    """Return whether a mask (H, W) bool covers most of its picture or touches all four borders, as an inverted one does."""
    return bool(mask.mean() > MOST or all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])))


def _likelihood(mask: Path) -> tuple[int, str]:
    stem = mask.stem.lower()
    return (0 if stem.endswith("_mask") else 1 if not _MARK.search(stem) else 2), mask.name


def _special(data: bytes, name: str) -> np.ndarray | None:
    """Return the mask of a picture with a palette, varying alpha or samples of 32 bits, None for any other."""
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as opened:
            alpha = opened.mode in ("LA", "PA", "RGBA") or "transparency" in opened.info
            wide = opened.mode in ("F", "I") and opened.format == "TIFF"
            if not alpha and not wide and opened.mode != "P":
                return None
            check_size(opened.size, name, _MEGAPIXELS, 1)
            if wide:
                return _of_numbers(np.asarray(ImageOps.exif_transpose(opened)), name)
            decode_bytes(data, name, max_megapixels=_MEGAPIXELS)  # refuses damaged files, which Pillow alone may accept
            picture = ImageOps.exif_transpose(opened)
            layer = _of_layer(picture) if alpha else None
            return layer if layer is not None or picture.mode != "P" else _of_palette(picture)
    except PictureError:
        raise
    except Exception:  # decode_bytes says what is wrong with these bytes
        return None


def _of_layer(picture: Image.Image) -> np.ndarray | None:
    """Return what is painted on a transparent layer; of a layer with black and other colours, the others. None if alpha is even."""
    pixels = np.asarray(picture.convert("RGBA"))
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return None
    opaque = alpha >= max(1, int(alpha.max()) // 2)
    coloured = opaque & (pixels[..., :3].max(axis=2) >= 1)
    return coloured if coloured.any() else opaque


def _of_palette(picture: Image.Image) -> np.ndarray | None:
    """Return where the index is not that of the background; None for a palette of grays in order, where indices are grays."""
    palette = np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)
    if np.array_equal(palette, np.arange(len(palette), dtype=np.uint8)[:, None].repeat(3, axis=1)):
        return None
    indices = np.asarray(picture)
    marked = (indices != 0) & (indices != _RING)
    return marked if marked.any() else indices != 0


def _of_numbers(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all() or values.min() < 0:
        raise PictureError(f"{name}: a mask with negative or infinite values: store masks as 0 and 1, or 0 and 255")
    if values.dtype.kind == "f":  # enlarged smoothly, it has values between
        return values >= max(float(values.max()) / 2, 1e-6)
    return values > 0
