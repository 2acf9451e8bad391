"""Tipsomaly (TIPS Over Tricks, arXiv 2602.03594): fixed prompts for the picture, learned ones for its patches, local evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.tips import ImageFeatures, Tips
from edge_agent.core import Reading
from edge_agent.detectors import prompts, scoring
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.errors import CheckpointError

METHOD = "tipsomaly"
SIGMA_AT_518 = 4.0  # pixels


@dataclass(frozen=True, slots=True)
class Scores:
    """picture: (B, 2), anomalous probability by class token 1 and 2. patches: (B, h, w), anomalous probability by patch."""

    picture: Tensor
    patches: Tensor


def fixed_features(backbone: Tips, class_name: str) -> Tensor:
    """(2, D) unit: the class-specific pair that a whole picture is compared with."""
    return torch.stack([scoring.state_feature(backbone.encode_text(state)) for state in prompts.sentences(class_name)])


def learned_features(backbone: Tips, prompt_pair: Tensor) -> Tensor:
    """(2, D) unit: the pair that patches are compared with. prompt_pair: (2, S, D), in front of the sentences for "object"."""
    states = zip(prompts.sentences("object"), prompt_pair, strict=True)
    return torch.stack([scoring.state_feature(backbone.encode_text(state, prompt)) for state, prompt in states])


def score(features: ImageFeatures, fixed: Tensor, learned: Tensor, temperature: float | Tensor) -> Scores:
    """Probabilities before any combination; fitting and inspecting both call this."""
    patches = scoring.anomalous_probability(features.patches, learned, temperature)  # (B, N)
    return Scores(
        scoring.anomalous_probability(features.globals, fixed, temperature), patches.unflatten(1, features.grid)
    )


def picture_score(scores: Scores, class_token: int, keep: Tensor | None = None) -> Tensor:
    """(B,) in [0, 1]: half of class token k's probability plus the highest patch's ("local evidence").

    keep: (B, h, w) bool, patches that count. The published score is this one doubled, in [0, 2].
    """
    patches = scores.patches if keep is None else scores.patches.masked_fill(~keep, 0)
    return (scores.picture[:, class_token - 1] + patches.amax(dim=(1, 2))) / 2


class Tipsomaly:
    """The detector, bound to one class name. Several may share one backbone. Satisfies core.Detector."""

    def __init__(
        self,
        backbone: Tips,
        checkpoint: Checkpoint,
        class_name: str,
        *,
        image_size: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """image_size: side in pixels the picture is read at, a multiple of the patch; default as fitted.

        dtype: of the vision tower's matrix products; norms, softmax and logits stay in fp32. Raises CheckpointError.
        """
        checkpoint.require_backbone(backbone.name, backbone.sha256)
        if checkpoint.header["method"] != METHOD:
            raise CheckpointError(f"{checkpoint.path} is for {checkpoint.header['method']}, not {METHOD}")
        self.name = f"{METHOD}/{backbone.name}"
        self.model_sha256 = backbone.sha256
        self.checkpoint_sha256 = checkpoint.sha256
        self._backbone = backbone
        self.device = backbone.device
        self._dtype = dtype
        try:
            self._image_size = image_size or int(checkpoint.header["image_size"])
            self._class_token = 1 + (1, 2).index(checkpoint.header["class_token"])
            self.recommended_threshold = float(checkpoint.header["threshold"])
            self.recommended_map_threshold = float(checkpoint.header["map_threshold"])
            self._learned = checkpoint.tensors["learned"].to(self.device)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{checkpoint.path}: damaged ({error!r}); copy it again or refit") from None
        known = checkpoint.tensors.get(f"fixed.{class_name}")
        with torch.inference_mode():
            fixed = fixed_features(backbone, class_name) if known is None else known
        self._fixed = fixed.to(self.device)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. The heatmap has the side that the picture was read at."""
        size = self._image_size
        with torch.inference_mode():
            x = scoring.pictures_to_tensor(images, size, self.device)
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                features = self._backbone.encode_image(x)
            scores = score(features, self._fixed, self._learned, self._backbone.temperature)
            patches_kept = scoring.masks_to_tensor(keep or [None], features.grid, self.device)
            totals = picture_score(scores, self._class_token, patches_kept).tolist()
            maps = scoring.smooth(scoring.stretch(scores.patches, size), SIGMA_AT_518 * size / 518)
            pixels_kept = scoring.masks_to_tensor(keep or [None], (size, size), self.device)
            if pixels_kept is not None:
                maps = maps * pixels_kept
            heatmaps = maps.clamp(0, 1).cpu().numpy()
        return [Reading(total, heatmap) for total, heatmap in zip(totals, heatmaps, strict=True)]
