"""A pool of good pictures on disk, made once from a seed, that training spoils afresh at every use."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from trainer import synthesis
from trainer.pretrain.materials import digest, read_materials

KINDS: tuple[str, ...] = tuple(sorted(synthesis.DEFECTS))
"""Kinds of defects by number, beginning with 1 in a view's labels."""


@dataclass(frozen=True, slots=True)
class Pool:
    """pictures: (P, S, S, 3) uint8 RGB; foregrounds: (P, S, S) bool; nouns: P class names. Arrays are memory-mapped."""

    pictures: np.ndarray
    foregrounds: np.ndarray
    nouns: list[str]

    def __len__(self) -> int:
        return len(self.nouns)


def make_pool(
    folder: Path,
    count: int,
    size: int,
    seed: int,
    workers: int = 2,
    report: Callable[[int], None] = lambda n: None,
    materials: Path | None = None,
) -> Pool:
    """Make the pool, or open it if `folder` already holds the very same one (count, size, seed, materials).

    materials: folder of photographed ones (see materials.py), None to draw all.
    """
    wanted: dict[str, int | str] = {"count": count, "size": size, "seed": seed}
    if materials is not None:
        wanted["materials"] = digest(materials)
    nouns_file = folder / "nouns.json"
    if not nouns_file.exists() or json.loads(nouns_file.read_text())["made"] != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        nouns_file.unlink(missing_ok=True)  # written last: without it the pool is not whole
        pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (count, size, size, 3))
        foregrounds = np.lib.format.open_memmap(folder / "foregrounds.npy", "w+", np.bool_, (count, size, size))
        nouns = []
        with ProcessPoolExecutor(workers) as processes:
            jobs = ((seed, index, size, materials) for index in range(count))
            for index, (picture, foreground, noun) in enumerate(
                processes.map(_one, *zip(*jobs, strict=True), chunksize=16)
            ):
                pictures[index], foregrounds[index] = picture, foreground
                nouns.append(noun)
                report(index + 1)
        pictures.flush()
        foregrounds.flush()
        nouns_file.write_text(json.dumps({"made": wanted, "nouns": nouns}))
    return Pool(
        np.load(folder / "pictures.npy", mmap_mode="r"),
        np.load(folder / "foregrounds.npy", mmap_mode="r"),
        json.loads(nouns_file.read_text())["nouns"],
    )


_read = cache(read_materials)  # once a process


def _one(seed: int, index: int, size: int, materials: Path | None) -> tuple[np.ndarray, np.ndarray, str]:
    cv2.setNumThreads(0)
    normal = synthesis.normal(np.random.default_rng([seed, index]), size, _read(materials) if materials else None)
    return normal.pixels, normal.foreground, normal.noun


@dataclass(frozen=True, slots=True)
class View:
    """One training picture: pixels (S, S, 3) uint8 RGB, noun, and the kind of its last defect or None.

    labels: (S, S) uint8, 0 where nothing is wrong, else 1 + the place among KINDS of the defect that is there.
    """

    pixels: np.ndarray
    labels: np.ndarray
    noun: str
    kind: str | None


def _start(rng: np.random.Generator, room: int) -> int:
    """Where a cut begins that has so many pixels to move in: anywhere, now and then at the border."""
    return int(rng.choice([0, room])) if rng.random() < 0.3 else int(rng.integers(room + 1))


def view(pool: Pool, rng: np.random.Generator, size: int, p_defect: float) -> View:
    """A random cut of a random pool picture, turned, spoiled with probability p_defect by one to three defects, and photographed."""
    index, donor_index = rng.integers(len(pool), size=2)
    side = pool.pictures.shape[1]
    cut = int(rng.integers(round(0.6 * side), side + 1)) if rng.random() < 0.7 else side
    # Elongated pictures are squeezed into a square, too, and their borders are borders of good pictures.
    narrow = round(cut / np.exp(rng.uniform(0, np.log(2.5)))) if rng.random() < 0.3 else cut
    top, left = (_start(rng, side - length) for length in (cut, narrow))
    window = (slice(top, top + cut), slice(left, left + narrow))
    turns, flipped = int(rng.integers(4)), bool(rng.random() < 0.5)

    def shown(plane: np.ndarray, interpolation: int) -> np.ndarray:
        turned = np.rot90(plane[window], turns)
        return cv2.resize(
            np.ascontiguousarray(turned[:, ::-1] if flipped else turned), (size, size), interpolation=interpolation
        )

    pixels = shown(pool.pictures[index], cv2.INTER_AREA)
    foreground = shown(pool.foregrounds[index].view(np.uint8), cv2.INTER_NEAREST).astype(bool)
    labels = np.zeros((size, size), np.uint8)
    kind = None
    if rng.random() < p_defect:
        donor = cv2.resize(pool.pictures[donor_index], (size, size), interpolation=cv2.INTER_AREA)
        for _ in range(rng.choice([1, 2, 3], p=[0.75, 0.17, 0.08])):
            pixels, changed, kind = synthesis.spoil(rng, pixels, foreground, donor)
            labels[changed] = 1 + KINDS.index(kind)
    return View(synthesis.camera(rng, pixels), labels, pool.nouns[index], kind)
