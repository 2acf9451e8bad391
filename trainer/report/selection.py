"""The pictures that a report shows, each beside its map: defects found with most certainty, missed defects, false alarms."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.core import Detector
from edge_agent.evidence.overlay import paint
from edge_agent.line.judge import Rules, judge
from trainer.data.examples import Example, readable
from trainer.data.outline import outline
from trainer.evaluate.measure import CategoryResult

MOST = 4  # pictures of each group
SIDE = 240  # pixels, the longer one
MAP_THRESHOLD = 0.5  # for detectors that recommend none


@dataclass(frozen=True, slots=True)
class SelectedPicture:
    """One picture as two JPEGs in data URLs.

    plain: the picture, its defect outlined where a mask marks one (masked). mapped: the same with the model's map. size: (H, W)
    of both, in pixels.
    """

    example: Example
    score: float
    plain: str
    mapped: str
    size: tuple[int, int]
    masked: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The pictures of one category, at most MOST a group, the clearest first. counts: number of pictures in all, by group."""

    found: Sequence[SelectedPicture]
    missed: Sequence[SelectedPicture]
    false_alarms: Sequence[SelectedPicture]
    counts: Mapping[str, int]


def select_pictures(detector: Detector, result: CategoryResult) -> Selection:
    """Select the pictures that say most about a category at the result's threshold, and read them again."""
    called = result.scores >= result.threshold  # none, without a threshold
    groups = {
        "found": (result.bad & called, -result.scores),
        "missed": (result.bad & ~called, result.scores),
        "false_alarms": (~result.bad & called, -result.scores),
    }
    counts = {name: int(members.sum()) for name, (members, _) in groups.items()}
    chosen: dict[str, list[SelectedPicture]] = {}
    for name, (members, order) in groups.items():
        indices = [int(index) for index in np.argsort(order, kind="stable") if members[index]][:MOST]
        chosen[name] = _pictures(detector, [result.examples[index] for index in indices], result.threshold)
    return Selection(chosen["found"], chosen["missed"], chosen["false_alarms"], counts)


def _pictures(detector: Detector, examples: Sequence[Example], threshold: float) -> list[SelectedPicture]:
    pictures = list(readable(examples, []))
    if not pictures:
        return []
    map_threshold = MAP_THRESHOLD if detector.info.map_threshold is None else detector.info.map_threshold
    rules = Rules(threshold, map_threshold)
    selected = []
    for (example, pixels, mask), reading in zip(pictures, detector.read([one[1] for one in pictures]), strict=True):
        h, w = pixels.shape[:2]
        shape = (max(1, round(h * SIDE / max(h, w))), max(1, round(w * SIDE / max(h, w))))
        plain = paint(pixels, None, (), map_threshold, shape)
        if mask is not None and mask.any():
            outline(plain, mask)
        verdict = judge(reading, rules, pixels.shape)
        mapped = paint(pixels, reading, verdict.regions, map_threshold, shape)
        marked = bool(mask is not None and mask.any())
        selected.append(SelectedPicture(example, reading.score, _data_url(plain), _data_url(mapped), shape, marked))
    return selected


def _data_url(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
