"""APRIL-GAN (arXiv 2305.17382): a linear map for each of several blocks onto text features, and a memory of good pictures.

Unlike the published code, maps are means over blocks, not sums, and nothing is scaled by other pictures of a test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors import prompts
from edge_agent.detectors.clip.method import ClipMethod, run_as
from edge_agent.detectors.memory import FewShotMethod, Memory
from edge_agent.detectors.method import Scores, spread
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

LAYERS = 4
TEMPERATURE = 0.01  # as published, not the backbone's own
_KINDS = (
    "bad",
    "low resolution",
    "cropped",
    "bright",
    "dark",
    "close-up",
    "black and white",
    "jpeg corrupted",
    "blurry",
    "good",
)
TEMPLATES = (  # as the authors', whose linear maps were fitted to them
    *(f"a {kind} photo of {article} {{}}." for kind in _KINDS for article in ("a", "the")),
    *(f"a photo of {article} {kind} {{}}." for kind in ("cool", "small", "large") for article in ("a", "the")),
    *(f"a photo of {article} {{}}." for article in ("a", "the", "my", "one")),
    *(f"there is {article} {{}} in the scene." for article in ("a", "the")),
    *(f"this is {article} {{}} in the scene." for article in ("a", "the", "one")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AprilGanOutput:
    """What `forward` returns.

    picture: (B,) probability of anomalous. logits: (B, K, 2, h, w) of K blocks, normal then anomalous. distances: (B, K, h, w)
    in [0, 2] to the memory; None without one. side: of the pictures in pixels.
    """

    picture: Tensor
    logits: Tensor
    distances: Tensor | None
    side: int


class AprilGan(ClipMethod, FewShotMethod):
    """See the module. Its text is that of the class name."""

    name = "aprilgan"
    sigma = 0.0

    def __init__(
        self,
        backbone: Backbone,
        class_name: str = "object",
        *,
        layers: Sequence[int] | None = None,
        memory: Memory | None = None,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random linear maps, and encode its sentences.

        Args:
            backbone: the frozen CLIP.
            class_name: what is in the pictures, in a word or two.
            layers: blocks, counted from 1; default four, evenly spaced.
            memory: of good pictures; default none.
            activation: see ClipMethod.
            positions: see ClipMethod.

        Raises CheckpointError for a backbone without raw outputs, and for layers that it does not have.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.raw = tuple(dict.fromkeys(spread(LAYERS, backbone.depth))) if layers is None else tuple(layers)
        if not self.raw or not all(1 <= layer <= backbone.depth for layer in self.raw):
            raise CheckpointError(f"APRIL-GAN with layers {self.raw}: {backbone.name} has layers 1 to {backbone.depth}")
        self.maps = nn.ModuleList(nn.Linear(backbone.tower_width, backbone.width) for _ in self.raw)
        self.memory = memory or Memory()
        noun = class_name.replace("_", " ").replace("-", " ").strip() or "object"
        with torch.no_grad():
            states = [
                [template.format(state.format(noun)) for state in own for template in TEMPLATES]
                for own in prompts.STATES
            ]
            text = torch.stack([scoring.state_feature(self.backbone.encode_text(state)) for state in states])
        self.text: Tensor  # (2, D) unit
        self.register_buffer("text", text, persistent=False)
        self.to(backbone.device)

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> AprilGan:
        """See Method."""
        return cls(backbone, class_name)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> AprilGan:
        """See methods.restore."""
        method = cls(
            backbone,
            class_name,
            layers=[int(layer) for layer in header["layers"]],
            memory=Memory.of(tensors, backbone.device),
            **run_as(header),
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict() | self.memory.tensors()

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return super().settings() | {"layers": list(self.raw)}

    def precompute(self) -> None:
        """See Method."""
        self.memory.prepare()

    def describe(self, features: ImageFeatures) -> list[Tensor]:
        """See FewShotMethod. Each (B, N, C), of one block."""
        return [scoring.unit(features.raw[layer][:, 1:]) for layer in self.raw]

    def forward(self, features: ImageFeatures) -> AprilGanOutput:
        """See Method. Computes in fp32."""
        with torch.autocast(self.text.device.type, enabled=False):
            picture = scoring.anomalous_probability(features.image, self.text, TEMPERATURE)
            mapped = [own(features.raw[layer][:, 1:].float()) for own, layer in zip(self.maps, self.raw, strict=True)]
            logits = scoring.unit(torch.stack(mapped, dim=1)) @ self.text.T / TEMPERATURE  # (B, K, N, 2)
            distances = None
            if self.memory.count:
                distances = torch.stack(self.memory.distances(self.describe(features)), dim=1)
                distances = distances.unflatten(2, features.grid)
        return AprilGanOutput(
            picture, logits.mT.unflatten(3, features.grid), distances, features.grid[0] * self.backbone.patch
        )

    def scores(self, output: AprilGanOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches are pixels: the softmax is taken of logits that are stretched to the picture's size.

        With a memory both numbers are means with the distances to it.
        """
        probability = stretched_probability(output.logits, output.side).mean(dim=1)
        picture = output.picture
        if output.distances is not None:
            far = scoring.resize_aligned(output.distances, output.side).mean(dim=1)
            highest = output.distances.mean(dim=1)
            if keep is not None:
                highest = highest.masked_fill(~keep, 0)
            picture = (picture + highest.amax(dim=(1, 2))).clamp(max=2) / 2
            probability = (probability + far).clamp(max=2) / 2
        if keep is not None:
            probability = probability.masked_fill(~pixels_kept(keep, output.side), 0)
        return Scores(picture, probability)


def stretched_probability(logits: Tensor, side: int) -> Tensor:
    """Stretch logits (B, K, 2, h, w) of two states to pixels and return the probability of the second one, (B, K, side, side)."""
    normal, anomalous = logits.unbind(dim=2)
    return torch.sigmoid(scoring.resize_aligned(anomalous - normal, side))  # stretching is linear


def pixels_kept(keep: Tensor, side: int) -> Tensor:
    """Return the mask of pixels (B, side, side) bool of one of patches (B, h, w) bool."""
    return scoring.resize_nearest(keep.float(), side) > 0.5
