"""Evaluate an embedded model beside local contrast, on halves of real sets and on each kind of procedural defect.

    python -m benchmarks.embedded MODEL_FOLDER [--data DIR] [--half a|b] [--no-kinds] [--windows N]

The hash of a picture's name decides its half: one for development, one kept unseen until the end.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from edge_agent.backbones.tips.model import load_tips_folder
from edge_agent.commands.arguments import windows
from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import decode
from trainer import synthesis
from trainer.data.examples import read_examples, read_mask
from trainer.evaluate.local_contrast import LocalContrast
from trainer.evaluate.metrics import auroc

SEED, SIDE, GRID, EACH, GOOD = 20_260, 224, 56, 12, 120


def load(folder: Path) -> PromptDetector:
    """The model of a folder that `trainer pretrain` wrote, with the prompts beside it."""
    backbone = load_tips_folder(folder, "embedded")
    return PromptDetector(backbone, load_checkpoint(folder / "tipsomaly.safetensors"), "object")


def rank(name: str) -> bytes:
    """Hash a name, to sort names in an arbitrary fixed order."""
    return hashlib.sha256(name.encode()).digest()


def half(name: str) -> str:
    """Return "a" or "b", by the hash of the name."""
    return "ab"[rank(name)[0] % 2]


def procedural(kind: str | None, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` fixed pictures of a kind of defect (None: good ones): uint8 RGB (224, 224, 3), mask bool (224, 224)."""
    number = 0 if kind is None else 1 + sorted(synthesis.DEFECTS).index(kind)
    for index in range(count):
        rng = np.random.default_rng([SEED, number, index])
        shown = synthesis.normal(rng, SIDE)
        pixels, mask = shown.pixels, np.zeros((SIDE, SIDE), bool)
        if kind is not None:
            pixels, mask, _ = synthesis.paint_defect(
                rng, pixels, shown.foreground, synthesis.normal(rng, SIDE).pixels, kind
            )
        yield synthesis.camera(rng, pixels), mask


def scores(detector: Detector, pictures: list[np.ndarray], side: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) picture scores and (n, side, side) maps."""
    readings = [reading for at in range(0, len(pictures), 16) for reading in detector.read(pictures[at : at + 16])]
    maps = [cv2.resize(reading.heatmap, (side, side), interpolation=cv2.INTER_AREA) for reading in readings]
    return np.array([reading.score for reading in readings]), np.stack(maps)


def by_kind(detector: Detector) -> dict[str, tuple[float, float]]:
    """Image AUROC against the good pictures, and pixel AUROC within the kind's own, in percent, of every kind."""
    good, _ = scores(detector, [pixels for pixels, _ in procedural(None, GOOD)], GRID)
    rows = {}
    for kind in sorted(synthesis.DEFECTS):
        pairs = list(procedural(kind, EACH))
        bad, maps = scores(detector, [pixels for pixels, _ in pairs], GRID)
        masks = [
            cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) > 0.3 for _, mask in pairs
        ]
        truth = np.arange(len(good) + len(bad)) >= len(good)
        rows[kind] = (
            auroc(truth, np.concatenate([good, bad])),
            auroc(np.stack(masks).ravel(), maps.ravel().astype(np.float32)),
        )
    return rows


def on_half(detector: Detector, category: Path, which: str) -> tuple[int, float, float]:
    """Return the number of pictures of a half, image AUROC and pixel AUROC."""
    examples = [example for example in read_examples(category) if half(example.picture.name) == which]
    found, maps = scores(detector, [decode(example.picture) for example in examples], 224)
    masks = [read_mask(example, 224) for example in examples]
    known = [index for index, mask in enumerate(masks) if mask is not None]
    truth = np.stack([masks[index] for index in known])  # type: ignore[misc]
    defective = np.array([example.defective for example in examples])
    return len(examples), auroc(defective, found), auroc(truth.ravel(), maps[known].ravel().astype(np.float32))


def main() -> None:
    """Print one row a set or kind: image / pixel AUROC of the model, then of local contrast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--half", choices=("a", "b"), default="a")
    parser.add_argument("--no-kinds", action="store_true")
    parser.add_argument("--windows", type=windows, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    detectors = (Loader().arranged(load(options.model), options.windows), LocalContrast())
    if options.data:
        for category in sorted(path.parent for path in options.data.glob("*/test")):
            (count, image, pixel), (_, plain_image, plain_pixel) = (
                on_half(detector, category, options.half) for detector in detectors
            )
            print(
                f"{category.name:20} {options.half} {count:4} {image:6.1f} {pixel:6.1f} | {plain_image:6.1f} {plain_pixel:6.1f}",
                flush=True,
            )
    if not options.no_kinds:
        mine, plain = (by_kind(detector) for detector in detectors)
        for kind in mine:
            print(
                f"{kind:20} {mine[kind][0]:6.1f} {mine[kind][1]:6.1f} | {plain[kind][0]:6.1f} {plain[kind][1]:6.1f}",
                flush=True,
            )
        means = [np.mean(list(rows.values()), axis=0) for rows in (mine, plain)]
        print(f"{'mean of kinds':20} {means[0][0]:6.1f} {means[0][1]:6.1f} | {means[1][0]:6.1f} {means[1][1]:6.1f}")


if __name__ == "__main__":
    main()
