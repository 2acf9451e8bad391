"""Measure what corrections do: whether taught false alarms come back, and what is still found.

    python -m benchmarks.corrections --data DIR [--taught 20] [--shots 16] [--defects 60] [--many 1000] [--sets cookie ...]

For every category of MVTec layout a bank is made of some good parts. The threshold is set so that so many of the other good
parts are false alarms; these are taught. Counted before and after: the taught parts, photographed again five times each
(shifted, in other light, with noise, drawn otherwise than what learning draws by itself); a defect painted onto each of them;
good parts that were not taught; all real defects. Then defective parts are said to be good, one by one, while others like them
are labelled as defects: how often the gate refuses. Last, --many corrections of the first set, each a good part with another
painted mark that is said to be good: the worst case for the size of a bank.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from edge_agent.core import Evaluation, Evidence, Trace, Verdict
from edge_agent.detectors.checkpoint import Checkpoint, decoded, encoded
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.squares import SquaresDetector
from edge_agent.io.pictures import decode
from edge_agent.journal.rows import Label, LabelValue, RecordedInspection
from edge_agent.learn.bank import Learner, without
from edge_agent.learn.corrections import Corrections, KeptPicture
from edge_agent.learn.gate import compare, objections
from edge_agent.line.inspect import Station
from edge_agent.line.judge import Rules
from trainer.bank.bank import make_bank
from trainer.bank.good_picture import GoodPicture
from trainer.data.examples import read_examples
from trainer.data.painted_pictures import paint_picture

TRUNK = "efficientnet-lite0"
AGAIN = 5  # photographs of each taught part
NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)
TRACE = Trace("patchcore", "", "", None, "")


def main() -> None:
    """Print a line for each category and step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--taught", type=int, default=20)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--defects", type=int, default=60, help="about so many real ones, evenly spaced")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loader = Loader()
    for folder in sorted(path.parent for path in options.data.glob("*/test")):
        if not options.sets or folder.name in options.sets:
            _category(folder, loader, options)


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """One bank on its trunk, at a threshold."""

    loader: Loader
    checkpoint: Checkpoint
    threshold: float = 0.5

    def single(self) -> PromptDetector:
        return PromptDetector(self.loader.backbone(TRUNK, "cpu"), self.checkpoint, "object")

    def station(self) -> Station:
        return Station("cam1", SquaresDetector(self.single()), Rules(self.threshold), TRACE, None)

    def scores(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        detector = SquaresDetector(self.single())
        return np.array([detector.read([one])[0].score for one in pictures])

    def rejected(self, pictures: Sequence[np.ndarray]) -> int:
        return int((self.scores(pictures) >= self.threshold).sum())

    def taught(self, labelled: Sequence[tuple[KeptPicture, np.ndarray]]) -> Looks:
        pixels = {one.inspection.id: shown for one, shown in labelled}
        learner = Learner(self.single(), self.checkpoint, self.threshold, decode=lambda one: pixels[one.inspection.id])
        found = Corrections({}, [one for one, _ in labelled], frozenset())
        return replace(self, checkpoint=learner.corrected(found)[0])

    @property
    def size(self) -> int:
        return len(self.checkpoint.tensors["bank"]) + len(self.checkpoint.tensors["defects"])


def labelled(number: int, pixels: np.ndarray, value: LabelValue) -> tuple[KeptPicture, np.ndarray]:
    """Return a picture of which something is said, without a box."""
    key = f"{number:08}"
    height, width = pixels.shape[:2]
    label = Label(number, key, "cam1", value, None, None, "benchmark", NOW, None, None)
    inspection = RecordedInspection(
        key, "cam1", number, NOW, NOW, None, None, None, width, height, None, 0.5, 0.5,
        Verdict(Evaluation.NOT_OK), TRACE, {}, Evidence(), False, label,
    )  # fmt: skip
    return KeptPicture(inspection, label, "0" * 64, Path(key)), pixels


def photographed(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the same part as a camera may see it again: shifted by up to 1.5 %, up to 7 % lighter or darker, with noise."""
    height, width = pixels.shape[:2]
    x, y = random.uniform(-0.015, 0.015, 2) * (width, height)
    moved = cv2.warpAffine(
        pixels, np.array([[1, 0, x], [0, 1, y]], np.float32), (width, height), borderMode=cv2.BORDER_REFLECT
    )
    light = random.uniform(0.93, 1.07) * moved.astype(np.float32)
    noise = random.normal(0, random.uniform(2, 5), pixels.shape).astype(np.float32)
    return np.clip(light + noise, 0, 255).astype(np.uint8)


def _category(folder: Path, loader: Loader, options: argparse.Namespace) -> None:
    examples = read_examples(folder)
    spare = [one.picture for one in read_examples(folder, "train")] if (folder / "train").is_dir() else []
    good = sorted([*spare, *(one.picture for one in examples if not one.defective)])
    defective = [one.picture for one in examples if one.defective]
    bad = [decode(one) for one in defective[:: max(1, len(defective) // options.defects)]]
    order = np.random.default_rng(0).permutation(len(good))
    shots = min(options.shots, len(good) // 2)
    shown = [good[at] for at in order[:shots]]
    others = [decode(good[at]) for at in order[shots:]]
    bank = make_bank(
        loader.backbone(TRUNK, "cpu"), [GoodPicture(one.name, "0" * 64, partial(decode, one)) for one in shown]
    )
    before = Looks(loader, decoded(encoded(bank.checkpoint), None))
    scores = before.scores(others)
    count = min(options.taught, len(others) // 2)
    worst = np.argsort(-scores)
    # Of the parts that are not taught, a quarter as many are false alarms, too.
    before = replace(before, threshold=float(scores[worst[min(len(others) - 1, count + count // 4 - 1)]]))
    pick = np.sort(worst[: count + count // 4])
    chosen = np.random.default_rng(1).permutation(pick)[:count]
    taught = [others[at] for at in chosen]
    rest = [one for at, one in enumerate(others) if at not in set(chosen.tolist())]
    random = np.random.default_rng(2)
    again = [photographed(one, random) for one in taught for _ in range(AGAIN)]
    painted = [paint_picture(random, one, others[(at + 1) % len(others)])[0] for at, one in enumerate(taught)]
    after = before.taught([labelled(at, one, LabelValue.GOOD) for at, one in enumerate(taught)])

    def line(words: str, pictures: Sequence[np.ndarray]) -> None:
        print(
            f"{folder.name:14} {words:34} {before.rejected(pictures):4} -> {after.rejected(pictures):4} of {len(pictures)}",
            flush=True,
        )

    print(f"{folder.name:14} bank of {shots} good parts, {before.size} patches, then {after.size}", flush=True)
    line("taught false alarms", taught)
    line("photographed again", again)
    line("a defect painted onto each", painted)
    fine = [one for one in rest if not before.rejected([one])]
    line("one painted onto parts that are OK", [paint_picture(random, one, taught[0])[0] for one in fine[:40]])
    line("good parts that were not taught", rest)
    line("real defects found", bad)
    _gate(folder.name, before, bad)
    if options.many:
        _many(folder.name, before, others, bad, options.many)


def _gate(name: str, before: Looks, bad: Sequence[np.ndarray]) -> None:
    """Label some defects as what they are, and say of another photograph of one of them that it is good."""
    random = np.random.default_rng(4)
    found = [one for one in bad if before.rejected([one])][:10]
    refused = lost = 0
    tried = found[:5]
    for at, liar in enumerate(tried):
        said = [labelled(number, one, LabelValue.DEFECT) for number, one in enumerate(found)]
        said.append(labelled(1000 + at, photographed(liar, random), LabelValue.GOOD))
        after = before.taught(said)
        pixels = {one.inspection.id: shown for one, shown in said}
        compared = compare(
            [(one, False) for one, _ in said],
            before.station(),
            after.station(),
            lambda one, pixels=pixels: pixels[one.inspection.id],
            _unaided(before, after),
        )
        against = list(objections(compared, [], [], flips=1.0, false_alarm_rate=None))
        refused += bool(against)
        lost += sum(one.lost for one in compared)
    print(
        f"{name:14} gate: refused {refused} of {len(tried)} defects said to be good, beside {len(found)} labelled defects;"
        f" {lost} of those would have been lost",
        flush=True,
    )


def _unaided(before: Looks, after: Looks) -> Callable[[KeptPicture], tuple[Station, Station]]:
    def pair(one: KeptPicture) -> tuple[Station, Station]:
        first, second = (
            replace(each, checkpoint=without(each.checkpoint, [one.inspection.id])).station()
            for each in (before, after)
        )
        return first, second

    return pair


def _many(name: str, before: Looks, good: Sequence[np.ndarray], bad: Sequence[np.ndarray], many: int) -> None:
    random, now = np.random.default_rng(3), before

    def speed(looks: Looks) -> float:
        detector, batch = SquaresDetector(looks.single()), list(good[:8])
        detector.read(batch)
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            detector.read(batch)
            took.append(time.perf_counter() - begun)
        return len(batch) / float(np.median(took))

    for taught in range(0, many, 100):
        said = []
        for at in range(taught, min(many, taught + 100)):
            own = good[int(random.integers(len(good)))]
            marked = paint_picture(random, photographed(own, random), good[int(random.integers(len(good)))])[0]
            said.append(labelled(at, marked, LabelValue.GOOD))
        begun = time.perf_counter()
        now, done = now.taught(said), taught + len(said)
        each = (time.perf_counter() - begun) / len(said)
        print(f"{name:14} {done:5} marks said to be good: {now.size} patches, {each:.1f} s each", flush=True)
        if done in (100, 300, many):
            print(
                f"{name:14} after {done}: {speed(before):.0f} -> {speed(now):.0f} pictures a second; good parts rejected"
                f" {before.rejected(good)} -> {now.rejected(good)} of {len(good)}; real defects found {before.rejected(bad)} ->"
                f" {now.rejected(bad)} of {len(bad)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
