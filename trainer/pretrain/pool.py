"""A pool of good pictures on disk, made once from a seed."""

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
from trainer.io.files import write_whole
from trainer.pretrain.materials.folder import digest, read_materials


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
    """Make the pool, or open it if `folder` already holds one made with the same arguments.

    Args:
        folder: of the pool's files.
        count: number of pictures.
        size: their side in pixels.
        seed: decides every picture.
        workers: processes that make pictures; default 2.
        report: called with the number of pictures made so far; default nothing.
        materials: folder of photographed materials, see materials/folder.py; default None, all pictures are procedural.
    """
    wanted: dict[str, int | str] = {"count": count, "size": size, "seed": seed}
    if materials is not None:
        wanted["materials"] = digest(materials)
    nouns_file = folder / "nouns.json"
    if not nouns_file.exists() or json.loads(nouns_file.read_text())["made"] != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        nouns_file.unlink(missing_ok=True)  # written last: without it the pool is not complete
        pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (count, size, size, 3))
        foregrounds = np.lib.format.open_memmap(folder / "foregrounds.npy", "w+", np.bool_, (count, size, size))
        nouns = []
        with ProcessPoolExecutor(workers) as processes:
            jobs = ((seed, index, size, materials) for index in range(count))
            for index, (picture, foreground, noun) in enumerate(
                processes.map(_picture, *zip(*jobs, strict=True), chunksize=16)
            ):
                pictures[index], foregrounds[index] = picture, foreground
                nouns.append(noun)
                report(index + 1)
        pictures.flush()
        foregrounds.flush()
        write_whole(nouns_file, json.dumps({"made": wanted, "nouns": nouns}).encode())
    return Pool(
        np.load(folder / "pictures.npy", mmap_mode="r"),
        np.load(folder / "foregrounds.npy", mmap_mode="r"),
        json.loads(nouns_file.read_text())["nouns"],
    )


_read_once = cache(read_materials)  # once a process


def _picture(seed: int, index: int, size: int, materials: Path | None) -> tuple[np.ndarray, np.ndarray, str]:
    cv2.setNumThreads(0)
    normal = synthesis.normal(np.random.default_rng([seed, index]), size, _read_once(materials) if materials else None)
    return normal.pixels, normal.foreground, normal.noun
