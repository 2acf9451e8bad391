"""Two detectors that look together: one with prompts, as it was shipped or fitted, and one with a bank of good parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from edge_agent.core import Detector, Reading
from edge_agent.errors import CheckpointError

LEAST = (
    1e-6  # scores and map values nearer to 0 or 1 are taken for this far from them, so that their log odds are finite
)


@dataclass(frozen=True, slots=True)
class Mix:
    """How log odds of two detectors become those of both: other x prompts' + bank x bank's + offset."""

    other: float
    bank: float
    offset: float

    def odds(self, other: np.ndarray, bank: np.ndarray) -> np.ndarray:
        """Return the log odds of both, of two arrays of values in [0, 1] and of one shape."""
        return self.other * log_odds(other) + self.bank * log_odds(bank) + self.offset

    def __call__(self, other: np.ndarray, bank: np.ndarray) -> np.ndarray:
        """Return the values of both, float32 in [0, 1]. What is 0 for the bank was not looked at, and stays 0."""
        return np.where(bank == 0, 0, 1 / (1 + np.exp(-self.odds(other, bank)))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How scores and maps are mixed, and which detector with prompts that was measured with (SHA-256 in hex)."""

    score: Mix
    map: Mix
    model_sha256: str
    checkpoint_sha256: str

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Fusion:
        """Read it from `together` of a checkpoint's header. Raises KeyError, TypeError or ValueError when that is damaged."""
        score, map_ = (Mix(*(float(one) for one in written[key])) for key in ("score", "map"))
        return cls(score, map_, str(written["model_sha256"]), str(written["checkpoint_sha256"]))

    def written(self) -> dict[str, Any]:
        """Return it as JSON values for a header."""
        return {
            "score": [self.score.other, self.score.bank, self.score.offset],
            "map": [self.map.other, self.map.bank, self.map.offset],
            "model_sha256": self.model_sha256,
            "checkpoint_sha256": self.checkpoint_sha256,
        }


class TogetherDetector:
    """Reads every picture with both detectors and mixes what they say. Satisfies core.Detector.

    Its digests are the bank's, whose checkpoint names those of the other.
    """

    def __init__(self, other: Detector, bank: Detector, fusion: Fusion) -> None:
        """Take two detectors.

        Args:
            other: the one with prompts.
            bank: the one with the bank of good parts.
            fusion: from the bank's checkpoint.

        Raises CheckpointError where it was measured with another one.
        """
        if (other.info.model_sha256, other.info.checkpoint_sha256) != (fusion.model_sha256, fusion.checkpoint_sha256):
            raise CheckpointError(
                f"the bank was made to look together with another detector ({fusion.model_sha256[:12]}, prompts"
                f" {fusion.checkpoint_sha256[:12]}) than {other.info.name} ({other.info.model_sha256[:12]}, prompts"
                f" {other.info.checkpoint_sha256[:12]}): run `trainer station` again"
            )
        self._both, self._fusion = (other, bank), fusion
        self.info = replace(bank.info, name=f"{other.info.name} + {bank.info.name}")
        self.overlaps = other.overlaps and bank.overlaps

    def with_bank(self, bank: Detector) -> TogetherDetector:
        """Return the same with another bank, on the scale of the one that it has."""
        return TogetherDetector(self._both[0], bank, self._fusion)

    def of_bank(self, score: float, image: np.ndarray, keep: np.ndarray | None = None) -> float:
        """Return the bank's score, in [0, 1], at which both give a picture `score`; 1 where the bank has no say.

        Args:
            score: of both, in [0, 1].
            image: (H, W, 3) uint8 RGB.
            keep: see core.Detector; default all of it.
        """
        mix = self._fusion.score
        if mix.bank <= 0:
            return 1.0
        other = np.float64(self._both[0].read([image], [keep])[0].score)
        odds = (log_odds(np.float64(score)) - mix.other * log_odds(other) - mix.offset) / mix.bank
        return float(1 / (1 + np.exp(-odds)))

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        for one in self._both:
            one.warm_up(batch)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. The heatmap has the bank's size."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector."""
        first, second = (one.start(images, keep) for one in self._both)
        return lambda: [mixed(other, bank, self._fusion) for other, bank in zip(first(), second(), strict=True)]


def mixed(other: Reading, bank: Reading, fusion: Fusion) -> Reading:
    """Return what two readings of one picture say together, with a heatmap of the bank's size.

    Args:
        other: of the detector with prompts.
        bank: of the one with the bank.
        fusion: how they are mixed.
    """
    if other.fault or bank.fault:
        return Reading(1.0, bank.heatmap, other.fault or bank.fault)
    score = fusion.score(np.float64(other.score), np.float64(bank.score))
    return Reading(float(score), fusion.map(resized(other.heatmap, bank.heatmap.shape), bank.heatmap))


def resized(heatmap: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a heatmap at the size (h, w) of another one."""
    return cv2.resize(heatmap, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def log_odds(values: np.ndarray) -> np.ndarray:
    """Return the log odds of values in [0, 1]."""
    likely = np.clip(values, LEAST, 1 - LEAST)
    return np.log(likely / (1 - likely))
