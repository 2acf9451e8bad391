"""PatchCore: each patch is compared with a bank of patches of good parts (Roth et al., arXiv 2106.08265).

Beyond the paper: scores are relative to what good parts reach among themselves, so that 0.5 means the same at every station,
and a second, small bank holds patches of known defects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors.method import Method, Scores
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.nearest import nearest

T = TypeVar("T", float, Tensor)

HIGHEST = 0.01  # share of a picture's patches, the farthest ones, whose mean distance is the picture's
SHARPNESS = 4  # exponent between relative distance and odds of a score: twice the scale is a score of 0.94
BOOST = 3.0  # a patch on a known defect counts as at most so many times as far from the good ones
FRESH = 2000  # rows of a bank that is made at random, for timing
SMOOTHED = 3  # patches a side over which features are averaged, as in the paper


@dataclass(frozen=True, slots=True)
class PatchCoreOutput:
    """How far patches lie from the good ones, relative to the scale of patches: (B, h, w) fp32, at least 0."""

    patches: Tensor


class PatchCore(Method):
    """A bank of good patches on a frozen trunk. Its layers are those that the bank was made from."""

    name = "patchcore"
    sigma = 8.0

    def __init__(
        self,
        backbone: Backbone,
        bank: Tensor,
        layers: tuple[int, ...],
        *,
        scale: float = 1.0,
        patch_scale: float = 1.0,
        defects: Tensor | None = None,
    ) -> None:
        """Take a bank as it is.

        Args:
            backbone: whose features the bank holds.
            bank: (M, D), M at least 1: patches of good parts, as `describe` makes them.
            layers: blocks of the backbone, counted from 1, that the features are from.
            scale: the distance of a picture that about 1 in 100 good parts reaches; its score is 0.5.
            patch_scale: likewise the highest distance of a patch; it is 0.5 on the map.
            defects: (K, D) patches of known defects; default none.

        Raises ValueError when a shape or number cannot be.
        """
        super().__init__(backbone)
        if bank.ndim != 2 or not len(bank):
            raise ValueError(f"a bank of shape {tuple(bank.shape)}")
        if not (scale > 0 and patch_scale > 0):
            raise ValueError(f"scales {scale} and {patch_scale}")
        self.layers = layers
        self.scale, self.patch_scale = scale, patch_scale
        self.bank: Tensor
        self.defects: Tensor
        self.register_buffer("bank", bank)
        self.register_buffer("defects", bank[:0] if defects is None else defects)
        self._cells: tuple[Cells, Cells | None] | None = None  # of bank and defects, where they are searched by cells

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> PatchCore:
        """See Method. The bank is random, for timing."""
        layers = default_layers(backbone)
        bank = F.normalize(torch.randn(FRESH, len(layers), _width(backbone, layers) // len(layers)), dim=2).flatten(1)
        return cls(backbone, bank.to(backbone.device), layers)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> PatchCore:
        """See methods.restore. class_name: makes no difference."""
        layers = tuple(int(layer) for layer in header["layers"])
        width = _width(backbone, layers)
        for name in ("bank", "defects"):
            if tensors[name].ndim != 2 or tensors[name].shape[1] != width:
                raise ValueError(f"{name} of shape {tuple(tensors[name].shape)}, descriptors of {width}")
        return cls(
            backbone,
            tensors["bank"].to(backbone.device),
            layers,
            scale=float(header["scale"]),
            patch_scale=float(header["patch_scale"]),
            defects=tensors["defects"].to(backbone.device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """See Method. In fp16: distances change by a thousandth."""
        return {"bank": self.bank.half(), "defects": self.defects.half()}

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return {"layers": list(self.layers), "scale": self.scale, "patch_scale": self.patch_scale}

    def precompute(self) -> None:
        """See Method. A CPU searches by cells."""
        if self.bank.device.type == "cpu":
            self._cells = Cells(self.bank.float()), Cells(self.defects.float()) if len(self.defects) else None

    def make_portable(self) -> None:
        """See Method. Compares with every row."""
        self._cells = None
        self.bank, self.defects = self.bank.float(), self.defects.float()

    def forward(self, features: ImageFeatures) -> PatchCoreOutput:
        """See Method."""
        patches = describe(features, self.layers)
        by_cells, defects_by_cells = self._cells or (None, None)
        distances = _nearest(patches, self.bank, by_cells)
        if len(self.defects):
            # Never nearer than the good bank alone says: a defect can only make a patch count as farther.
            to_defect = _nearest(patches, self.defects, defects_by_cells).clamp(min=1e-6)
            distances = distances * (distances / to_defect).clamp(1.0, BOOST)
        return PatchCoreOutput((distances / self.patch_scale).unflatten(1, features.grid))

    def scores(self, output: PatchCoreOutput, keep: Tensor | None = None) -> Scores:
        """See Method."""
        patches = output.patches if keep is None else output.patches.masked_fill(~keep, 0)
        picture = picture_distance(patches, keep) * (self.patch_scale / self.scale)
        return Scores(score_of(picture), score_of(patches))


def _nearest(patches: Tensor, bank: Tensor, cells: Cells | None) -> Tensor:
    """Return the distances (B, N) of patches (B, N, D) to a bank, by its cells if there are any."""
    if cells is None:
        return nearest(patches.flatten(0, 1), bank).unflatten(0, patches.shape[:2])
    return torch.stack([cells.nearest(one) for one in patches])  # of one picture: more do not fit a core's cache


def describe(features: ImageFeatures, layers: Sequence[int]) -> Tensor:
    """Return the descriptors (B, N, D) fp32 of patches: each layer averaged over 3 x 3 patches and of length 1, joined."""
    parts = []
    for layer in layers:
        x = features.layers[layer].float().transpose(1, 2).unflatten(2, features.grid)
        x = x.clone(
            memory_format=torch.channels_last
        )  # a convolution of one picture leaves strides that pooling is slow with
        x = F.avg_pool2d(x, SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)
        parts.append(F.normalize(x, dim=1).flatten(2).transpose(1, 2))
    return torch.cat(parts, dim=2)


def picture_distance(patches: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return the mean (B,) of the highest 1 % of the distances (B, h, w) that are kept, of one at least; 0 where none is."""
    flat = patches.flatten(1)
    most = max(1, round(HIGHEST * flat.shape[1]))
    highest = flat.topk(most, dim=1).values
    if keep is None:
        return highest.mean(dim=1)
    count = (HIGHEST * keep.flatten(1).sum(dim=1, keepdim=True)).round().clamp(1, most)
    counted = torch.arange(most, device=flat.device) < count
    return (highest * counted).sum(dim=1) / count[:, 0]


def default_layers(backbone: Backbone) -> tuple[int, ...]:
    """Return the layers that a bank is made from: one from beyond the middle of the tower, and the last one."""
    return (-(-2 * backbone.depth // 3), backbone.depth)


def score_of(relative: T) -> T:
    """Map relative distances (any shape), 1 at the scale, to scores in [0, 1): 0.5 at the scale."""
    odds = relative**SHARPNESS
    return odds / (1 + odds)


def _width(backbone: Backbone, layers: Sequence[int]) -> int:
    """Return how many numbers a descriptor has."""
    if not layers or not all(1 <= layer <= backbone.depth for layer in layers):
        raise ValueError(f"layers {tuple(layers)} of a backbone of {backbone.depth}")
    side = backbone.patch * 4
    gray = torch.zeros(1, 3, side, side, device=backbone.device)
    return describe(backbone.encode_image(gray, layers), layers).shape[2]
