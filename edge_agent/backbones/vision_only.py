"""A vision tower without a text tower as a backbone: patch features for a bank of good parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import ImageFeatures, Preprocessing, WithoutRawOutputs, refuse
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.errors import CheckpointError


class Trunk(nn.Module, ABC):
    """A vision tower that returns the output of every block."""

    @property
    @abstractmethod
    def channels(self) -> Sequence[int]:
        """Channels of each block's output."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pixels a side of the grid that features are given on."""

    @abstractmethod
    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Return the output of each block, (B, C, h, w), of normalised pictures (B, 3, H, W), multiples of the stride."""

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Backbone. Convolutions have no positions."""


class VisionOnly(WithoutRawOutputs, nn.Module):
    """A trunk as a Backbone. Its patches are as large as the stride; outputs of coarser blocks are resized to that grid.

    All that a text tower would do raises CheckpointError.
    """

    text_width = text_depth = 0
    temperature = 1.0

    def __init__(
        self, name: str, trunk: Trunk, image_size: int, preprocessing: Preprocessing, sha256: str = ""
    ) -> None:
        """Take a trunk as it is.

        Args:
            name: as in `edge-agent models`.
            trunk: with its weights.
            image_size: side in pixels that it was trained for.
            preprocessing: of its pictures; interpolation is bilinear.
            sha256: digest (hex) of the file that its weights are from, "" (default) for none.
        """
        super().__init__()
        self.trunk = trunk
        self.name, self.image_size, self.sha256, self.preprocessing = name, image_size, sha256, preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def patch(self) -> int:
        """See Backbone."""
        return self.trunk.stride

    @property
    def width(self) -> int:
        """Channels of the last block."""
        return self.trunk.channels[-1]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.trunk.channels)

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
        """See Backbone. values, raw: there are none."""
        if values or raw:
            refuse(self.name, "attention")
        blocks = self.trunk(x)
        height, width = x.shape[2] // self.patch, x.shape[3] // self.patch

        def patches(block: Tensor) -> Tensor:
            if block.shape[2:] != (height, width):
                block = F.interpolate(block, size=(height, width), mode="bilinear", align_corners=False)
            return block.flatten(2).transpose(1, 2)  # (B, N, C)

        last = blocks[-1]
        return ImageFeatures(
            globals=last.mean(dim=(2, 3)).unsqueeze(1),
            patches=patches(last),
            grid=(height, width),
            layers={layer: patches(blocks[layer - 1]) for layer in layers},
        )

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Backbone."""
        self.trunk.fix_grid(grid)

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
