"""ViP2-CLIP (arXiv 2505.17692): prompts made for each picture, patches of several layers, a score from the worst patches.

Follows the authors' published code where it differs from the paper, except for the word of the normal state: it is "good", as
in the paper, unless a checkpoint holds another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors.method import Method, Scores, spread
from edge_agent.detectors.vip2clip_parts import HEADS, ConditionedPrompts, Perception
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

WORDS = ("good", "damaged")  # normal, anomalous
STATE, SHARED = 9, 3  # tokens before and after the word, as published
LAYERS = 4
TOP = 50  # patches that make the picture's score
TEMPERATURE = 0.07  # as published, not the backbone's own


@dataclass(frozen=True, slots=True)
class ViP2ClipOutput:
    """What `forward` returns.

    text: (B, 2, D) unit, normal then anomalous. cosines: (B, K, 2, h, w), of the patches of K layers and the text features
    that attended to them. probability: (B, K, h, w) of anomalous, in [0, 1].
    """

    text: Tensor
    cosines: Tensor
    probability: Tensor


def picture_logits(cosines: Tensor, top: int, keep: Tensor | None = None) -> Tensor:
    """Compute the picture's logits (B, 2), normal then anomalous: the paper's unified text-patch alignment (UTPA).

    They are the mean cosine of the most anomalous patches of every layer, over the temperature; 0 where no patch counts.

    Args:
        cosines: (B, K, 2, h, w).
        top: how many patches of each layer; all that count where fewer do.
        keep: (B, h, w) bool, the patches that count; None for all.
    """
    normal, anomalous = cosines.flatten(3).unbind(dim=2)  # each (B, K, N)
    odds = anomalous - normal
    if keep is not None:
        kept = keep.flatten(1).unsqueeze(1).expand_as(odds)
        odds = odds.masked_fill(~kept, -torch.inf)
    worst = odds.topk(min(top, odds.shape[2]), dim=2, sorted=False).indices  # (B, K, top)
    pairs = torch.stack([normal.gather(2, worst), anomalous.gather(2, worst)], dim=3).flatten(1, 2)  # (B, K * top, 2)
    if keep is None:
        return pairs.mean(dim=1) / TEMPERATURE
    counted = kept.gather(2, worst).flatten(1).unsqueeze(2).to(pairs.dtype)
    return (pairs * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1) / TEMPERATURE


class ViP2Clip(Method):
    """See the module. layers: the blocks whose patches are compared, counted from 1. top: patches of each that make the score."""

    name = "vip2clip"
    sigma = 8.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: Sequence[int] | None = None,
        top: int = TOP,
        state: int = STATE,
        shared: int = SHARED,
        words: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen backbone.
            layers: blocks, counted from 1; default four, evenly spaced.
            top: how many patches of each layer make the picture's score.
            state: how many tokens stand before the word.
            shared: how many tokens stand after the word.
            words: tokens (n, W) of the words for normal and anomalous; default the backbone's own of "good" and "damaged".

        Raises CheckpointError for numbers that do not fit the backbone.
        """
        super().__init__(backbone)
        self.layers = tuple(dict.fromkeys(spread(LAYERS, backbone.depth) if layers is None else layers))
        self.top = top
        if top < 1 or not self.layers or not all(1 <= layer <= backbone.depth for layer in self.layers):
            raise CheckpointError(
                f"ViP2-CLIP with top {top} and layers {self.layers}: {backbone.name} has layers 1 to {backbone.depth}, top is 1 or more"
            )
        if backbone.width % HEADS:
            raise CheckpointError(
                f"{backbone.name}: its features of {backbone.width} numbers cannot be split into ViP2-CLIP's {HEADS} heads;"
                " take another backbone"
            )
        self.prompts = ConditionedPrompts(backbone.width, backbone.text_width, state, shared)
        self.fgp = Perception(backbone.width)
        if words is None:
            with torch.no_grad():
                words = (backbone.embed_words(WORDS[0]), backbone.embed_words(WORDS[1]))
        self.word_normal: Tensor
        self.word_anomalous: Tensor
        self.register_buffer("word_normal", words[0].float())
        self.register_buffer("word_anomalous", words[1].float())
        self.to(backbone.device)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> ViP2Clip:
        """See methods.restore. The class name is not used: prompts are made from the picture."""
        method = cls(
            backbone,
            layers=[int(layer) for layer in header["layers"]],
            top=int(header["top"]),
            state=tensors["prompts.state"].shape[1],
            shared=len(tensors["prompts.shared"]),
            words=(tensors["word_normal"], tensors["word_anomalous"]),
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return {"layers": list(self.layers), "top": self.top}

    def forward(self, features: ImageFeatures) -> ViP2ClipOutput:
        """See Method. Computes in fp32 whatever the features' precision, in the text tower too, as its prompts are short."""
        layers = [features.layers[layer] for layer in self.layers]
        with torch.autocast(layers[0].device.type, enabled=False):
            patches = scoring.unit(torch.stack(layers, dim=1))  # (B, K, N, D)
            text = self._text(scoring.unit(features.globals[:, -1]))  # (B, 2, D)
            cosines = (self.fgp(text, patches) @ patches.mT).unflatten(3, features.grid)  # (B, K, 2, h, w)
            normal, anomalous = cosines.unbind(dim=2)
            probability = torch.sigmoid((anomalous - normal) / TEMPERATURE)  # = softmax over two states
        return ViP2ClipOutput(text, cosines, probability)

    def scores(self, output: ViP2ClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. The text features have attended to all patches, also to those that do not count."""
        picture = picture_logits(output.cosines, self.top, keep).softmax(dim=1)[:, 1]
        patches = output.probability.mean(dim=1)  # the published (anomalous + 1 - normal) / 2 is the same
        if keep is not None:
            picture = picture.masked_fill(~keep.flatten(1).any(dim=1), 0)
            patches = patches.masked_fill(~keep, 0)
        return Scores(picture, patches)

    def _text(self, whole: Tensor) -> Tensor:
        """Encode the prompts that pictures' features `whole` (B, D), unit, make. Returns (B, 2, D) unit."""
        prompts = self.prompts(whole, (self.word_normal, self.word_anomalous))
        if prompts[0].shape == prompts[1].shape:
            states = self.backbone.encode_prompts(torch.cat(prompts)).unflatten(0, (2, -1)).unbind()
        else:  # the words have different numbers of tokens
            states = tuple(self.backbone.encode_prompts(each) for each in prompts)
        return scoring.unit(torch.stack(states, dim=1))
