"""VCP-CLIP (arXiv 2407.12276): class tokens made of the picture, text features that attend to its raw patches, maps first.

Its paper claims no score of a picture. Ours is the mean of the map's worst pixels, which the published code then scales over a
test set; that is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors.clip.aprilgan import pixels_kept, stretched_probability
from edge_agent.detectors.clip.method import TEMPERATURE, ClipMethod, run_as
from edge_agent.detectors.method import Scores, spread
from edge_agent.detectors.vip2clip_parts import HEADS, Perception
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

SENTENCES = ("a photo of a good", "a photo of a damaged")  # normal, anomalous; the class tokens follow
CLASS = 2  # tokens made of a picture
LAYERS = 4
RAW_SHARE = 0.2  # of the map of projected patches beside that of raw ones
WORST = 2000 / 518**2  # share of a map's pixels that make the picture's score
STD = 0.02
NORM_EPS = 1e-6
DROPOUT = 0.1  # of text tokens when fitting


@dataclass(frozen=True, slots=True)
class VcpClipOutput:
    """What `forward` returns; states are normal, then anomalous, in K blocks.

    class_tokens: (B, 2, W). text: (B, 2, D) unit. attended: (B, K, 2, width of the tower) unit. raw, new: (B, K, 2, h, w),
    logits of projected patches and of raw ones. side: of the pictures in pixels.
    """

    class_tokens: Tensor
    text: Tensor
    attended: Tensor
    raw: Tensor
    new: Tensor
    side: int


class VcpClip(ClipMethod):
    """See the module. worst: share of a map's pixels that make the picture's score."""

    name = "vcpclip"
    sigma = 8.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: Sequence[int] | None = None,
        worst: float = WORST,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            layers: blocks, counted from 1; default four, evenly spaced.
            worst: see the class.
            activation, positions: see ClipMethod.

        Raises CheckpointError for a backbone that it cannot read.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.raw = tuple(dict.fromkeys(spread(LAYERS, backbone.depth))) if layers is None else tuple(layers)
        width, text_width, tower = backbone.width, backbone.text_width, backbone.tower_width
        if not self.raw or not all(1 <= layer <= backbone.depth for layer in self.raw):
            raise CheckpointError(f"VCP-CLIP with layers {self.raw}: {backbone.name} has layers 1 to {backbone.depth}")
        if width != text_width or tower % HEADS:
            raise CheckpointError(
                f"{backbone.name}: VCP-CLIP makes tokens of {text_width} numbers of features of {width}, and splits patches of {tower}"
                f" into {HEADS} heads: take another CLIP, such as ViT-L/14"
            )
        self.worst = worst
        self.query = nn.Parameter(STD * torch.randn(CLASS, text_width))
        self.along = nn.Conv1d(1, CLASS, 3, padding=1)  # along the numbers of a feature
        self.inserted = nn.Parameter(STD * torch.randn(backbone.text_depth, 1, text_width))
        self.proj = nn.Linear(text_width, text_width)
        self.norm = nn.LayerNorm(text_width, eps=NORM_EPS)
        self.maps = nn.ModuleList(nn.Linear(tower, width) for _ in self.raw)
        self.fgp = Perception(tower, width)
        self.logs = nn.Parameter(torch.full((2,), TEMPERATURE).log().neg())  # of 1 / temperature: of raw and new logits
        with torch.no_grad():
            for name, sentence in zip(("normal", "anomalous"), SENTENCES, strict=True):
                self.register_buffer(f"words_{name}", backbone.embed_words(sentence), persistent=False)
        self.words_normal: Tensor
        self.words_anomalous: Tensor
        self.to(backbone.device)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> VcpClip:
        """See methods.restore. The class name is not used: the picture stands for it."""
        method = cls(
            backbone, layers=[int(one) for one in header["layers"]], worst=float(header["worst"]), **run_as(header)
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return super().settings() | {"layers": list(self.raw), "worst": self.worst}

    def forward(self, features: ImageFeatures) -> VcpClipOutput:
        """See Method. Computes in fp32."""
        with torch.autocast(self.query.device.type, enabled=False):
            whole = features.image.float()
            class_tokens = self.query + self.along(whole.unsqueeze(1))  # (B, 2, W)
            text = self._text(class_tokens)
            patches = torch.stack([features.raw[layer][:, 1:].float() for layer in self.raw], dim=1)  # (B, K, N, C)
            mapped = torch.stack([own(one) for own, one in zip(self.maps, patches.unbind(dim=1), strict=True)], dim=1)
            plain = scoring.unit(patches)
            attended = self.fgp(text, plain)
            sharpness = self.logs.exp()
            raw = sharpness[0] * (text.unsqueeze(1) @ scoring.unit(mapped).mT)  # (B, K, 2, N)
            new = sharpness[1] * (attended @ plain.mT)
        grid = features.grid
        side = grid[0] * self.backbone.patch
        return VcpClipOutput(class_tokens, text, attended, raw.unflatten(3, grid), new.unflatten(3, grid), side)

    def scores(self, output: VcpClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches are pixels: the softmax is taken of logits that are stretched to the picture's size."""
        raw, new = both_maps(output)
        most = max(1, round(self.worst * output.side**2))
        if keep is not None:
            kept = pixels_kept(keep, output.side)
            raw, new = raw.masked_fill(~kept, 0), new.masked_fill(~kept, 0)
        picture = sum(one.flatten(1).topk(most, dim=1, sorted=False).values.mean(dim=1) for one in (raw, new)) / 2
        assert isinstance(picture, Tensor)
        return Scores(picture, RAW_SHARE * raw + (1 - RAW_SHARE) * new)

    def _text(self, class_tokens: Tensor) -> Tensor:
        """Encode both sentences with the class tokens (B, 2, W) of every picture: (B, 2, D) unit."""
        B = class_tokens.shape[0]
        inserted = F.dropout(self.proj(self.inserted), DROPOUT, self.training)
        states = []
        for words in (self.words_normal, self.words_anomalous):
            prompts = torch.cat([words.expand(B, -1, -1), class_tokens], dim=1)
            states.append(self.backbone.encode_prompts(prompts, inserted=inserted, norm=self.norm))
        return scoring.unit(torch.stack(states, dim=1))


def both_maps(output: VcpClipOutput) -> tuple[Tensor, Tensor]:
    """Return the maps of projected and of raw patches, each (B, side, side) in [0, 1], means over the blocks."""
    raw, new = (stretched_probability(one, output.side).mean(dim=1) for one in (output.raw, output.new))
    return raw, new
