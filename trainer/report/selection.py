"""Which pictures a report shows, and how: the surest right ones, the missed defects, the false alarms, each beside its map."""

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
from trainer.evaluate.measure import Result

MOST = 4  # of each kind
SIDE = 240  # pixels, the longer one
MAP_THRESHOLD = 0.5  # of detectors that recommend none


@dataclass(frozen=True, slots=True)
class SelectedPicture:
    """One picture, as JPEGs in data URLs: plain, the marked defect outlined, and with its map. masked: whether one was marked."""

    example: Example
    score: float
    plain: str
    mapped: str
    size: tuple[int, int]  # (H, W) of both
    masked: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Each worst or surest first, at most MOST. counts: how many there are in all, by the same names."""

    found: Sequence[SelectedPicture]
    missed: Sequence[SelectedPicture]
    false_alarms: Sequence[SelectedPicture]
    counts: Mapping[str, int]


def select_pictures(detector: Detector, result: Result) -> Selection:
    """The pictures of one category that say most about it, read again, at the result's threshold."""
    called = result.scores >= result.threshold  # nothing, without a threshold
    kinds = {
        "found": (result.bad & called, -result.scores),
        "missed": (result.bad & ~called, result.scores),
        "false_alarms": (~result.bad & called, -result.scores),
    }
    counts = {name: int(members.sum()) for name, (members, _) in kinds.items()}
    chosen: dict[str, list[SelectedPicture]] = {}
    for name, (members, order) in kinds.items():
        indices = [int(index) for index in np.argsort(order, kind="stable") if members[index]][:MOST]
        chosen[name] = _show(detector, [result.shown[index] for index in indices], result.threshold)
    return Selection(chosen["found"], chosen["missed"], chosen["false_alarms"], counts)


def _show(detector: Detector, examples: Sequence[Example], threshold: float) -> list[SelectedPicture]:
    pictures = list(readable(examples, []))
    if not pictures:
        return []
    map_threshold = MAP_THRESHOLD if detector.info.map_threshold is None else detector.info.map_threshold
    rules = Rules(threshold, map_threshold)
    shown = []
    for (example, pixels, mask), reading in zip(pictures, detector.read([one[1] for one in pictures]), strict=True):
        h, w = pixels.shape[:2]
        shape = (max(1, round(h * SIDE / max(h, w))), max(1, round(w * SIDE / max(h, w))))
        plain = paint(pixels, None, (), map_threshold, shape)
        if mask is not None and mask.any():
            outline(plain, mask)
        verdict = judge(reading, rules, pixels.shape)
        mapped = paint(pixels, reading, verdict.regions, map_threshold, shape)
        marked = bool(mask is not None and mask.any())
        shown.append(SelectedPicture(example, reading.score, _data_url(plain), _data_url(mapped), shape, marked))
    return shown


def _data_url(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
