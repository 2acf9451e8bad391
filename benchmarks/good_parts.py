"""Measure what few good parts bring on labelled sets, over several draws of the good parts.

    python -m benchmarks.good_parts --data DIR [--shots 1 4 16] [--draws 10] [--halves a b] [--trunks efficientnet-lite2 ...]

For every category of MVTec layout, number of shots and draw: the good parts are drawn from train/good, or from test/good
where there is none, and neither counted among the others, of which each half (by the hash of their names) is measured by itself.
Three that look are compared: the model as shipped with a threshold from the same good parts, the bank, and both with the weights
that hold before any defect is seen. Prints, as mean and spread over draws, image and pixel AUROC, and at the thresholds that promise
1 and 5 false alarms in 100 good parts: of 100 other good parts rejected, of 100 defects missed. Features are computed once a picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded import half
from edge_agent.backbones.backbone import Backbone
from edge_agent.core import Detector, Reading
from edge_agent.detectors.patchcore import SHARPNESS, PatchCore, default_layers, picture_distance
from edge_agent.inference.load import Loader
from edge_agent.inference.squares import join, squares
from edge_agent.inference.together import Mix, log_odds
from edge_agent.io.pictures import decode
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.fused import heatmaps
from trainer.bank.bank import SIZE
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import SPREAD, Described, described, exceeded_by, fold_of, nearer, scale, varied
from trainer.bank.other_things import NEXT_PART, other_things
from trainer.data.examples import Example, read_examples, read_mask
from trainer.evaluate.metrics import auroc
from trainer.station.fusion import BEFOREHAND, OF_MAPS, spread_of

CELLS = 64  # cells a side at which maps and masks are compared
SIDE = 224  # pixels a side of a square's map
PROMISED = (0.01, 0.05)  # shares of good parts that may be rejected
FIGURES = ("image", "pixel", "rejected_1", "missed_1", "rejected_5", "missed_5")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is known of one picture: its size, its descriptors, and the score and map (CELLS, CELLS) of the model as shipped."""

    shape: tuple[int, ...]
    described: Described
    odds: float
    map: np.ndarray


def main() -> None:
    """Print a row for each category, trunk, number of shots and detector; write all of them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--halves", nargs="+", choices=("a", "b"), default=["a"])
    parser.add_argument("--trunks", nargs="+", default=["efficientnet-lite0", "efficientnet-lite2"])
    parser.add_argument("--size", type=int, default=SIZE, help="rows of a bank")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loader, records = Loader(), []
    shipped = loader.arranged(loader.detector(device="cpu"))
    for category in sorted(path.parent for path in options.data.glob("*/test")):
        for trunk in options.trunks:
            records += _measured(category, loader.backbone(trunk, "cpu"), shipped, options)
    for title in sorted({(one["half"], one["trunk"], one["shots"], one["looks"]) for one in records}):
        some = [one for one in records if (one["half"], one["trunk"], one["shots"], one["looks"]) == title]
        means = "  ".join(f"{key} {np.mean([one[key] for one in some]):5.1f}" for key in FIGURES)
        print(f"mean of {len(some)} sets, half {' '.join(map(str, title))}: {means}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


def _measured(
    category: Path, backbone: Backbone, shipped: Detector, options: argparse.Namespace
) -> list[dict[str, object]]:
    size, layers = options.image_size or backbone.image_size, default_layers(backbone)
    spare = [one.picture for one in read_examples(category, "train")] if (category / "train").is_dir() else []
    examples = [one for one in read_examples(category) if half(one.picture.name) in options.halves or not one.defective]
    good = sorted(spare or [one.picture for one in examples if not one.defective])

    def seen(pixels: np.ndarray) -> Seen:
        reading = shipped.read([pixels])[0]
        cells = cv2.resize(reading.heatmap, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        odds = float(log_odds(np.float64(reading.score)))
        return Seen(pixels.shape, described(backbone, pixels, size, layers), odds, cells)

    known = {path: seen(decode(path)) for path in {*spare, *(one.picture for one in examples)}}
    others = [described(backbone, pixels, size, layers) for pixels in other_things()]
    records: list[dict[str, object]] = []
    for shots in options.shots:
        if len(good) < shots + 4 * (not spare):
            continue
        drawn: dict[tuple[str, str], list[list[float]]] = {}
        for draw in range(options.draws):
            shown = [good[at] for at in np.random.default_rng([draw, shots]).permutation(len(good))[:shots]]
            own = [one for one in examples if one.picture not in shown and half(one.picture.name) in options.halves]
            asked = [known[path] for path in shown]
            again = asked if shots > 1 else [seen(varied(decode(shown[0]), number)) for number in range(4)]
            for title, figures in _draw(asked, again, others, own, known, options).items():
                drawn.setdefault(title, []).append(figures)
        for (side, looks), rows in drawn.items():
            mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            record: dict[str, object] = {"category": category.name, "half": side, "trunk": backbone.name}
            record |= {"looks": looks, "shots": shots, "draws": options.draws} | dict(
                zip(FIGURES, mean.tolist(), strict=True)
            )
            records.append(record | {f"{k}_spread": v for k, v in zip(FIGURES, spread.tolist(), strict=True)})
            told = "  ".join(f"{k} {m:5.1f} +-{s:4.1f}" for k, m, s in zip(FIGURES, mean, spread, strict=True))
            print(f"{category.name:14} {side} {backbone.name:18} {shots:3} {looks:10} {told}", flush=True)
    return records


def _draw(
    shown: Sequence[Seen],
    again: Sequence[Seen],
    others: Sequence[Described],
    own: Sequence[Example],
    known: dict[Path, Seen],
    options: argparse.Namespace,
) -> dict[tuple[str, str], list[float]]:
    """Return FIGURES of each half and each of the three, of one draw.

    Args:
        shown: the good parts.
        again: good parts that tell how the scores of the model as shipped lie: the same, or of a single one varied copies.
        others: other things, which tell the scale of a bank of a single part.
        own: the pictures that are measured.
        known: what is known of each of them.
        options: of the command line.
    """
    bank = Cells(coreset(torch.cat([one.described.rows for one in shown]), options.size).float())
    left = _left_out(shown, options.size) if len(shown) > 1 else _expected(bank, others)
    whole, highest = scale(left[0]), scale(left[1])
    seen = [known[one.picture] for one in own]
    found = [_distances(one.described, bank) for one in seen]
    distances = np.array([float(picture_distance(one).max()) for one in found])
    good = {"as shipped": np.array([one.odds for one in again]), "bank": SHARPNESS * np.log(np.array(left[0]) / whole)}
    odds = {"as shipped": np.array([one.odds for one in seen]), "bank": SHARPNESS * np.log(distances / whole)}
    spreads = {looks: spread_of(values) for looks, values in good.items()}
    mix = Mix(BEFOREHAND * spreads["bank"] / spreads["as shipped"], 1 - BEFOREHAND, 0.0)
    for each in (good, odds):
        each["both"] = mix.other * each["as shipped"] + mix.bank * each["bank"]
    maps = {"as shipped": [one.map for one in seen]}
    maps["bank"] = [_stitched(patches / highest, one.shape) for patches, one in zip(found, seen, strict=True)]
    wide = {
        "as shipped": np.std(log_odds(np.stack([one.map for one in again]))),
        "bank": np.std(
            log_odds(np.stack([_stitched(_distances(one.described, bank) / highest, one.shape) for one in again]))
        ),
    }
    map_mix = Mix(OF_MAPS * float(wide["bank"] / max(wide["as shipped"], 1e-3)), 1 - OF_MAPS, 0.0)
    maps["both"] = [map_mix.odds(*pair) for pair in zip(maps["as shipped"], maps["bank"], strict=True)]
    result = {}
    for side in options.halves:
        at = [number for number, one in enumerate(own) if half(one.picture.name) == side]
        truth = np.array([own[number].defective for number in at])
        for looks in odds:
            values = odds[looks][at]
            figures = [auroc(truth, values), _pixel([own[n] for n in at], [maps[looks][n] for n in at])]
            for share in PROMISED:
                called = values > exceeded_by(share, good[looks], SPREAD)
                figures += [100 * float(called[~truth].mean()), 100 * float((~called)[truth].mean())]
            result[side, looks] = figures
    return result


def _left_out(shown: Sequence[Seen], size: int) -> tuple[list[float], list[float]]:
    """Return the distance of each good part, and of its highest patch, from a bank without it, as the whole bank would give them."""
    fold, pairs = fold_of(len(shown)), []
    for out in sorted(set(fold)):
        rest = [one.described.rows for one, at in zip(shown, fold, strict=True) if at != out]
        bank, share = Cells(coreset(torch.cat(rest), size).float()), nearer(len(rest), len(shown))
        asked = [one.described for one, at in zip(shown, fold, strict=True) if at == out]
        pairs += [[share * one for one in each.distances(bank)] for each in asked]
    pictures, patches = zip(*pairs, strict=True)
    return list(pictures), list(patches)


def _expected(bank: Cells, others: Sequence[Described]) -> tuple[list[float], list[float]]:
    """Return the same of a further good part, where only one was shown."""
    picture, patch = NEXT_PART * np.median([one.distances(bank) for one in others], axis=0)
    return [picture], [patch]


def _distances(one: Described, bank: Cells) -> Tensor:
    with torch.inference_mode():
        found = torch.stack([bank.nearest(view.float().flatten(0, 1)) for view in one.patches])
        return found.view(one.patches.shape[:3])


def _stitched(found: Tensor, shape: Sequence[int]) -> np.ndarray:
    """Return the map (CELLS, CELLS) of a picture by the relative distances (V, h, w) of its squares, joined as a detector does."""
    odds = found**SHARPNESS
    maps = heatmaps(odds / (1 + odds), SIDE, PatchCore.sigma).numpy()
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
