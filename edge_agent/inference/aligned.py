"""A detector that first moves each picture so that the part lies as in a reference picture, and its findings back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from edge_agent.core import Detector, Reading

SIDE = 160  # pixels of the longer side at which pictures are compared with the reference
ANGLES = (0.0, -8.0, 8.0, -16.0, 16.0)  # degrees that are tried, from each of which the fit finds 4 to either side
LEAST_FIT = 0.3  # correlation with the reference, below which good parts do not look alike enough to be aligned
# Share of good parts' lowest correlation, below which a part cannot be aligned: a large defect lowers it, too.
OF_LOWEST = 0.6
LEAST_SEEN = 0.8  # share of the reference's area that has to lie in the picture
ASPECT = 1.02  # factor by which a picture's aspect may differ from that of the reference
KEPT_SIDE = 128  # cells a side of a mask of what lies in the picture
REMEDY = "look whether it is the right part, upright and wholly in the picture, and the lamp is on"
HEADER, TENSOR = "align", "reference"  # of a checkpoint


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where a part lies.

    matrix: (2, 3), from pixels of the aligned picture to pixels of the picture, both of one size. fit: correlation of the two, at
    most 1.
    """

    matrix: np.ndarray
    fit: float


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A good part that others are aligned with.

    gray: (h, w) uint8, no side longer than SIDE. least_fit: correlation below which a part cannot be aligned.
    """

    gray: np.ndarray
    least_fit: float = LEAST_FIT

    @classmethod
    def of(cls, pixels: np.ndarray) -> Reference:
        """Make one of a good picture (H, W, 3) uint8 RGB."""
        height, width = pixels.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        return cls(_gray(pixels, (max(1, round(height * scale)), max(1, round(width * scale)))))

    @classmethod
    def restored(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Reference | None:
        """Read it from a checkpoint; None where it has none. Raises KeyError, TypeError or ValueError where that is damaged."""
        if not header.get(HEADER):
            return None
        gray = tensors[TENSOR].numpy()
        if gray.ndim != 2 or gray.dtype != np.uint8 or not 1 <= max(gray.shape) <= SIDE:
            raise ValueError(f"a reference picture of shape {gray.shape}")
        return cls(gray, float(header[HEADER]["least_fit"]))

    def place(self, pixels: np.ndarray) -> Placement:
        """Find where the part lies in a picture (H, W, 3) uint8 RGB of the reference's aspect."""
        small = _fitted(self.gray.astype(np.float32), _gray(pixels, self.gray.shape).astype(np.float32))
        height, width = pixels.shape[:2]
        to_full = _scaling(width / self.gray.shape[1], height / self.gray.shape[0])
        return Placement((to_full @ _square(small.matrix) @ np.linalg.inv(to_full))[:2], small.fit)

    def why_not(self, pixels: np.ndarray, placement: Placement) -> str | None:
        """Return why a picture (H, W, 3) cannot be aligned; None where it can."""
        if placement.fit < self.least_fit:
            return (
                f"it agrees with the reference good part to {placement.fit:.2f}, where {self.least_fit:.2f} is needed"
            )
        seen = float(_seen(placement.matrix, pixels.shape).mean())
        if seen < LEAST_SEEN:
            return f"only {100 * seen:.0f} % of where it has to be looked at lies in the picture, where {100 * LEAST_SEEN:.0f} are needed"
        return None

    def has_shape(self, shape: Sequence[int]) -> bool:
        """Whether a picture of shape (H, W, ...) has the reference's aspect."""
        ratio = shape[1] * self.gray.shape[0] / (shape[0] * self.gray.shape[1])
        return 1 / ASPECT < ratio < ASPECT or abs(shape[1] / shape[0] * self.gray.shape[0] - self.gray.shape[1]) <= 1


class AlignedDetector:
    """Reads pictures aligned, and gives maps in the pictures' own coordinates. A mask lies on the part as in the reference.

    What lies outside the picture after it was moved does not count. A picture that cannot be aligned gets a Reading with a fault.
    Satisfies core.Detector.
    """

    def __init__(self, one: Detector, reference: Reference) -> None:
        """Wrap a detector.

        Args:
            one: reads aligned pictures; also an attribute.
            reference: the good part that they are aligned with.
        """
        self.one, self.reference = one, reference
        self.info, self.overlaps = one.info, one.overlaps

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        self.one.warm_up(batch)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector."""
        placed = [self._placed(image) for image in images]
        moved, kept = [], []
        for image, mask, one in zip(images, keep or [None] * len(images), placed, strict=True):
            if isinstance(one, Placement):
                moved.append(aligned(image, one.matrix))
                kept.append(_also(mask, _seen(one.matrix, image.shape)))
        wait = self.one.start(moved, kept) if moved else list

        def readings() -> list[Reading]:
            read = iter(wait())
            return [
                _moved_back(next(read), one.matrix, image.shape) if isinstance(one, Placement) else _faulty(one)
                for one, image in zip(placed, images, strict=True)
            ]

        return readings

    def _placed(self, image: np.ndarray) -> Placement | str:
        """Return where the part lies, or why it cannot be said."""
        if not self.reference.has_shape(image.shape):
            height, width = self.reference.gray.shape
            return (
                f"the part cannot be aligned: the picture is {image.shape[1]} x {image.shape[0]}, and those of good parts are"
                f" {width / height:.2f} times as wide as high: make the station anew with pictures as the camera gives them now"
            )
        placement = self.reference.place(image)
        why = self.reference.why_not(image, placement)
        return f"the part cannot be aligned: {why}: {REMEDY}" if why else placement


def aligned(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move a picture (H, W, 3) so that its part lies as in the reference; what is missing at the edges is mirrored.

    matrix: of its Placement.
    """
    size = pixels.shape[1], pixels.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def choose_reference(pictures: Iterable[np.ndarray]) -> int:
    """Return the number of the picture (H, W, 3) uint8 that is most like the mean of all of them."""
    few = (SIDE // 4, SIDE // 4)
    small = np.stack([_gray(one, few).astype(np.float32) for one in pictures])
    small = small - small.mean(axis=(1, 2), keepdims=True)
    return int(np.square(small - small.mean(axis=0)).mean(axis=(1, 2)).argmin())


def _fitted(reference: np.ndarray, picture: np.ndarray) -> Placement:
    """Fit a picture to a reference of the same size, both (h, w) fp32.

    Phase correlation finds the shift for each of a few angles; the best one is refined by the enhanced correlation coefficient
    (Evangelidis and Psarakis 2008) with shift and angle.
    """
    height, width = reference.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    best, matrix = -1.0, np.eye(2, 3, dtype=np.float32)
    for angle in ANGLES:
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        turned = cv2.warpAffine(picture, turn, (width, height), flags=inverse, borderMode=cv2.BORDER_REPLICATE)
        # Copies: OpenCV multiplies its arguments by the window where they are.
        (x, y), _ = cv2.phaseCorrelate(reference - reference.mean(), turned - turned.mean(), window)
        moved = (_square(turn) @ np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]))[:2].astype(np.float32)
        shown = cv2.warpAffine(
            picture, moved, (width, height), flags=inverse, borderMode=cv2.BORDER_CONSTANT, borderValue=-1
        )
        if (found := _correlation(reference, shown, shown >= 0)) > best:
            best, matrix = found, moved
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    try:
        fit, refined = cv2.findTransformECC(reference, picture, matrix, cv2.MOTION_EUCLIDEAN, criteria)
    except cv2.error:  # it did not converge: the two have nothing in common
        return Placement(matrix, 0.0)
    return Placement(refined, float(fit))


def _correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Return the correlation of two (h, w) arrays where a mask says, -1 where that is less than half of them."""
    if where.mean() < 0.5:
        return -1.0
    first, second = one[where] - one[where].mean(), other[where] - other[where].mean()
    return float(first @ second / max(float(np.sqrt((first @ first) * (second @ second))), 1e-6))


def _gray(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 RGB gray and of that shape (h, w)."""
    small = cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _square(matrix: np.ndarray) -> np.ndarray:
    """Return an affine matrix (2, 3) as (3, 3)."""
    return np.vstack([matrix.astype(np.float64), [0, 0, 1]])


def _scaling(across: float, down: float) -> np.ndarray:
    """Return the matrix (3, 3) that scales pixel coordinates about the corner of the picture, not the middle of its first pixel."""
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _seen(matrix: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return which cells (KEPT_SIDE, KEPT_SIDE) bool of the aligned picture lie in the picture of shape (H, W, ...)."""
    to_cells = _scaling(KEPT_SIDE / shape[1], KEPT_SIDE / shape[0])
    cells = (to_cells @ _square(matrix) @ np.linalg.inv(to_cells))[:2]
    whole = np.full((KEPT_SIDE, KEPT_SIDE), 255, np.uint8)
    size = (KEPT_SIDE, KEPT_SIDE)
    return cv2.warpAffine(whole, cells, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 127


def _also(keep: np.ndarray | None, seen: np.ndarray) -> np.ndarray | None:
    """Return what of a mask (h, w) bool, None for all, lies in the picture, too."""
    if seen.all():
        return keep
    if keep is None:
        return seen
    size = keep.shape[1], keep.shape[0]
    return keep & (cv2.resize(seen.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)


def _moved_back(reading: Reading, matrix: np.ndarray, shape: Sequence[int]) -> Reading:
    """Return the reading of an aligned picture with a map that lies over the picture of shape (H, W, ...) itself."""
    height, width = reading.heatmap.shape
    to_map = _scaling(width / shape[1], height / shape[0])
    forward = (to_map @ _square(matrix) @ np.linalg.inv(to_map))[:2]
    heatmap = cv2.warpAffine(reading.heatmap.astype(np.float32), forward, (width, height), flags=cv2.INTER_LINEAR)
    return replace(reading, heatmap=np.clip(heatmap, 0, 1))


def _faulty(reason: str) -> Reading:
    """Return the reading of a picture that cannot be aligned: suspicious for whoever does not ask for its fault."""
    return Reading(1.0, np.zeros((1, 1), np.float32), fault=reason)
