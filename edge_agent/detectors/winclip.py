"""Zero-shot WinCLIP (arXiv 2303.14814): many sentences, windows of patches encoded by themselves, harmonic means.

Its sentences are written for this project, not the authors'. Left out: WinCLIP+, which compares with pictures of good parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.detectors.plain import Plain, PlainOutput, States

SIDES = (2, 3)  # of windows, in patches, as published
MIN_PROBABILITY = 1e-6  # smaller probabilities are raised to this: a harmonic mean is not defined for 0

NORMAL = (
    "{}",
    "intact {}",
    "flawless {}",
    "{} in perfect condition",
    "{} without any flaw",
    "{} without any damage",
    "{} that passed inspection",
)
ANOMALOUS = (
    "damaged {}",
    "broken {}",
    "{} with a flaw",
    "{} with a defect",
    "{} with damage",
    "{} with a stain",
    "{} that failed inspection",
)
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a cropped photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of a {}.",
    "a photo of a {} on a production line.",
    "a photo of a {} for visual inspection.",
    "there is a {} in the picture.",
)


def composed(states: tuple[str, ...]) -> tuple[str, ...]:
    """Put every state into every template; {} still stands for the class name."""
    return tuple(template.format(state) for state in states for template in TEMPLATES)


@dataclass(frozen=True, slots=True)
class WindowFeatures:
    """Features that are not normalised. image: (B, D). windows: (B, h - s + 1, w - s + 1, D) by side s. grid: (h, w) of patches."""

    image: Tensor
    windows: dict[int, Tensor]
    grid: tuple[int, int]


class WinClip(Plain):
    """Scores a picture by itself, and a patch by the harmonic mean over the picture and all windows that contain the patch.

    A harmonic mean is close to the smallest of its numbers: one window that finds a patch normal outweighs those that do not.
    Windows take some 14 times as long as the picture.
    """

    name = "winclip"
    fixed_batch = True
    sentences: ClassVar[States] = (composed(NORMAL), composed(ANOMALOUS))

    def encode(self, x: Tensor) -> WindowFeatures:
        """See Method."""
        features = self.backbone.encode_image(x)
        sides = [side for side in SIDES if side <= min(features.grid)]
        windows = {side: self.backbone.encode_windows(x, side) for side in sides}
        return WindowFeatures(features.image, windows, features.grid)

    def forward(self, features: WindowFeatures) -> PlainOutput:  # type: ignore[override]  # takes what its own `encode` returns
        """See Method."""
        whole = self.probability(features.image)  # (B,)
        scales = [whole[:, None, None].expand(-1, *features.grid)]
        scales += [windows_to_patches(self.probability(window), side) for side, window in features.windows.items()]
        return PlainOutput(whole, harmonic(torch.stack(scales)))


def harmonic(x: Tensor) -> Tensor:
    """Return the harmonic mean over the first axis, of numbers in [0, 1]."""
    return 1 / (1 / x.clamp(min=MIN_PROBABILITY)).mean(dim=0)


def windows_to_patches(windows: Tensor, side: int) -> Tensor:
    """Average windows' numbers (B, h - side + 1, w - side + 1) in [0, 1] over the windows of each patch: harmonic means (B, h, w)."""
    reciprocal = F.pad(1 / windows.clamp(min=MIN_PROBABILITY), [side - 1] * 4)
    inside = F.pad(torch.ones_like(windows), [side - 1] * 4)
    counted, summed = F.avg_pool2d(torch.stack([inside, reciprocal], dim=1), side, stride=1).unbind(dim=1)
    return counted / summed
