"""Measure time and memory of the pixel metrics beside a naive version, and AUPRO beside anomalib's.

    python -m benchmarks.metrics [--pictures 2000] [--naive 200] [--side 518]

The naive version keeps every pixel of every map in one array for scikit-learn; it needs so much memory that it is measured on
fewer pictures. Each measurement runs in its own process, for a peak memory of its own; times exclude making the maps.
anomalib is no dependency: where it cannot be imported, its row says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import cv2
import numpy as np

from trainer.evaluate.bootstrap import draw_counts, pixel_draws
from trainer.evaluate.metrics import aupro, pixel_figures
from trainer.evaluate.pixel_counts import PixelCounts


def pictures(count: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps (side, side) float32 in [0, 1] as a detector gives them, a patch at a time, and masks; every second one is good."""
    patches = side // 14
    for number in range(count):
        rng = np.random.default_rng([7, number])
        mask = np.zeros((side, side), np.uint8)
        for _ in range(number % 2 * int(rng.integers(1, 4))):
            centre = tuple(int(one) for one in rng.integers(0, side, 2))
            axes = tuple(int(one) for one in rng.integers(3, side // 8, 2))
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        seen = cv2.resize(mask.astype(np.float32), (patches, patches), interpolation=cv2.INTER_AREA)
        grid = 1 / (1 + np.exp(3 - 4 * seen - rng.normal(0, 1.2, (patches, patches))))
        heatmap = cv2.GaussianBlur(cv2.resize(grid.astype(np.float32), (side, side)), (0, 0), 4 * side / 518)
        yield np.clip(heatmap, 0, 1), mask > 0


def ours(count: int, side: int, intervals: bool) -> dict[str, float]:
    """Counting; with intervals, also the 1000 draws behind them."""
    counts, by_picture, defective, took = PixelCounts(), [], [], 0.0
    for heatmap, mask in pictures(count, side):
        begun = time.perf_counter()
        by_picture.append(counts.add(heatmap, mask))
        took += time.perf_counter() - begun
        defective.append(bool(mask.any()))
    begun = time.perf_counter()
    figures = pixel_figures(counts.good, counts.bad, counts.covered)
    if intervals:
        pixel_draws(draw_counts(np.array(defective), 0, "benchmark"), by_picture)
    return {"s": took + time.perf_counter() - begun, **figures}


def naive(count: int, side: int) -> dict[str, float]:
    """Everything at once; no AUPRO, which scikit-learn has not."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    maps, masks = (np.stack(each) for each in zip(*pictures(count, side), strict=True))
    begun = time.perf_counter()
    truth, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    figures = {
        "pixel_auroc": 100 * roc_auc_score(truth, scores),
        "pixel_f1": 100 * float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))),
        "pixel_ap": 100 * average_precision_score(truth, scores),
    }
    return {"s": time.perf_counter() - begun, **figures}


def anomalibs(count: int, side: int) -> dict[str, float]:
    """AUPRO as anomalib computes it, all pixels in memory."""
    import torch
    from anomalib.metrics.aupro import _AUPRO  # its public twin wants batches of its own kind

    maps, masks = (torch.from_numpy(np.stack(each)) for each in zip(*pictures(count, side), strict=True))
    metric = _AUPRO(fpr_limit=0.3)
    begun = time.perf_counter()
    metric.update(maps, masks.int())
    value = 100 * float(metric.compute())
    return {"s": time.perf_counter() - begun, "pixel_aupro": value}


def our_aupro(count: int, side: int) -> dict[str, float]:
    """What anomalib's is held against."""
    counts, took = PixelCounts(), 0.0
    for heatmap, mask in pictures(count, side):
        begun = time.perf_counter()
        counts.add(heatmap, mask)
        took += time.perf_counter() - begun
    return {"s": took, "pixel_aupro": aupro(counts.good, counts.covered)}


WAYS = {
    "ours": lambda count, side: ours(count, side, False),
    "ours with intervals": lambda count, side: ours(count, side, True),
    "naive": naive,
    "our AUPRO": our_aupro,
    "anomalib's AUPRO": anomalibs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--naive", type=int, default=200, help="pictures of the ways that keep every pixel")
    parser.add_argument("--side", type=int, default=518)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures = WAYS[options.one[0]](int(options.one[1]), options.side)
        figures["grown_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        print(json.dumps(figures))
        return
    few, many = options.naive, options.pictures
    rows = [("ours", many), ("ours with intervals", many), ("ours", few), ("naive", few), ("our AUPRO", few)]
    print(f"maps of {options.side} x {options.side}; memory is what the process grew by")
    for name, count in [*rows, ("anomalib's AUPRO", few)]:
        command = [sys.executable, "-m", "benchmarks.metrics", "--side", str(options.side), "--one", name, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"])[-1]
            print(f"{name:20} {count:5} pictures: cannot be measured here ({reason})")
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        took, grown = figures.pop("s"), figures.pop("grown_mb")
        told = ", ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in figures.items())
        print(f"{name:20} {count:5} pictures {took:7.1f} s {grown:7.0f} MB  {told}", flush=True)
    try:
        print(f"anomalib {version('anomalib')}, scikit-learn {version('scikit-learn')}, numpy {version('numpy')}")
    except PackageNotFoundError:
        print("anomalib is not installed: pip install anomalib, or only its wheel and what its metrics import")


if __name__ == "__main__":
    main()
