"""What a fit is made on: features of labelled pictures from a frozen backbone, by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors.method import Method


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """One picture to fit on: pixels (H, W, 3) uint8 RGB, mask (H, W) bool of its defect, empty for a good picture."""

    pixels: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How pictures are encoded.

    image_size: side in pixels at which they are read. map_size: side in pixels at which maps and masks are compared.
    layers, values, joined, raw: see Backbone.encode_image. pictures: whether the method encodes them once more.
    dtype: of the vision tower's matrix products.
    """

    image_size: int
    map_size: int
    layers: tuple[int, ...] = ()
    values: int = 0
    dtype: torch.dtype = torch.float32
    joined: bool = False
    raw: tuple[int, ...] = ()
    pictures: bool = False

    @classmethod
    def of(cls, method: Method, image_size: int, map_size: int, dtype: torch.dtype = torch.float32) -> EncodeSettings:
        """Return how a method's pictures are encoded. Args: as in the class."""
        return cls(
            image_size,
            map_size,
            tuple(method.layers),
            method.values,
            dtype,
            method.joined,
            tuple(method.raw),
            method.pictures,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """features: of B pictures, fp32. masks: (B, S, S) and bad: (B,), float, 0 or 1."""

    features: ImageFeatures
    masks: Tensor
    bad: Tensor


class Features(Protocol):
    """The features of a fit's pictures, which are numbered 0 .. len - 1."""

    def __len__(self) -> int: ...

    def batch(self, chosen: Tensor) -> FeatureBatch:
        """Return the features of some pictures. chosen: (B,) int64, their numbers."""
        ...


class FreshFeatures:
    """Features that are computed whenever a batch is wanted: the pictures are kept, the features are not."""

    def __init__(self, backbone: Backbone, pictures: Sequence[LabelledPicture], settings: EncodeSettings) -> None:
        """Keep the pictures.

        Args:
            backbone: encodes them.
            pictures: with their masks.
            settings: how they are encoded.
        """
        self._backbone, self._pictures, self._settings = backbone, pictures, settings

    def __len__(self) -> int:
        return len(self._pictures)

    def batch(self, chosen: Tensor) -> FeatureBatch:
        """See Features."""
        pictures = [self._pictures[number] for number in chosen.tolist()]
        masks = np.stack([small_mask(one.mask, self._settings.map_size) for one in pictures])
        return feature_batch(encode(self._backbone, pictures, self._settings), masks, self._backbone.device)


def encode(backbone: Backbone, pictures: Sequence[LabelledPicture], settings: EncodeSettings) -> ImageFeatures:
    """Compute the features of some pictures, fp32, outside of any autograd graph.

    Args:
        backbone: encodes them.
        pictures: at least one; of any sizes.
        settings: how they are encoded.
    """
    with torch.no_grad():
        x = backbone.pictures([one.pixels for one in pictures], settings.image_size)
        with torch.autocast(x.device.type, settings.dtype, enabled=settings.dtype != torch.float32):
            found = backbone.encode_image(
                x, settings.layers, values=settings.values, joined=settings.joined, raw=settings.raw
            )
        return replace(found, pictures=x) if settings.pictures else found


def small_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Reduce a mask to (size, size) uint8, 0 or 1, by its nearest pixels, or where these miss all of it by any pixel it touches."""
    small = cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    # A scratch in a large picture: without this a defective picture would count as good.
    if not small.any() and mask.any():
        small = (cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > 0).view(np.uint8)
    return small


def feature_batch(features: ImageFeatures, masks: np.ndarray, device: torch.device) -> FeatureBatch:
    """Join features with their masks.

    Args:
        features: of B pictures.
        masks: (B, S, S) uint8, 0 or 1.
        device: of the batch.
    """
    truth = torch.from_numpy(masks).to(device).float()
    return FeatureBatch(features, truth, truth.amax(dim=(1, 2)))
