"""Read a picture as the papers' repositories do, written plainly: fp32, one at a time, PIL's resize, blur on the CPU.

The reference for our own code. As in those repositories, only the prompts' features are reused between pictures.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from edge_agent.backbones.tips.model import Tips
from edge_agent.core import Reading
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.inference.detector import PromptDetector


class AsPublished:
    """Tipsomaly on a TIPS, for a detector that holds both in fp32."""

    def __init__(self, detector: PromptDetector) -> None:
        method, backbone = detector.method, detector.method.backbone
        assert isinstance(method, Tipsomaly)
        assert isinstance(backbone, Tips)
        assert method.learned is not None
        self._tower, self._device, self._size = backbone.vision, detector.device, detector.info.image_size
        self._fixed, self._learned, self._temperature = method.fixed, method.learned, backbone.temperature
        self._token, self._sigma = method.class_token - 1, method.sigma * detector.info.image_size / 518

    @torch.no_grad()
    def read(self, image: np.ndarray) -> Reading:
        """image: (H, W, 3) uint8 RGB."""
        from scipy.ndimage import gaussian_filter

        resized = Image.fromarray(image).resize((self._size, self._size), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(resized)).permute(2, 0, 1).unsqueeze(0).float().div(255).to(self._device)
        features = self._tower(x)
        whole = F.normalize(features.globals[:, self._token], dim=-1) @ self._fixed.T / self._temperature  # (1, 2)
        patches = F.normalize(features.patches, dim=-1) @ self._learned.T / self._temperature  # (1, N, 2)
        probability = patches.softmax(dim=-1)[..., 1].reshape(1, 1, *features.grid)
        score = (whole.softmax(dim=-1)[0, 1] + probability.max()) / 2
        stretched = F.interpolate(probability, size=(self._size, self._size), mode="bilinear", align_corners=False)
        heatmap = gaussian_filter(stretched[0, 0].cpu().numpy(), sigma=self._sigma)
        return Reading(float(score), heatmap)
