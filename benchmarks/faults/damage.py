"""Damage every shipped sample in every format: what is still read, and which defective pictures become OK without a word.

    python -m benchmarks.faults.damage [--places 20] [--read-only]

Ten kinds of damage at so many places each. Counts what is refused, what is read although it is damaged, and, of those whose
whole picture is NotOK, how many the embedded model then calls OK: none should be, but for formats in which overwritten bytes
are as good as any. Intact pictures must all be read.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import edge_agent
from benchmarks.faults.results import tell
from edge_agent.core import Detector
from edge_agent.errors import PictureError
from edge_agent.io.pictures import decode_bytes

MUST_BE_NONE = ("intact_refused", "wrong_ok")
SAMPLES = Path(edge_agent.__file__).parent / "samples"
HEADER = 0.1  # of a file, where damage is not looked at: nearly all of it is refused there
Damage = Callable[[bytes, int, random.Random], bytes]


def _saved(kind: str, picture: Image.Image, **options: object) -> bytes:
    picture.save(file := BytesIO(), kind, **options)
    return file.getvalue()


def _padded(picture: Image.Image, padding: bytes) -> bytes:
    whole = _saved("JPEG", picture)
    return whole[:-2] + padding + whole[-2:]


def _with_restarts(picture: Image.Image) -> bytes:
    bgr = np.asarray(picture)[..., ::-1].copy()
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_RST_INTERVAL, 7])[1].tobytes()


FORMATS: Mapping[str, Callable[[Image.Image], bytes]] = {
    "jpeg": partial(_saved, "JPEG", quality=85),
    "jpeg_444": partial(_saved, "JPEG", quality=92, subsampling=0),
    "jpeg_progressive": partial(_saved, "JPEG", quality=85, progressive=True),
    "jpeg_optimised": partial(_saved, "JPEG", quality=70, optimize=True),
    "jpeg_restarts": _with_restarts,
    "jpeg_gray": lambda picture: _saved("JPEG", picture.convert("L"), quality=85),
    "webp": partial(_saved, "WEBP", quality=85),
    "webp_lossless": partial(_saved, "WEBP", lossless=True),
    "png": partial(_saved, "PNG"),
    "bmp": partial(_saved, "BMP"),
    "tiff": partial(_saved, "TIFF"),
    "tiff_lzw": partial(_saved, "TIFF", compression="tiff_lzw"),
    "tiff_deflate": partial(_saved, "TIFF", compression="tiff_adobe_deflate"),
    "tiff_jpeg": partial(_saved, "TIFF", compression="jpeg"),
}
UNCHECKED = ("webp_lossless", "bmp", "tiff")  # formats in which overwritten bytes are as good as any
# Read, but not damaged: what must not be refused for being unusual.
UNUSUAL: Mapping[str, Callable[[Image.Image], bytes]] = {
    "jpeg_cmyk": lambda picture: _saved("JPEG", picture.convert("CMYK")),
    "jpeg_trailing_bytes": lambda picture: _saved("JPEG", picture) + b"camera 7\0" * 50,
    "jpeg_zeros_before_end": partial(_padded, padding=bytes(300)),
    "jpeg_fill_before_end": partial(_padded, padding=b"\xff" * 30),
    "jpeg_exif": lambda picture: _saved("JPEG", picture, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "jpeg_quality_20": partial(_saved, "JPEG", quality=20),
    "jpeg_quality_100": partial(_saved, "JPEG", quality=100),
    "webp_quality_20": partial(_saved, "WEBP", quality=20),
    "tiff_packbits": partial(_saved, "TIFF", compression="packbits"),
}


def _replaced(length: int, fill: Callable[[random.Random, int], bytes]) -> Damage:
    def damage(data: bytes, at: int, chance: random.Random) -> bytes:
        count = min(length, len(data) - at - 2)
        return data[:at] + fill(chance, count) + data[at + count :]

    return damage


def _zeros(chance: random.Random, count: int) -> bytes:
    return bytes(count)


DAMAGES: Mapping[str, Damage] = {
    "zero_tail": lambda data, at, chance: data[:at] + bytes(len(data) - at),
    "zero_tail_end_kept": lambda data, at, chance: data[:at] + bytes(len(data) - at - 2) + data[-2:],
    "cut": lambda data, at, chance: data[:at],
    "cut_and_closed": lambda data, at, chance: data[:at] + data[-2:],
    "hole_512": _replaced(512, _zeros),
    "hole_4096": _replaced(4096, _zeros),
    "random_64": _replaced(64, lambda chance, count: chance.randbytes(count)),
    "random_4096": _replaced(4096, lambda chance, count: chance.randbytes(count)),
    "deleted_300": _replaced(300, lambda chance, count: b""),
    "bit": lambda data, at, chance: data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
}


def damaged(whole: bytes, places: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield (kind of damage, bytes), each kind at so many random places."""
    for name, damage in DAMAGES.items():
        for _ in range(places):
            broken = damage(whole, chance.randrange(int(len(whole) * HEADER), len(whole) - 8), chance)
            if broken != whole:
                yield name, broken


def read(data: bytes) -> np.ndarray | None:
    """Return the pixels; None if the file is refused."""
    try:
        return decode_bytes(data, "picture")
    except PictureError:
        return None


def main() -> int:
    """Print the counts by format and kind of damage, and write them to benchmarks/results/faults-damage.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=20, help="for each kind of damage in each file (default 20)")
    parser.add_argument("--read-only", action="store_true", help="no model: count what is read and what is refused")
    options = parser.parse_args()
    pictures = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    model = None if options.read_only else _model()
    counts: Counter[str] = Counter()
    for number, picture in enumerate(pictures):
        for name, encode in {**FORMATS, **UNUSUAL}.items():
            pixels = read(encode(picture))
            counts["intact"] += 1
            counts["intact_refused"] += pixels is None
            if pixels is None or name in UNUSUAL:
                continue
            is_defective = model is not None and _is_not_ok(model, pixels)
            chance = random.Random(f"{number} {name}")
            for kind, broken in damaged(encode(picture), options.places, chance):
                counts[f"{name}: damaged"] += 1
                counts[f"{kind}: damaged"] += 1
                if (seen := read(broken)) is None:
                    continue
                counts[f"{name}: read"] += 1
                counts[f"{kind}: read"] += 1
                counts["read"] += 1
                if is_defective and model is not None:
                    counts["read_of_not_ok"] += 1
                    if not _is_not_ok(model, seen):
                        counts["wrong_ok_unchecked" if name in UNCHECKED else "wrong_ok"] += 1
                        print(f"WRONG OK: picture {number}, {name}, {kind}", flush=True)
        print(f"{number + 1} of {len(pictures)} pictures", flush=True)
    counts["damaged"] = sum(count for key, count in counts.items() if key.split(":")[0] in FORMATS and "damaged" in key)
    return tell("damage", {"intact_refused": 0, "wrong_ok": 0, **counts}, MUST_BE_NONE)


def _model() -> Detector:
    from edge_agent.inference.load import Loader

    return Loader([]).detector("embedded", None, "object", "cpu", "auto", None, None)


def _is_not_ok(model: Detector, pixels: np.ndarray) -> bool:
    assert model.info.threshold is not None
    return model.read([pixels])[0].score >= model.info.threshold


if __name__ == "__main__":
    sys.exit(main())
