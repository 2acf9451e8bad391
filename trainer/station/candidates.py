"""What a station could look with, each measured on good parts that it has not seen and on defective ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.core import Detector, Reading
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.patchcore import SHARPNESS
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.aligned import AlignedDetector
from edge_agent.inference.arranged import arranged
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.together import TogetherDetector, log_odds, resized
from edge_agent.line.calibration import brightness
from edge_agent.line.contrast import contrast
from trainer.bank.bank import make_bank
from trainer.bank.other_things import other_things
from trainer.station.fusion import Said, fitted
from trainer.station.pictures import PictureSet

TRUNKS = ("efficientnet-lite0", "efficientnet-lite2")
BATCH = 8  # pictures read at once
TIMED = 16  # pictures that the speed is measured on, at least

Report = Callable[[int], object]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to look, and what it says of the pictures.

    words: for a person. detector: as the station will have it. section: of config.yaml, but for the checkpoint.
    checkpoint: to be written beside the config; None where none is needed. scores, peaks, brightness, contrast: (n,) of the
    good pictures, each read without having been shown. maps: theirs. bad: (m,) scores of the defective ones. speed: pictures a
    second. reader: gives the detector that a good picture, by its number, was read with. apart: how far good parts lie from
    each other, as a share of how far pictures of other things do; None without a bank. kinds: numbers of
    the good pictures by kind, as far as a bank tells; see kinds_of. fitted: whether it was fitted on painted defects.
    """

    words: str
    detector: Detector
    section: Mapping[str, object]
    checkpoint: Checkpoint | None
    scores: np.ndarray
    peaks: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    maps: Sequence[np.ndarray]
    bad: np.ndarray
    speed: float
    reader: Callable[[int], Detector]
    apart: float | None = None
    kinds: Sequence[Sequence[int]] = ()
    fitted: bool = False


def candidates(
    pictures: PictureSet,
    class_name: str,
    size: int,
    seed: int,
    loader: Loader,
    report: Report,
    more_trunks: Sequence[str] = (),
    align: bool = False,
) -> Iterator[Candidate]:
    """Measure one candidate after the other.

    Args:
        pictures: good and defective ones.
        class_name: what they show, in a word or two.
        size: patches that a bank holds at most.
        seed: of the bank's subset.
        loader: loads the backbones.
        report: called with 1 for every picture that was read.
        more_trunks: backbones to try a bank on beside TRUNKS; default none.
        align: whether the parts of banks are aligned; see make_bank.
    """
    zero_shot = loader.arranged(loader.detector(EMBEDDED, class_name=class_name))
    shipped = candidate_of(
        "as shipped, no good parts shown", zero_shot, {}, None, pictures, lambda number: zero_shot, report
    )
    yield shipped
    for trunk in trunks(more_trunks):
        backbone = loader.backbone(trunk)
        bank = make_bank(backbone, pictures.good, size=size, align=align, seed=seed, report=report)
        whole, *folds = (arranged(PromptDetector(backbone, one, class_name)) for one in (bank.checkpoint, *bank.folds))

        def reader(number: int, folds: Sequence[Detector] = folds, fold: Sequence[int] = bank.fold) -> Detector:
            return folds[fold[number]]

        words = f"bank of {len(pictures.good)} good part{'s' * (len(pictures.good) > 1)}, {trunk}"
        alone = candidate_of(words, whole, {"model": trunk}, bank.checkpoint, pictures, reader, report)
        if bank.expected:
            score, peak = (np.array([one], np.float32) for one in bank.expected)
            alone = replace(alone, scores=score, peaks=peak)
        alone = replace(alone, apart=apart(alone.scores, whole), kinds=bank.kinds)
        yield alone
        yield together(shipped, alone)


def together(other: Candidate, bank: Candidate) -> Candidate:
    """Return both as one candidate, from what each of them said. other: with prompts, as shipped."""
    first, second = (Said(one.scores, one.maps, one.bad) for one in (other, bank))
    fusion = fitted(first, second, other.detector.info)
    maps = [fusion.map(resized(one, two.shape), two) for one, two in zip(other.maps, bank.maps, strict=True)]
    assert bank.checkpoint is not None
    header = {**bank.checkpoint.header, "together": fusion.written()}
    return replace(
        bank,
        words=f"both: as shipped, and {bank.words}",
        detector=TogetherDetector(other.detector, bank.detector, fusion),
        section={"together": [{"model": EMBEDDED}, dict(bank.section)]},
        checkpoint=Checkpoint(header, bank.checkpoint.tensors),
        scores=fusion.score(other.scores.astype(np.float64), bank.scores.astype(np.float64)),
        peaks=np.array([one.max() for one in maps], np.float32),
        maps=maps,
        bad=fusion.score(other.bad.astype(np.float64), bank.bad.astype(np.float64)),
        speed=1 / (1 / other.speed + 1 / bank.speed),
        reader=lambda number: TogetherDetector(other.reader(number), bank.reader(number), fusion),
    )


def apart(scores: np.ndarray, bank: Detector) -> float:
    """Return how far good parts lie from the bank of the others, as a share of how far pictures of other things lie from it.

    Args:
        scores: (n,) of good pictures, each read with a bank without it.
        bank: of all of them.
    """
    one = bank.one if isinstance(bank, AlignedDetector) else bank  # other things cannot be aligned with the part
    others = [reading.score for reading in one.read(other_things())]
    own, far = (np.exp(np.median(log_odds(np.asarray(each, np.float64))) / SHARPNESS) for each in (scores, others))
    return float(own / far)


def trunks(more: Sequence[str] = ()) -> list[str]:
    """Return the backbones that banks are tried on, each once. more: beside TRUNKS; default none."""
    return list(dict.fromkeys([*TRUNKS, *more]))


def steps(pictures: PictureSet, more_trunks: Sequence[str] = ()) -> int:
    """Return how many times `candidates` reports. more_trunks: as there."""
    read = len(pictures.good) + len(pictures.bad)
    return read + len(trunks(more_trunks)) * (len(pictures.good) + read)


def candidate_of(
    words: str,
    detector: Detector,
    section: Mapping[str, object],
    checkpoint: Checkpoint | None,
    pictures: PictureSet,
    reader: Callable[[int], Detector],
    report: Report,
    *,
    fitted: bool = False,
) -> Candidate:
    """Read all pictures.

    Args:
        words: for a person.
        detector: as the station will have it.
        section: of config.yaml, but for the checkpoint that is yet to be written.
        checkpoint: to be written beside the config; None where none is needed.
        pictures: good and defective ones.
        reader: gives the detector that a good picture, by its number, is read with.
        report: called with 1 for every picture that was read.
        fitted: whether it was fitted on painted defects.
    """
    light: list[tuple[float, float]] = []

    def good(number: int) -> np.ndarray:
        pixels = pictures.as_seen_again(number)
        light.append((brightness(pixels), contrast(pixels)))
        return pixels

    def unseen(number: int) -> Detector:
        painted_on = pictures.bad[number].painted_on
        return detector if painted_on is None else reader(painted_on)

    good_read = list(_read(reader, good, len(pictures.good), report))
    bad_read = list(_read(unseen, lambda number: pictures.bad[number].decode(), len(pictures.bad), report))
    values = np.array([[one.score, one.heatmap.max()] for one in good_read], np.float32)
    return Candidate(
        words=words,
        detector=detector,
        section=section,
        checkpoint=checkpoint,
        scores=np.clip(values[:, 0], 0, 1),
        peaks=np.clip(values[:, 1], 0, 1),
        maps=[one.heatmap for one in good_read],
        brightness=np.array(light, np.float32)[:, 0],
        contrast=np.array(light, np.float32)[:, 1],
        bad=np.clip(np.array([one.score for one in bad_read], np.float32), 0, 1),
        speed=_speed(detector, pictures),
        reader=reader,
        fitted=fitted,
    )


def _read(
    reader: Callable[[int], Detector], pixels: Callable[[int], np.ndarray], count: int, report: Report
) -> Iterator[Reading]:
    """Read pictures 0 .. count - 1, each with its own detector, some at once where that is the same one."""
    at = 0
    while at < count:
        end = at + 1
        while end < min(count, at + BATCH) and reader(end) is reader(at):
            end += 1
        for number, reading in zip(
            range(at, end), reader(at).read([pixels(one) for one in range(at, end)]), strict=True
        ):
            if not (math.isfinite(reading.score) and np.isfinite(reading.heatmap).all()):
                raise EdgeAgentError(f"picture {number}: a score or map is not a number: run `edge-agent doctor`")
            yield reading
            report(1)
        at = end


def _speed(detector: Detector, pictures: PictureSet) -> float:
    """Return how many pictures a second the detector reads on this machine, decoded and in batches of 8."""
    batch = [pictures.good[at % len(pictures.good)].decode() for at in range(BATCH)]
    detector.read(batch)
    started, read = time.perf_counter(), 0
    while read < TIMED:
        detector.read(batch)
        read += len(batch)
    return read / (time.perf_counter() - started)
