"""Crane (arXiv 2504.11055): AnomalyCLIP's prompts, patches that attend to all that resembles them, and a picture's suspicious ones.

Left out: Crane+, whose second set of patches takes a second backbone, DINOv2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_agent.backbones.backbone import ImageFeatures
from edge_agent.detectors.clip.anomalyclip import AnomalyClip, AnomalyClipOutput
from edge_agent.detectors.clip.method import TEMPERATURE
from edge_agent.detectors.clip.object_prompts import pair_logits
from edge_agent.detectors.method import Scores
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring


@dataclass(frozen=True, slots=True)
class CraneOutput(AnomalyClipOutput):
    """The same, but `picture` and text are not combined yet.

    whole: (B, D) unit, the picture's feature. features: (B, N, D) unit, of patches. states: (2 or B x 2, D) unit.
    """

    whole: Tensor
    features: Tensor
    states: Tensor


class Crane(AnomalyClip):
    """See the module. When it is fitted, the picture's own feature stands as one more token behind the learned ones."""

    name = "crane"
    sigma = 4.0
    joined = True

    def forward(self, features: ImageFeatures) -> CraneOutput:
        """See Method. Computes in fp32."""
        assert features.values is not None, "encode_image(values=...)"
        with torch.autocast(self.deep.device.type, enabled=False):
            whole, patches = scoring.unit(features.image), scoring.unit(features.values)
            states = self._guided(whole) if self.training else self.text_pair()[None]  # (B or 1, 2, D)
            logits = patches @ states.mT / TEMPERATURE  # (B, N, 2)
            probability = torch.sigmoid(logits[:, :, 1] - logits[:, :, 0]).unflatten(1, features.grid)
            fused = pair_logits(fused_feature(whole, patches, probability), states)
            return CraneOutput(states[0], fused, probability, whole, patches, states)

    def scores(self, output: AnomalyClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches that do not count do not lend their features to the picture either."""
        assert isinstance(output, CraneOutput)
        if keep is None:
            return super().scores(output)
        patches = output.patches.masked_fill(~keep, 0)
        fused = pair_logits(fused_feature(output.whole, output.features, patches), output.states)
        return Scores(fused.softmax(dim=1)[:, 1], patches)

    def _guided(self, whole: Tensor) -> Tensor:
        """Encode both prompts for every picture, (B, 2, D) unit. whole: (B, D), one more token, as long as the others."""
        B = whole.shape[0]
        if whole.shape[1] != self.context.shape[2]:
            raise CheckpointError(
                f"{self.backbone.name}: Crane is fitted with features of {whole.shape[1]} numbers as tokens, which have"
                f" {self.context.shape[2]} there: take a backbone where they are as long as each other, such as CLIP's ViT-L/14"
            )
        normal, anomalous = (
            torch.cat([own.expand(B, -1, -1), whole.unsqueeze(1)], dim=1) for own in self.context.unbind()
        )
        return scoring.unit(torch.stack(self.encode_states(normal, anomalous), dim=1))


def pooled(patches: Tensor, weights: Tensor) -> Tensor:
    """Return the unit sum (B, D) of patches (B, N, D), each times its weight (B, h, w)."""
    return scoring.unit((weights.flatten(1).unsqueeze(1) @ patches).squeeze(1))


def fused_feature(whole: Tensor, patches: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (B, D) of pictures' features and of their patches', weighted by how anomalous they are; see `pooled`."""
    return (whole + pooled(patches, weights)) / 2
