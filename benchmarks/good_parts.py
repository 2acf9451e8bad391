"""Measure banks of few good parts on labelled sets, over several draws of the good parts.

    python -m benchmarks.good_parts --data DIR [--shots 1 4 16] [--draws 5] [--half a|b] [--trunks efficientnet-lite2 ...]

For every category of MVTec layout, number of shots and draw: the good parts of the bank are drawn from train/good, or from
test/good where there is none, and neither counted among the others. Prints, as mean and spread over draws, image and pixel
AUROC, and at the threshold that `trainer station` would set by those good parts: of 100 other good parts rejected, of 100
defects missed. Zero-shot is measured on the same pictures. Features are computed once a picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded import half
from edge_agent.core import Detector, Reading
from edge_agent.detectors.patchcore import SHARPNESS, PatchCore, default_layers, picture_distance
from edge_agent.inference.load import Loader
from edge_agent.inference.squares import join, squares
from edge_agent.io.pictures import decode
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.fused import heatmaps
from trainer.bank.bank import SIZE
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import (
    SPREAD_BEFOREHAND,
    Described,
    described,
    exceeded_by,
    fold_of,
    nearer,
    scale,
)
from trainer.data.examples import Example, read_examples, read_mask
from trainer.evaluate.metrics import auroc

CELLS = 64  # cells a side at which maps and masks are compared
SIDE = 224  # pixels a side of a square's map
FARTHEST = 3.0  # no two descriptors of two layers lie farther apart


def main() -> None:
    """Print a row for each category, trunk and number of shots; write all of them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--half", choices=("a", "b"), default="a")
    parser.add_argument("--trunks", nargs="+", default=["efficientnet-lite0", "efficientnet-lite2"])
    parser.add_argument("--size", type=int, default=SIZE, help="rows of a bank")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loader, records = Loader(), []
    zero_shot = loader.arranged(loader.detector(device="cpu"))
    for category in sorted(path.parent for path in options.data.glob("*/test")):
        examples = [
            one for one in read_examples(category) if not one.defective or half(one.picture.name) == options.half
        ]
        spare = [one.picture for one in read_examples(category, "train")] if (category / "train").is_dir() else []
        records += _zero_shot(category.name, zero_shot, examples, options.half)
        for trunk in options.trunks:
            records += _banks(category.name, trunk, loader, examples, spare, options)
    for shots in options.shots:
        for trunk in options.trunks:
            some = [one for one in records if one["shots"] == shots and one["looks_with"] == trunk]
            means = " ".join(f"{key} {np.mean([one[key] for one in some]):.1f}" for key in ("image", "pixel", "missed"))
            print(f"mean of {len(some)} sets, {shots} shots, {trunk}: {means}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


def _zero_shot(category: str, detector: Detector, examples: Sequence[Example], side: str) -> list[dict[str, object]]:
    own = [one for one in examples if one.defective or half(one.picture.name) == side]
    read = [detector.read([decode(one.picture)])[0] for one in own]
    truth = np.array([one.defective for one in own])
    image = auroc(truth, np.array([one.score for one in read]))
    maps = [cv2.resize(one.heatmap, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for one in read]
    record = {"category": category, "looks_with": "as shipped", "shots": 0, "image": image, "pixel": _pixel(own, maps)}
    print(f"{category:16} as shipped              image {image:5.1f}  pixel {record['pixel']:5.1f}", flush=True)
    return [record]


def _banks(
    category: str,
    trunk: str,
    loader: Loader,
    examples: Sequence[Example],
    spare: Sequence[Path],
    options: argparse.Namespace,
) -> list[dict[str, object]]:
    backbone = loader.backbone(trunk, "cpu")
    side, layers = options.image_size or backbone.image_size, default_layers(backbone)
    paths = [one.picture for one in examples]
    known: dict[Path, tuple[Described, tuple[int, ...]]] = {}
    for path in {*paths, *spare}:
        pixels = decode(path)
        known[path] = described(backbone, pixels, side, layers), pixels.shape
    good = sorted(spare or [one.picture for one in examples if not one.defective])
    records: list[dict[str, object]] = []
    for shots in options.shots:
        if len(good) < shots + 4 * (not spare):
            continue
        rows = []
        for draw in range(options.draws):
            shown = [good[at] for at in np.random.default_rng([draw, shots]).permutation(len(good))[:shots]]
            own = [one for one in examples if one.picture not in shown]
            own = [one for one in own if one.defective or half(one.picture.name) == options.half]
            rows.append(_draw([known[path][0] for path in shown], own, known, options.size))
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        names = ("image", "pixel", "rejected", "missed")
        record: dict[str, object] = {"category": category, "looks_with": trunk, "shots": shots, "draws": options.draws}
        record |= dict(zip(names, mean.tolist(), strict=True))
        record |= {f"{name}_spread": value for name, value in zip(names, spread.tolist(), strict=True)}
        records.append(record)
        figures = "  ".join(f"{name} {m:5.1f} +-{s:4.1f}" for name, m, s in zip(names, mean, spread, strict=True))
        print(f"{category:16} {trunk:18} {shots:3}  {figures}", flush=True)
    return records


def _draw(
    shown: Sequence[Described],
    own: Sequence[Example],
    known: dict[Path, tuple[Described, tuple[int, ...]]],
    size: int,
) -> tuple[float, float, float, float]:
    """Return image and pixel AUROC, and good parts rejected and defects missed of 100, of one draw."""
    bank = Cells(coreset(torch.cat([one.rows for one in shown]), size).float())
    scores, maps = [], []
    for one in own:
        description, shape = known[one.picture]
        with torch.inference_mode():
            found = torch.stack([bank.nearest(one.float().flatten(0, 1)) for one in description.patches])
            found = found.view(description.patches.shape[:3])
        scores.append(float(picture_distance(found).max()))
        maps.append(_stitched(found, shape))
    truth = np.array([one.defective for one in own])
    fold = fold_of(len(shown))
    if len(shown) > 1:
        left = []
        for number, one in enumerate(shown):
            others = [shown[at].rows for at in range(len(shown)) if fold[at] != fold[number]]
            farther = one.distances(Cells(coreset(torch.cat(others), size).float()))[0]
            left.append(nearer(len(others), len(shown)) * farther)
        whole = scale(left)
        logs = SHARPNESS * np.log(np.array(left) / whole)  # the log odds of scores
        threshold = max(
            max(left),
            whole
            * np.exp(exceeded_by(min(0.05, 1 / (len(shown) + 1)), logs, SHARPNESS * SPREAD_BEFOREHAND) / SHARPNESS),
        )
    else:
        threshold = np.nan
    called = np.array(scores) > threshold
    rejected = 100 * called[~truth].mean() if len(shown) > 1 else np.nan
    missed = 100 * (~called)[truth].mean() if len(shown) > 1 else np.nan
    return auroc(truth, np.array(scores)), _pixel(own, maps), float(rejected), float(missed)


def _stitched(found: Tensor, shape: Sequence[int]) -> np.ndarray:
    """Return the map (CELLS, CELLS) of a picture by the distances (V, h, w) of its squares, joined as a detector joins them."""
    maps = heatmaps(found / FARTHEST, SIDE, PatchCore.sigma).numpy()
    joined = join(shape, squares(shape), [Reading(0.0, one) for one in maps])
    return cv2.resize(joined.heatmap, (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def _pixel(own: Sequence[Example], maps: Sequence[np.ndarray]) -> float:
    masks = [read_mask(one, CELLS) for one in own]
    if any(mask is None for mask in masks):
        return float("nan")
    return auroc(
        np.concatenate([mask.ravel() for mask in masks if mask is not None]), np.concatenate([m.ravel() for m in maps])
    )


if __name__ == "__main__":
    main()
