"""Crane+ (arXiv 2504.11055): Crane with a second set of patches, gathered where a second backbone, DINOv2, sees what is alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.backbones.families import family_of
from edge_agent.backbones.weights.store import search_folders
from edge_agent.detectors.clip.anomalyclip import AnomalyClipOutput
from edge_agent.detectors.clip.aprilgan import pixels_kept
from edge_agent.detectors.clip.crane import Crane, CraneOutput, fused_feature
from edge_agent.detectors.clip.method import TEMPERATURE
from edge_agent.detectors.clip.object_prompts import pair_logits
from edge_agent.detectors.method import Scores
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

GUIDE = "dinov2-b14-reg4"  # as published
LEAST, SHARPNESS = (
    1.2,
    3.0,
)  # of similarities: share of their mean that is taken off, and what the rest is multiplied with


@dataclass(frozen=True, slots=True)
class CranePlusOutput(CraneOutput):
    """The same; `features` are the mean of both sets, `patches` that of their logits.

    odds: (B, 2, h, w), logits of anomalous against normal of the guided set and of Crane's own. side: of the pictures in pixels.
    """

    odds: Tensor
    side: int


class CranePlus(Crane):
    """See the module. guide: the second backbone, frozen; it sees the same pictures."""

    name = "craneplus"
    pictures = True
    guide: Backbone

    def __init__(self, backbone: Backbone, *, guide: Backbone | None = None, **settings: Any) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            guide: the second backbone; default DINOv2 as published, from where fetched models lie on this machine.
            settings: as for Crane.

        Raises CheckpointError, also where the guide is not here.
        """
        super().__init__(backbone, **settings)
        self.raw = (backbone.depth - 1,)
        if guide is None:
            guide = family_of(GUIDE).load(GUIDE, search_folders())
        if guide.patch != backbone.patch:
            raise CheckpointError(
                f"{guide.name} has patches of {guide.patch} pixels, {backbone.name} of {backbone.patch}: Crane+ needs the same"
            )
        object.__setattr__(self, "guide", guide.to(backbone.device))  # frozen: not a submodule

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> CranePlus:
        """See methods.restore."""
        method = super().restored(backbone, header, tensors, class_name)
        assert isinstance(method, CranePlus)
        if header["guide_sha256"] != method.guide.sha256:
            raise CheckpointError(
                f"fitted with {header['guide']} ({header['guide_sha256'][:12]}), and that is ({method.guide.sha256[:12]}) here:"
                " fetch it again, or refit"
            )
        return method

    def settings(self) -> dict[str, object]:
        """See Method."""
        return super().settings() | {"guide": self.guide.name, "guide_sha256": self.guide.sha256}

    def forward(self, features: ImageFeatures) -> CranePlusOutput:
        """See Method. The guide looks here."""
        assert features.pictures is not None, "pictures"
        with torch.no_grad():
            seen = self.guide.encode_image(self._as_the_guide_sees(features.pictures)).patches
        return self.compare(features, seen)

    def compare(self, features: ImageFeatures, seen: Tensor) -> CranePlusOutput:
        """Compute the output of `forward` from what the guide sees, in fp32. seen: (B, N, C), its patches."""
        assert features.values is not None, "encode_image(values=...)"
        with torch.autocast(self.deep.device.type, enabled=False):
            gathered = self.backbone.gather_last(features.raw[self.raw[0]].float(), guidance(seen.float()))
            sets = scoring.unit(torch.stack([gathered, features.values.float()], dim=1))  # (B, 2, N, D)
            whole = scoring.unit(features.image)
            states = self._guided(whole) if self.training else self.text_pair()[None]  # (B or 1, 2, D)
            logits = sets @ states.unsqueeze(1).mT / TEMPERATURE  # (B, 2, N, 2)
            odds = (logits[..., 1] - logits[..., 0]).unflatten(2, features.grid)
            probability = torch.sigmoid(odds.mean(dim=1))
            patches = sets.mean(dim=1)
            fused = pair_logits(fused_feature(whole, patches, probability), states)
        side = features.grid[0] * self.backbone.patch
        return CranePlusOutput(states[0], fused, probability, whole, patches, states, odds, side)

    def scores(self, output: AnomalyClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches are pixels: the softmax is taken of logits that are stretched to the picture's size."""
        assert isinstance(output, CranePlusOutput)
        picture = super().scores(output, keep).picture
        patches = torch.sigmoid(scoring.resize_bilinear(output.odds.mean(dim=1), output.side))
        return Scores(picture, patches if keep is None else patches.masked_fill(~pixels_kept(keep, output.side), 0))

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Method."""
        super().fix_grid(grid)
        self.guide.fix_grid(grid)
        assert isinstance(self.guide, nn.Module)
        self.add_module("guide_tower", self.guide)  # an exported graph holds its weights

    def _as_the_guide_sees(self, pictures: Tensor) -> Tensor:
        """Normalise pictures (B, 3, H, W) as the guide wants them, instead of as CLIP does."""
        ours, theirs = self.backbone.preprocessing, self.guide.preprocessing
        mean, std, new_mean, new_std = (
            torch.tensor(one, device=pictures.device).view(1, 3, 1, 1)
            for one in (ours.mean, ours.std, theirs.mean, theirs.std)
        )
        return (pictures * std + mean - new_mean) / new_std


def guidance(seen: Tensor) -> Tensor:
    """Return with which weights patches gather from each other, (B, N, N), rows summing to 1: from those that are much alike.

    The published code takes the mean over all pictures that are read at once; here it is each picture's own. There a picture whose
    patches are all alike, as with the lamp off, has no weights at all; here each of its patches keeps itself. seen: (B, N, C).
    """
    alike = scoring.unit(seen)
    alike = alike @ alike.mT
    alike = SHARPNESS * (alike - LEAST * alike.mean(dim=(1, 2), keepdim=True))
    itself = torch.eye(
        alike.shape[1], dtype=torch.bool, device=alike.device
    )  # no patch is more like one than that one itself
    return alike.masked_fill((alike < 0) & ~itself, -torch.inf).softmax(dim=2)
