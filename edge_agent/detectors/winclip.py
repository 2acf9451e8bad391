"""WinCLIP and WinCLIP+ (arXiv 2303.14814): many sentences, windows of patches encoded by themselves, a memory of good pictures.

Its sentences are written for this project, not the authors'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.memory import FewShotMethod, Memory
from edge_agent.detectors.method import Scores
from edge_agent.detectors.plain import Plain, PlainOutput, States
from edge_agent.kernels import scoring

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
    """Features that are not normalised.

    image: (B, D). patches: (B, N, D). windows: (B, h - s + 1, w - s + 1, D) by side s. grid: (h, w) of patches.
    """

    image: Tensor
    patches: Tensor
    windows: dict[int, Tensor]
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WinClipOutput(PlainOutput):
    """The same with association: (B, h, w) in [0, 1], how unlike the memory the places are; None without one."""

    association: Tensor | None = None


class WinClip(Plain, FewShotMethod):
    """Scores a picture by itself, and a patch by the harmonic mean over the picture and all windows that contain the patch.

    A harmonic mean is close to the smallest of its numbers: one window that finds a patch normal outweighs those that do not.
    Windows take some 14 times as long as the picture. With a memory of good pictures (WinCLIP+), each scale is compared with
    its own there, and scores are means of both.
    """

    name = "winclip"
    fixed_batch = True
    sentences: ClassVar[States] = (composed(NORMAL), composed(ANOMALOUS))

    def __init__(self, backbone: Backbone, class_name: str = "object", memory: Memory | None = None) -> None:
        """Encode the sentences.

        Args:
            backbone: the frozen backbone.
            class_name: what is in the pictures; "_" and "-" in it become spaces.
            memory: of good pictures; default none.
        """
        super().__init__(backbone, class_name)
        self.memory = memory or Memory()

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> WinClip:
        """See methods.restore. A checkpoint holds a memory, if anything."""
        return cls(backbone, class_name, Memory.of(tensors, backbone.device))

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.memory.tensors()

    def precompute(self) -> None:
        """See Method."""
        self.memory.prepare()

    def describe(self, features: WindowFeatures) -> list[Tensor]:
        """See FewShotMethod. Patches (B, N, D), then the windows of each side (B, h - s + 1, w - s + 1, D)."""
        return [scoring.unit(one) for one in (features.patches, *features.windows.values())]

    def encode(self, x: Tensor) -> WindowFeatures:
        """See Method."""
        features = self.backbone.encode_image(x)
        sides = [side for side in SIDES if side <= min(features.grid)]
        windows = {side: self.backbone.encode_windows(x, side) for side in sides}
        return WindowFeatures(features.image, features.patches, windows, features.grid)

    def forward(self, features: WindowFeatures) -> WinClipOutput:  # type: ignore[override]  # takes what its own `encode` returns
        """See Method."""
        whole = self.probability(features.image)  # (B,)
        scales = [whole[:, None, None].expand(-1, *features.grid)]
        scales += [windows_to_patches(self.probability(window), side) for side, window in features.windows.items()]
        return WinClipOutput(whole, harmonic(torch.stack(scales)), self._association(features))

    def scores(self, output: PlainOutput, keep: Tensor | None = None) -> Scores:
        """See Method. The picture's is the mean of its text score and of its most unlike place."""
        assert isinstance(output, WinClipOutput)
        plain = super().scores(output, keep)
        if output.association is None:
            return plain
        far = output.association if keep is None else output.association.masked_fill(~keep, 0)
        return Scores((plain.picture + far.amax(dim=(1, 2))) / 2, (plain.patches + far) / 2)

    def _association(self, features: WindowFeatures) -> Tensor | None:
        """Return (B, h, w): half of 1 - the greatest cosine with the memory, averaged over the scales."""
        if not self.memory.count:
            return None
        patches, *windows = [distance / 2 for distance in self.memory.distances(self.describe(features))]
        scales = [patches.unflatten(1, features.grid)]
        scales += [windows_to_patches(one, side) for side, one in zip(features.windows, windows, strict=True)]
        return torch.stack(scales).mean(dim=0)


def harmonic(x: Tensor) -> Tensor:
    """Return the harmonic mean over the first axis, of numbers in [0, 1]."""
    return 1 / (1 / x.clamp(min=MIN_PROBABILITY)).mean(dim=0)


def windows_to_patches(windows: Tensor, side: int) -> Tensor:
    """Average windows' numbers (B, h - side + 1, w - side + 1) in [0, 1] over the windows of each patch: harmonic means (B, h, w)."""
    reciprocal = F.pad(1 / windows.clamp(min=MIN_PROBABILITY), [side - 1] * 4)
    inside = F.pad(torch.ones_like(windows), [side - 1] * 4)
    counted, summed = F.avg_pool2d(torch.stack([inside, reciprocal], dim=1), side, stride=1).unbind(dim=1)
    return counted / summed
