"""AF-CLIP (arXiv 2507.19949): an adapter that attends over patches of several blocks and scales, and a memory of good pictures.

Follows the authors' published numbers; their weights have no licence and are not redistributed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors.clip.method import TEMPERATURE, ClipMethod, run_as
from edge_agent.detectors.memory import FewShotMethod, Memory
from edge_agent.detectors.method import Scores, spread
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

STATES = ("without defect.", "with defect.")  # normal, anomalous
BEGIN = "<start_of_text>"  # as open_clip's tokenizer calls it
PROMPT, PROMPT_STD = 12, 0.01  # learned tokens, the same for both states, before the begin token
LAYERS = 4
SCALES = (1, 3, 5)  # patches a side over which neighbours are gathered
SPREAD = 4.0  # standard deviation, in patches, of the neighbours' weights
INNER, HEADS = 512, 8  # of the adapter's attention
TEXT_SHARE = 0.1  # of the zero-shot part beside the distances to the memory


@dataclass(frozen=True, slots=True)
class AfClipOutput:
    """What `forward` returns.

    adapted: (B, S, 1 + N, D) unit, class token first, of S sets. text: (2, D) unit. odds: (B, 1 + N), logit of anomalous less
    that of normal, summed over the sets. distance: (B, h, w) in [0, 1] to the memory; None without one. grid: (h, w).
    """

    adapted: Tensor
    text: Tensor
    odds: Tensor
    distance: Tensor | None
    grid: tuple[int, int]


class Adapter(nn.Module):
    """Self-attention over all tokens of a picture after a norm, without a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * INNER, bias=False)
        self.out = nn.Linear(INNER, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, L, C). tokens: (B, L, C)."""
        parts = self.qkv(self.norm(tokens)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (3, B, h, L, d)
        q, k, v = parts.unbind()
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class AfClip(ClipMethod, FewShotMethod):
    """See the module. One prompt for all parts: a class name makes no difference."""

    name = "afclip"
    sigma = 4.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: Sequence[int] | None = None,
        prompt: int = PROMPT,
        memory: Memory | None = None,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            layers: blocks, counted from 1; default four, evenly spaced.
            prompt: number of learned tokens.
            memory: of good pictures; default none.
            activation: see ClipMethod.
            positions: see ClipMethod.

        Raises CheckpointError for a backbone without raw outputs, and for layers that it does not have.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.raw = tuple(dict.fromkeys(spread(LAYERS, backbone.depth))) if layers is None else tuple(layers)
        if not self.raw or not all(1 <= layer <= backbone.depth for layer in self.raw):
            raise CheckpointError(f"AF-CLIP with layers {self.raw}: {backbone.name} has layers 1 to {backbone.depth}")
        self.prompt = nn.Parameter(PROMPT_STD * torch.randn(prompt, backbone.text_width))
        self.adapter = Adapter(backbone.tower_width)
        self.memory = memory or Memory()
        self.text: Tensor | None
        self.register_buffer("text", None, persistent=False)
        self.to(backbone.device)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> AfClip:
        """See methods.restore. The class name is not used."""
        method = cls(
            backbone,
            layers=[int(layer) for layer in header["layers"]],
            prompt=len(tensors["prompt"]),
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
        self.text = self._text()
        self.memory.prepare()

    def train(self, mode: bool = True) -> AfClip:
        """Discard what `precompute` computed when fitting starts."""
        if mode:
            self.text = None
        return super().train(mode)

    def describe(self, features: ImageFeatures) -> list[Tensor]:
        """See FewShotMethod. Each (B, N, C): blocks in their order, each in all scales."""
        return [scoring.unit(tokens[:, 1:]) for tokens in self._gathered(features)]

    def forward(self, features: ImageFeatures) -> AfClipOutput:
        """See Method. Computes in fp32."""
        with torch.autocast(self.prompt.device.type, enabled=False):
            gathered = self._gathered(features)
            text = self._text() if self.text is None else self.text
            adapted = torch.stack([scoring.unit(self.backbone.project(self.adapter(one))) for one in gathered], dim=1)
            odds = (adapted @ (text[1] - text[0])).sum(dim=1) / TEMPERATURE  # (B, 1 + N)
            distance = None
            if self.memory.count:
                described = [scoring.unit(tokens[:, 1:]) for tokens in gathered]
                distance = (torch.stack(self.memory.distances(described)).mean(dim=0) / 2).unflatten(1, features.grid)
        return AfClipOutput(adapted, text, odds, distance, features.grid)

    def scores(self, output: AfClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. With a memory both are divided by 1.1, the highest that there can be."""
        probability = torch.sigmoid(output.odds)  # = softmax over two states
        picture, patches = probability[:, 0], probability[:, 1:].unflatten(1, output.grid)
        if output.distance is not None:
            far = output.distance if keep is None else output.distance.masked_fill(~keep, 0)
            picture = (far.amax(dim=(1, 2)) + TEXT_SHARE * picture) / (1 + TEXT_SHARE)
            patches = (far + TEXT_SHARE * patches) / (1 + TEXT_SHARE)
        return Scores(picture, patches if keep is None else patches.masked_fill(~keep, 0))

    def _gathered(self, features: ImageFeatures) -> list[Tensor]:
        """Return the tokens (B, 1 + N, C) fp32 of every block in every scale."""
        return [gathered(features.raw[layer].float(), features.grid, scale) for layer in self.raw for scale in SCALES]

    def _text(self) -> Tensor:
        """Encode both states: (2, D) unit. The learned tokens come first, and read nothing, as the tower is causal."""
        begin = self.backbone.embed_words(BEGIN)
        words = [torch.cat([self.prompt, begin, self.backbone.embed_words(state)]) for state in STATES]
        return torch.cat([scoring.unit(self.backbone.encode_prompts(one[None], begun=True)) for one in words])


def gathered(tokens: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Replace each patch by the weighted mean of side x side neighbours; what lies beyond the edge counts as zeros.

    Args:
        tokens: (B, 1 + N, C); the class token, which comes first, stays.
        grid: (h, w) with h * w = N.
        side: odd; 1 changes nothing.
    """
    if side == 1:
        return tokens
    line = torch.exp(-((torch.arange(side, device=tokens.device) - side // 2) ** 2) / (2 * SPREAD**2))
    weights = line / line.sum()
    x = tokens[:, 1:].transpose(1, 2).unflatten(2, grid).flatten(0, 1).unsqueeze(1)  # (B * C, 1, h, w)
    x = F.conv2d(x, weights.view(1, 1, side, 1), padding=(side // 2, 0))
    x = F.conv2d(x, weights.view(1, 1, 1, side), padding=(0, side // 2))
    patches = x.view(tokens.shape[0], -1, grid[0] * grid[1]).transpose(1, 2)
    return torch.cat([tokens[:, :1], patches], dim=1)
