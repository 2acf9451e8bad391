"""Check that a requested false-alarm rate is kept: calibrate on random halves of good pictures, count on the others.

    python -m benchmarks.calibration --data sets/hazelnut [--data ...] [--model embedded] [--splits 10000]

DATA is a category in MVTec layout. Every picture is scored once. Two simple thresholds from the same halves are shown for
comparison: the quantile of the scores, and their mean plus three standard deviations. Then once in file order, as on a line:
calibrate on the first half, count on the rest. Results go to benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np

import edge_agent
from benchmarks.results_file import RESULTS, commit
from edge_agent.inference.load import Loader
from trainer.calibrate.calibration import percent
from trainer.calibrate.conformal import just_above, pictures_needed, threshold_rank
from trainer.calibrate.readings import read_pictures
from trainer.calibrate.setup import ReadingSetup
from trainer.data.examples import read_examples

RATES = ("0.2", "0.1", "0.05", "0.02")

Rule = Callable[[np.ndarray], float]  # good scores (n,) to the threshold


def scores_of(setup: ReadingSetup, folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of the good pictures that differ, in the order of their files; of the defective ones; and how many were copies."""
    splits = [split for split in ("train", "test") if (folder / split).is_dir()]
    examples = [one for split in splits for one in read_examples(folder, split)]
    good, bad = (
        read_pictures(setup, [one.picture for one in examples if one.defective is defective], 0)
        for defective in (False, True)
    )
    return good.scores, bad.scores, len(good.copies)


def over_splits(good: np.ndarray, bad: np.ndarray, rule: Rule, splits: int) -> tuple[np.ndarray, float]:
    """False alarms (splits,) among the half that was not calibrated on, and the mean share of defective parts found."""
    alarms, found = np.zeros(splits, int), np.zeros(splits)
    for number in range(splits):
        order = np.random.default_rng([11, number]).permutation(len(good))
        half, rest = good[order[: len(good) // 2]], good[order[len(good) // 2 :]]
        threshold = rule(half)
        alarms[number], found[number] = (rest >= threshold).sum(), (bad >= threshold).mean()
    return alarms, float(found.mean())


def measure(good: np.ndarray, bad: np.ndarray, asked: str, splits: int) -> Mapping[str, object]:
    """One rate on one set, all shares in [0, 1]."""
    from scipy.stats import betabinom

    rate, n = Fraction(asked), len(good) // 2
    rest, m = len(good) - n, threshold_rank(n, rate)
    figures: dict[str, object] = {"rate": float(rate), "calibrated_on": n, "counted_on": rest}
    if not m:
        return {**figures, "refused": f"takes {pictures_needed(rate)} pictures"}

    def ours(half: np.ndarray) -> float:
        return just_above(half, m)

    alarms, found = over_splits(good, bad, ours, splits)
    low, high = betabinom.ppf([0.025, 0.975], rest, m, n + 1 - m)
    expected = betabinom.cdf(high, rest, m, n + 1 - m) - betabinom.cdf(low - 1, rest, m, n + 1 - m)
    quantile, _ = over_splits(good, bad, lambda half: float(np.quantile(half, 1 - float(rate))), splits)
    first = ours(good[:n])
    return {
        **figures,
        "promised": m / (n + 1),
        "measured": alarms.mean() / rest,
        "within_expected_interval": float(((low <= alarms) & (alarms <= high)).mean()),
        "expected_within": float(expected),
        "found": found,
        "quantile_measured": quantile.mean() / rest,
        "in_file_order": float((good[n:] >= first).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--splits", type=int, default=10000)
    options = parser.parse_args()
    loader, sets = Loader(), {}
    print(
        "set            rate   pictures  promised  measured  in interval (expected)  quantile  x rate  file order  found"
    )
    for folder in options.data:
        name = folder.resolve().name
        class_name = name.replace("_", " ")
        detector = loader.detector(options.model, options.checkpoint, class_name)
        good, bad, copies = scores_of(ReadingSetup(detector, class_name), folder)
        rows = [measure(good, bad, asked, options.splits) for asked in RATES]
        sigma, found = over_splits(good, bad, lambda half: float(half.mean() + 3 * half.std()), options.splits)
        three_sigma = {"measured": sigma.mean() / (len(good) - len(good) // 2), "found": found}
        sets[name] = {
            "good": len(good),
            "copies": copies,
            "defective": len(bad),
            "rates": rows,
            "mean_plus_3_sd": three_sigma,
        }
        for row in rows:
            start = f"{name:14} {percent(row['rate']):6} {row['calibrated_on']:3} + {row['counted_on']:3}"
            if "refused" in row:
                print(f"{start}  refused: {row['refused']}")
                continue
            print(
                f"{start} {row['promised']:9.2%} {row['measured']:9.2%} {row['within_expected_interval']:11.1%}"
                f" ({row['expected_within']:.1%}) {row['quantile_measured']:13.2%} {row['quantile_measured'] / row['rate']:7.2f}"
                f" {row['in_file_order']:11.2%} {row['found']:6.1%}",
                flush=True,
            )
        print(f"{name:14} mean + 3 sd: {three_sigma['measured']:.2%} false alarms, {found:.1%} found", flush=True)
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {
            "edge-agent": edge_agent.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scipy", "torch")},
        },
        "detector": detector.info.name,
        "checkpoint_sha256": detector.info.checkpoint_sha256,
        "splits": options.splits,
        "sets": sets,
    }
    (RESULTS / "calibration.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
