"""A method and its backbone as the line uses them: pictures in, readings out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.core import Reading
from edge_agent.detectors import scoring
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.methods import restore
from edge_agent.errors import CheckpointError


class PromptDetector:
    """Bound to one class name. Several may share one backbone. Satisfies core.Detector."""

    def __init__(
        self,
        backbone: Backbone,
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
        with torch.inference_mode():
            try:
                self._image_size = image_size or int(checkpoint.header["image_size"])
                self.recommended_threshold = float(checkpoint.header["threshold"])
                self.recommended_map_threshold = float(checkpoint.header["map_threshold"])
                self.method = restore(backbone, checkpoint.header, checkpoint.tensors, class_name)
                self.method.hold()
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"{checkpoint.path}: damaged ({error!r}); copy it again or refit") from None
        self.method.eval()
        self.name = f"{self.method.name}/{backbone.name}"
        self.model_sha256 = backbone.sha256
        self.checkpoint_sha256 = checkpoint.sha256
        self.device = backbone.device
        self._dtype = dtype

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. The heatmap has the side that the picture was read at."""
        size, method = self._image_size, self.method
        with torch.inference_mode():
            x = method.backbone.pictures(images, size)
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
                features = method.see(x)
            patches_kept = scoring.masks_to_tensor(keep or [None], features.grid, self.device)
            scores = method.scores(method(features), patches_kept)
            maps = scoring.heatmaps(scores.patches, size, method.sigma, method.upsampling)
            pixels_kept = scoring.masks_to_tensor(keep or [None], (size, size), self.device)
            if pixels_kept is not None:
                maps = maps * pixels_kept
            totals, heatmaps = scores.picture.tolist(), maps.cpu().numpy()
        return [Reading(total, heatmap) for total, heatmap in zip(totals, heatmaps, strict=True)]
