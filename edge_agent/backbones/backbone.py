"""The protocol of a backbone: a vision tower and a text tower whose features can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edge_agent.errors import CheckpointError

Activation = Literal["gelu", "quick_gelu"]
Positions = Literal["bilinear", "bicubic", "bicubic antialias"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a backbone's pictures are made.

    interpolation: "bilinear" or "bicubic". round_levels: round to whole levels of 255 after resizing, as PIL does.
    mean, std: of R, G, B in [0, 1], for normalisation.
    """

    interpolation: str = "bilinear"
    round_levels: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of B pictures, of any length (not normalised).

    globals: (B, C, D), C = 2 for TIPS (class token 1: web captions, 2: synthetic ones), 1 for CLIP.
    patches: (B, N, D) of the last block. layers: the same after chosen blocks, counted from 1, each (B, N, D).
    raw: (B, 1 + N, width of the tower) by chosen block, counted from 1: its output as it is, class token first.
    values: (B, N, D), the patches of the second stream; None where it was not requested.
    dissimilarity: (B, N), of each patch to the others of its picture (see appearance.py); None where a tower has none.
    contrast: (B, 4h, 4w) fp32, local contrast of each patch's cells (see contrast.py); None where a tower has none.
    grid: (h, w) with h * w = N. aligned: (B, D), what text was trained to be compared with, if it is none of the globals.
    pictures: (B, 3, H, W), what was encoded, where a method encodes it once more.
    """

    globals: Tensor
    patches: Tensor
    grid: tuple[int, int]
    layers: dict[int, Tensor] = field(default_factory=dict)
    values: Tensor | None = None
    raw: dict[int, Tensor] = field(default_factory=dict)
    aligned: Tensor | None = None
    dissimilarity: Tensor | None = None
    contrast: Tensor | None = None
    pictures: Tensor | None = None

    @property
    def image(self) -> Tensor:
        """(B, D): the whole picture's feature that text was trained to be compared with."""
        return self.globals[:, -1] if self.aligned is None else self.aligned


class Backbone(Protocol):
    """A frozen image-text model.

    name: as in a checkpoint. sha256: digest of its weights, "" where they were never saved. width: D, length of image and
    text features. depth: vision blocks. text_width: W, length of a token at the input of the text tower. text_depth: text
    blocks. patch: its side in pixels. image_size: side in pixels that the positions were trained for. temperature: what
    cosines are divided by before a softmax. preprocessing: how `pictures` makes its pictures.
    """

    name: str
    sha256: str
    temperature: float

    @property
    def width(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def text_depth(self) -> int: ...
    @property
    def patch(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def vision_tower(self) -> nn.Module:
        """The module that `encode_image` runs; its matrices may be cast to half precision."""
        ...

    def to(self, device: torch.device) -> Backbone:
        """Move the weights to the device, in place, and return the backbone."""
        ...

    def pictures(self, images: Sequence[np.ndarray], size: int) -> Tensor:
        """Resize and normalise (H, W, 3) uint8 RGB pictures of any sizes to (B, 3, size, size) fp32."""
        ...

    @property
    def tower_width(self) -> int:
        """Length of a token within the vision tower; 0 where `encode_image` gives no raw outputs."""
        ...

    @property
    def activation(self) -> Activation | None:
        """Of the MLPs of both towers, where `run_as` can change it."""
        ...

    def run_as(self, activation: Activation, positions: Positions) -> Backbone:
        """Return the same weights, shared, with another activation and another way to resize the positions of patches.

        Some papers' code ran CLIP so, and what they fitted depends on it. Raises CheckpointError where there is no choice.
        """
        ...

    def encode_image(
        self,
        x: Tensor,
        layers: Sequence[int] = (),
        *,
        values: int = 0,
        joined: bool = False,
        raw: Sequence[int] = (),
    ) -> ImageFeatures:
        """Encode pictures.

        Args:
            x: (B, 3, H, W) as `pictures` makes it; H and W multiples of the patch.
            layers: blocks, counted from 1, whose patches are returned as well: of the second stream where it has begun.
            values: the block, counted from 1, whose input the second stream of attention starts from; 0 for none. Values
                attend to values there.
            joined: in that stream queries attend to queries and keys to keys too; all three weights are added.
            raw: blocks, counted from 1, whose outputs are returned as they are.
        """
        ...

    def encode_appended(self, x: Tensor, appended: Tensor, raw: Sequence[int]) -> ImageFeatures:
        """Encode pictures with more tokens behind their patches, which have no position and are no patches of the result.

        Args:
            x: as for encode_image.
            appended: (J, B, n, tower_width): those that stand there in block 1, and others in their place in blocks 2 .. J.
            raw: as for encode_image, without these tokens.
        """
        ...

    def gather_last(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Return what the last block's attention gives alone where patches gather values with given weights, projected: (B, N, D).

        The values are of the block's input after its own attention was added, as Crane's published code has it.

        Args:
            tokens: (B, 1 + N, tower_width), the raw output of the block before.
            weights: (B, N, N), of each patch to all; the class token has none.
        """
        ...

    def project(self, tokens: Tensor) -> Tensor:
        """Put raw tokens (..., tower_width) through the tower's last norm and projection: (..., D)."""
        ...

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """Resize the positions to (h, w) patches for good, in place, so that an exported graph need not resize them."""
        ...

    def encode_windows(self, x: Tensor, side: int) -> Tensor:
        """Encode every side x side window of patches by itself: ImageFeatures.image, (B, h - side + 1, w - side + 1, D)."""
        ...

    def encode_text(self, sentences: Sequence[str], prompt: Tensor | None = None) -> Tensor:
        """Encode sentences to (B, D), not normalised. prompt: (S, W) learned tokens put in front of every sentence's own."""
        ...

    def embed_words(self, words: str) -> Tensor:
        """Embed words to tokens (n, W), inputs of the text tower, without positions and begin or end tokens."""
        ...

    def encode_prompts(
        self,
        prompts: Tensor,
        deep: Tensor | None = None,
        *,
        begun: bool = False,
        inserted: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """Encode prompts (B, L, W), none of their tokens padding, to (B, D), not normalised.

        Begin and end tokens are added where the model has them.

        Args:
            prompts: as tokens.
            deep: (K, n, W), tokens that replace the prompts' first n at text blocks 2 .. K + 1; (K, B, n, W) where each
                prompt has its own, which only CLIP takes.
            begun: the prompts have a begin token of their own, perhaps not as their first: none is added.
            inserted: (text_depth, n, W), tokens without positions that stand after the first one, others in each block.
            norm: applied to what is read, before the tower's own last norm; default none.
        """
        ...


def refuse(name: str, what: str) -> NoReturn:
    """Raise CheckpointError: a method needs what this backbone does not have. what: as in "raw outputs of blocks"."""
    raise CheckpointError(
        f"{name} has no {what}, which this method needs: take a CLIP, such as clip:ViT-L-14-336/openai"
    )


class WithoutRawOutputs:
    """What a backbone says that can be run in one way only and gives no raw outputs of its blocks. Satisfies a part of Backbone."""

    name: str

    @property
    def tower_width(self) -> int:
        """See Backbone."""
        return 0

    @property
    def activation(self) -> None:
        """See Backbone: there is no choice."""

    def run_as(self, activation: Activation, positions: Positions) -> NoReturn:
        """See Backbone: there is no choice."""
        refuse(self.name, "other activation")

    def encode_appended(self, x: Tensor, appended: Tensor, raw: Sequence[int]) -> NoReturn:
        """See Backbone."""
        refuse(self.name, "place for more tokens")

    def gather_last(self, tokens: Tensor, weights: Tensor) -> NoReturn:
        """See Backbone."""
        refuse(self.name, "raw outputs of blocks")

    def project(self, tokens: Tensor) -> NoReturn:
        """See Backbone."""
        refuse(self.name, "raw outputs of blocks")
