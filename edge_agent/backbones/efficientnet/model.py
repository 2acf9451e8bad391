"""EfficientNet-Lite as a backbone: patch features for a bank of good parts; it has no text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import ImageFeatures, Preprocessing, WithoutRawOutputs, refuse
from edge_agent.backbones.efficientnet.tower import STRIDE, Scaling, Trunk
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.errors import CheckpointError

TENSORFLOW = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # as the weights were trained


class EfficientNetLite(WithoutRawOutputs, nn.Module):
    """An EfficientNet-Lite trunk (see Backbone). Its blocks are the stages 1 to 6, its patches 8 pixels a side.

    All that a text tower would do raises CheckpointError.
    """

    text_width = text_depth = 0
    temperature = 1.0
    patch = STRIDE
    preprocessing = TENSORFLOW

    def __init__(self, name: str, scaling: Scaling, image_size: int, sha256: str = "") -> None:
        """Make one with random weights from torch's global generator.

        Args:
            name: as in `edge-agent models`.
            scaling: of this size.
            image_size: side in pixels that it was trained for.
            sha256: digest (hex) of the file that its weights are from, "" for none.
        """
        super().__init__()
        self.trunk = Trunk(scaling).to(memory_format=torch.channels_last)  # a quarter less time on a CPU
        self.name, self.image_size, self.sha256 = name, image_size, sha256
        self.register_buffer("mean", torch.tensor(TENSORFLOW.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(TENSORFLOW.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.trunk.channels[-1]

    @property
    def depth(self) -> int:
        """Number of stages."""
        return len(self.trunk.stages)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def vision_tower(self) -> nn.Module:
        """The trunk."""
        return self.trunk

    def pictures(self, images: Sequence[np.ndarray], size: int) -> Tensor:
        """See Backbone."""
        return (pictures_to_tensor(images, size, self.device) - self.mean) / self.std

    def encode_image(
        self,
        x: Tensor,
        layers: Sequence[int] = (),
        *,
        values: int = 0,
        joined: bool = False,
        raw: Sequence[int] = (),
    ) -> ImageFeatures:
        """See Backbone. Features of coarser stages are resized to the grid of 8 pixels. values: there are none."""
        if values or raw:
            refuse(self.name, "attention")
        stages = self.trunk(x.contiguous(memory_format=torch.channels_last))
        height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE

        def patches(stage: Tensor) -> Tensor:
            if stage.shape[2:] != (height, width):
                stage = F.interpolate(stage, size=(height, width), mode="bilinear", align_corners=False)
            return stage.flatten(2).transpose(1, 2)  # (B, N, C)

        last = stages[-1]
        return ImageFeatures(
            globals=last.mean(dim=(2, 3)).unsqueeze(1),
            patches=patches(last),
            grid=(height, width),
            layers={layer: patches(stages[layer - 1]) for layer in layers},
        )

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Backbone. A trunk of convolutions has no positions."""

    def encode_windows(self, x: Tensor, side: int) -> Tensor:
        """See Backbone: it has none."""
        self._no_text()

    def encode_text(self, sentences: Sequence[str], prompt: Tensor | None = None) -> Tensor:
        """See Backbone: it has none."""
        self._no_text()

    def embed_words(self, words: str) -> Tensor:
        """See Backbone: it has none."""
        self._no_text()

    def encode_prompts(
        self,
        prompts: Tensor,
        deep: Tensor | None = None,
        *,
        begun: bool = False,
        inserted: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """See Backbone: it has none."""
        self._no_text()

    def _no_text(self) -> NoReturn:
        raise CheckpointError(
            f"{self.name} has no text tower and takes no prompts: it inspects with a bank of good parts, which"
            " `trainer station --good FOLDER` makes"
        )
