"""Measure what windows find of small defects in large pictures and what they cost, beside whole pictures at two sizes.

    python -m benchmarks.windows [--good N] [--defective N]

Pictures of 672 x 672 with one small defect each (median 0.15 % of the picture): at 224 that is a few pixels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from benchmarks.embedded import scores
from edge_agent.core import Detector
from edge_agent.inference.load import Loader
from trainer import synthesis
from trainer.evaluate.metrics import auroc

SEED, SIDE, PART, GRID = 4242, 672, 224, 224


def pictures(count: int, defective: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` fixed pictures: uint8 RGB (SIDE, SIDE, 3), mask bool (GRID, GRID). Kinds of defects take turns."""
    kinds = sorted(synthesis.DEFECTS)
    for index in range(count):
        rng = np.random.default_rng([SEED, defective, index])
        shown = synthesis.normal(rng, SIDE)
        pixels, mask = shown.pixels.copy(), np.zeros((SIDE, SIDE), np.float32)
        if defective:
            corners = rng.integers(0, SIDE - PART, (20, 2))
            parts = [(slice(y, y + PART), slice(x, x + PART)) for y, x in corners]
            part = max(parts, key=lambda part: shown.foreground[part].mean())
            other = synthesis.normal(rng, PART).pixels
            kind = kinds[index % len(kinds)]
            pixels[part], mask[part], _ = synthesis.paint_defect(rng, pixels[part], shown.foreground[part], other, kind)
        small = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_AREA)
        yield synthesis.camera(rng, pixels), small > 0.5


def main() -> None:
    """Print one row a way of reading: image and pixel AUROC in percent, pictures a second, and how many times as long it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=int, default=100)
    parser.add_argument("--defective", type=int, default=126)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loader = Loader()
    whole = loader.detector(device="cpu")
    ways: dict[str, Detector] = {
        "whole, 224": whole,
        "whole, 448": loader.detector(device="cpu", image_size=448),
        **{f"{windows} x {windows} windows": loader.arranged(whole, windows) for windows in (2, 3, 5)},
    }
    shown = [*pictures(options.good, False), *pictures(options.defective, True)]
    truth = np.stack([mask for _, mask in shown])
    defective = np.arange(len(shown)) >= options.good
    first = 0.0
    for name, detector in ways.items():
        begin = time.perf_counter()
        found, maps = scores(detector, [pixels for pixels, _ in shown], GRID)
        seconds = (time.perf_counter() - begin) / len(shown)
        first = first or seconds
        image, pixel = auroc(defective, found), auroc(truth.ravel(), maps.ravel().astype(np.float32))
        print(
            f"{name:16} {image:6.1f} {pixel:6.1f} {1 / seconds:6.1f} pictures/s, {seconds / first:4.1f} times as long",
            flush=True,
        )


if __name__ == "__main__":
    main()
