"""The pictures that a station is made from: good parts, and defective ones or defects painted onto the good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.backbones.weights.digests import measure
from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from edge_agent.line.calibration import LEAST_CONTRAST
from edge_agent.line.contrast import contrast, shows_nothing
from trainer.bank.good_parts import varied
from trainer.bank.good_picture import GoodPicture
from trainer.data.examples import Skipped, pixels_digest
from trainer.data.painted_pictures import paint_picture
from trainer.station.format import Format, differences

KEPT_BYTES = 256_000_000  # of decoded pictures, which every candidate reads again
DARK = 10  # levels of 255 on average: a picture of one colour and no lighter was taken with the lamp off
MOST_GOOD = 200  # pictures that are used; of more, so many evenly spaced ones are taken


@dataclass(frozen=True, slots=True)
class BadPicture:
    """A picture of a defective part.

    path: its file, or the good picture that a defect was painted onto; sha256 (hex) of that file. decode: gives (H, W, 3)
    uint8 RGB. painted_on: number of that good picture; None for a real one.
    """

    path: Path
    sha256: str
    decode: Callable[[], np.ndarray]
    painted_on: int | None = None


@dataclass(frozen=True, slots=True)
class PictureSet:
    """What a station is made from and measured on.

    paths: files of `good`, in the same order. copies: files left out, each with the one it repeats pixel by pixel.
    left_out: number of good pictures beyond MOST_GOOD. formats: of the good and the real defective ones.
    """

    good: Sequence[GoodPicture]
    paths: Sequence[Path]
    bad: Sequence[BadPicture]
    skipped: Sequence[Skipped]
    copies: Sequence[tuple[Path, Path]]
    left_out: int
    formats: Mapping[Path, Format]

    def differences(self) -> Iterator[str]:
        """Yield which pictures are not as the line's camera gives most of them."""
        bad = [one.path for one in self.bad if one.painted_on is None]
        yield from differences(*([(path.name, self.formats[path]) for path in some] for some in (self.paths, bad)))

    @property
    def painted(self) -> bool:
        """Whether the defects are painted."""
        return any(one.painted_on is not None for one in self.bad)

    def as_seen_again(self, number: int) -> np.ndarray:
        """Return a good picture as it is measured: itself, or where it is the only one, a varied copy."""
        pixels = self.good[number].decode()
        return varied(pixels) if len(self.good) == 1 else pixels


class Kept:
    """Pictures that were made once and are kept for the next time, the first ones, as many as KEPT_BYTES hold."""

    def __init__(self) -> None:
        self._pictures: dict[object, np.ndarray] = {}
        self._bytes = 0

    def get(self, key: object, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the picture of a key, which `make` makes (H, W, 3) uint8 RGB where it is not kept. It is not to be changed."""
        if key not in self._pictures:
            pixels = make()
            if self._bytes + pixels.nbytes > KEPT_BYTES:
                return pixels
            self._bytes += pixels.nbytes
            self._pictures[key] = pixels
        return self._pictures[key]


def picture_set(good: Sequence[Path], bad: Sequence[Path], seed: int = 0) -> PictureSet:
    """Look through the pictures.

    Args:
        good: files of good parts.
        bad: files of defective parts; without any, a defect is painted onto every good picture.
        seed: of the painted defects.

    Raises EdgeAgentError when no good picture or no defective one can be used, or a picture lies in both folders.
    """
    kept = Kept()
    skipped: list[Skipped] = []
    copies: list[tuple[Path, Path]] = []
    looked = {path: found for path in (*good, *bad) if (found := _look(path, kept, skipped))}
    plain = sum(looked[path].plain for path in good if path in looked)
    shown = 2 * plain <= sum(path in looked for path in good)  # else the parts themselves are of one colour
    for path, found in list(looked.items()):
        if found.plain and (shown or found.dark):
            skipped.append(Skipped(path, shows_nothing(_decoded(path, kept), found.contrast)))
            del looked[path]
    seen: dict[bytes, Path] = {}
    for path in filter(looked.__contains__, good):
        first = seen.setdefault(looked[path].digest, path)
        if first is not path:
            copies.append((path, first))
    if not seen:
        because = f"; the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise EdgeAgentError(f"none of the {len(good)} good pictures can be used{because}")
    defective: list[BadPicture] = []
    seen_bad: dict[bytes, Path] = {}
    for path in filter(looked.__contains__, bad):
        digest = looked[path].digest
        first = seen_bad.setdefault(digest, path)
        if first is not path:
            copies.append((path, first))
            continue
        if digest in seen:
            raise EdgeAgentError(
                f"{path}: is the same picture as {seen[digest]}, which is said to be good: take it out of one of the two folders"
            )
        defective.append(BadPicture(path, measure(path)["sha256"], partial(_decoded, path, kept)))
    if bad and not defective:
        raise EdgeAgentError(
            f"none of the {len(bad)} defective pictures can be used; the first: {skipped[-1].path}: {skipped[-1].reason}"
        )
    paths = list(seen.values())
    if len(paths) > MOST_GOOD:
        paths = [paths[at * len(paths) // MOST_GOOD] for at in range(MOST_GOOD)]
    pictures = [GoodPicture(path.name, measure(path)["sha256"], partial(_decoded, path, kept)) for path in paths]
    if not defective:
        defective = [
            BadPicture(path, one.sha256, partial(_painted, path, paths[(at + 1) % len(paths)], seed + at, kept), at)
            for at, (path, one) in enumerate(zip(paths, pictures, strict=True))
        ]
    formats = {path: found.format for path, found in looked.items()}
    return PictureSet(pictures, paths, defective, skipped, copies, len(seen) - len(paths), formats)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look at a picture tells. digest: of its pixels. contrast: see contrast(). dark: it is nearly black."""

    digest: bytes
    format: Format
    contrast: float
    dark: bool

    @property
    def plain(self) -> bool:
        """Whether it is of one colour."""
        return self.contrast < LEAST_CONTRAST


def _decoded(path: Path, kept: Kept) -> np.ndarray:
    return kept.get(path, lambda: decode(path, min_side=MIN_SIDE))


def _painted(path: Path, donor: Path, seed: int, kept: Kept) -> np.ndarray:
    def paint() -> np.ndarray:
        return paint_picture(np.random.default_rng(seed), _decoded(path, kept), _decoded(donor, kept))[0]

    return kept.get((path, seed), paint)


def _look(path: Path, kept: Kept, skipped: list[Skipped]) -> _Looked | None:
    """Return what a look at a picture tells; None where it cannot be read, which is noted."""
    try:
        pixels = _decoded(path, kept)
    except PictureError as error:
        skipped.append(Skipped.by(error, path))
        return None
    return _Looked(pixels_digest(pixels), Format.of(pixels), contrast(pixels), bool(pixels.mean() < DARK))
