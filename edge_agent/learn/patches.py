"""Which patches of a picture a bank learns: of a good part as few as make it OK, of a defect those that stand out most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_agent.detectors.patchcore import SHARPNESS, PatchCore, describe, picture_distance
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.squares import Place, cut_mask, squares
from edge_agent.kernels import scoring
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.nearest import nearest

SEEN_AGAIN = 4  # pictures of the same part that a camera might take next, which are to be OK, too
MARGIN = 0.85  # of the distance at the threshold: what a good part that was learnt stays below
LEAST = 0.5  # of the scale of pictures: as near as good parts are to each other; nothing is brought nearer
MOST_GOOD, MOST_DEFECT = 256, 16  # patches of one picture
STANDS_OUT = 0.6  # of the highest distance in the marked place: patches from there on are of the defect
LIKE_GOOD = 0.5  # of the scale of patches: nearer ones look like good parts, and are not learnt as a defect

Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The patches of one picture that count.

    rows: (N, D) fp32 on the CPU. centres: (N, 2), x and y in pixels. views: the part of the picture that each is of, by number.
    """

    rows: Tensor
    centres: np.ndarray
    views: Tensor

    def distance(self, distances: Tensor) -> float:
        """Return the distance of the picture, that of its highest view, from those of its patches (N,)."""
        return max(float(picture_distance(distances[None, None, self.views == view])) for view in self.views.unique())


class GrowingBank:
    """Patches of good parts, as corrections add to them: those that were there are searched by cells, the added ones by rows."""

    def __init__(self, rows: Tensor) -> None:
        """rows: (M, D) of the bank as it is."""
        self._cells, self._added = Cells(rows.float()), rows[:0].float()

    def add(self, rows: Tensor) -> None:
        """Add patches (K, D)."""
        self._added = torch.cat([self._added, rows.float()])

    def distances(self, rows: Tensor) -> Tensor:
        """Return the distance (N,) of patches (N, D) fp32 to the nearest one."""
        found = self._cells.nearest(rows)
        return torch.minimum(found, nearest(rows, self._added)) if len(self._added) else found


def patches_of(detector: PromptDetector, pixels: np.ndarray, keep: np.ndarray | None, in_squares: bool) -> Patches:
    """Describe a picture as a station reads it, without windows.

    Args:
        detector: reads one square; its method is PatchCore.
        pixels: (H, W, 3) uint8 RGB.
        keep: mask of the station, see core.Detector.
        in_squares: whether elongated pictures are read in squares.
    """
    method = detector.method
    assert isinstance(method, PatchCore)
    height, width = pixels.shape[:2]
    places: list[Place] = squares(pixels.shape) if in_squares else [(0, height, 0, width)]
    views = [pixels[top:bottom, left:right] for top, bottom, left, right in places]
    with torch.inference_mode():
        features = detector.encode(method.backbone.pictures(views, detector.info.image_size))
        found = describe(features, method.layers).cpu()
    high, wide = features.grid
    centres = [
        (left + (column + 0.5) * (right - left) / wide, top + (row + 0.5) * (bottom - top) / high)
        for top, bottom, left, right in places
        for row in range(high)
        for column in range(wide)
    ]
    counts = torch.ones(len(centres), dtype=torch.bool)
    if keep is not None:
        masks = [cut_mask(keep, place, pixels.shape) for place in places]
        kept = scoring.masks_to_tensor(masks, features.grid, torch.device("cpu"))
        assert kept is not None
        counts = kept.flatten()
    number = torch.arange(len(places)).repeat_interleave(high * wide)
    return Patches(found.flatten(0, 1)[counts], np.array(centres)[counts.numpy()], number[counts])


def seen_again(pixels: np.ndarray, number: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 RGB as a camera may see the same part again: shifted, in other light, with noise.

    number: the same one gives the same picture.
    """
    random = np.random.default_rng(number)
    height, width = pixels.shape[:2]
    x, y = random.uniform(-0.012, 0.012, 2) * (width, height)
    shifted = cv2.warpAffine(
        pixels, np.array([[1, 0, x], [0, 1, y]], np.float32), (width, height), borderMode=cv2.BORDER_REFLECT
    )
    light = random.uniform(0.95, 1.05) * shifted.astype(np.float32)
    noise = random.normal(0, random.uniform(1, 4), pixels.shape).astype(np.float32)
    return np.clip(light + noise, 0, 255).astype(np.uint8)


def distance_at(threshold: float, scale: float) -> float:
    """Return the distance of a picture that is scored `threshold`, in [0, 1], where `scale` is scored 0.5."""
    likely = min(max(threshold, 1e-6), 1 - 1e-6)
    return float(scale * (likely / (1 - likely)) ** (1 / SHARPNESS))


def good_rows(views: Sequence[Patches], bank: GrowingBank, most: float) -> Tensor:
    """Choose the patches that make pictures of a good part look like the bank: the farthest ones, until each is near enough.

    Args:
        views: of the same part, seen again and again.
        bank: what they are to look like.
        most: distance of a picture that each of them is to stay below.

    Returns:
        (K, D) fp16, K at most MOST_GOOD; none where all are near enough already.
    """
    rows = torch.cat([one.rows for one in views])
    ends = np.cumsum([0, *(len(one.rows) for one in views)])
    distances = torch.cat([bank.distances(one.rows) for one in views])
    chosen: list[Tensor] = []
    while len(chosen) < MOST_GOOD:
        far = [
            one.distance(distances[start:end]) > most for one, start, end in zip(views, ends, ends[1:], strict=False)
        ]
        if not any(far):
            break
        # Of the pictures that are still too far: one that is near enough already needs no more patches.
        open_ = torch.cat([torch.full((len(one.rows),), is_far) for one, is_far in zip(views, far, strict=True)])
        row = rows[int(torch.where(open_, distances, -1.0).argmax())].half()
        chosen.append(row)
        distances = torch.minimum(distances, nearest(rows, row[None].float()))
    return torch.stack(chosen) if chosen else rows[:0].half()


def defect_rows(patches: Patches, bank: GrowingBank, patch_scale: float, boxes: Sequence[Box]) -> Tensor:
    """Choose the patches of a defect: of the marked place, or of all where none is marked, those that stand out most.

    Args:
        patches: of the picture.
        bank: of good parts.
        patch_scale: see PatchCore.
        boxes: of the marked places; may be empty.

    Returns:
        (K, D) fp16, K at most MOST_DEFECT; none where the place looks like good parts.
    """
    distances = bank.distances(patches.rows)
    inside = torch.from_numpy(_inside(patches.centres, boxes))
    highest = float(distances[inside].max())
    chosen = inside & (distances >= max(STANDS_OUT * highest, LIKE_GOOD * patch_scale))
    most = distances.masked_fill(~chosen, -1).topk(min(MOST_DEFECT, int(chosen.sum()))).indices
    return patches.rows[most.sort().values].half()


def _inside(centres: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Return which centres (N, 2) lie in a box; of a box without any, the nearest one. All of them without a box."""
    if not boxes:
        return np.ones(len(centres), bool)
    inside = np.zeros(len(centres), bool)
    for x, y, width, height in boxes:
        within = np.all((centres >= (x, y)) & (centres <= (x + width, y + height)), axis=1)
        if not within.any():
            middle = np.array((x + width / 2, y + height / 2))
            within[np.square(centres - middle).sum(axis=1).argmin()] = True
        inside |= within
    return inside
