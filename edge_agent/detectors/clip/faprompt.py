"""FAPrompt (ICCV 2025): ten prompts of kinds of anomaly on AnomalyCLIP's towers, in a second pass moved by a picture's patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors.clip.method import TEMPERATURE
from edge_agent.detectors.clip.object_prompts import DEEP_TOKENS, ObjectPrompts, pair_logits, stored, tokens_of
from edge_agent.detectors.method import Scores
from edge_agent.kernels import scoring

CONTEXT, OWN, KINDS = 5, 2, 10  # learned tokens of all prompts, further ones of each kind of anomaly, and kinds
SEEN = 10  # patches that the bias is made from
NARROWER = 16  # how much narrower its hidden layer is than what goes in


@dataclass(frozen=True, slots=True)
class FaPromptOutput:
    """What `forward` returns of both passes, the first one first.

    text: (B or 1, 2, D) unit each. patches: (B, h, w) each, probability of anomalous. bias: (B, W). picture: (B, 2), logits of
    the second pass. kinds: (B, K, D), unit, anomalous text features of the second pass.
    """

    text: tuple[Tensor, Tensor]
    patches: tuple[Tensor, Tensor]
    bias: Tensor
    picture: Tensor
    kinds: Tensor


class FaPrompt(ObjectPrompts):
    """See the module.

    top: whether the bias is made from the ten most anomalous patches, as in the paper; else from the first ten, as the
    published code does and its checkpoints need.
    """

    name = "faprompt"
    sigma = 10.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        context: int = CONTEXT,
        own: int = OWN,
        kinds: int = KINDS,
        top: bool = True,
        deep: int | None = None,
        deep_tokens: int = DEEP_TOKENS,
        values_from: int | None = None,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            context: learned tokens of all prompts.
            own: further ones of each kind of anomaly.
            kinds: of anomaly.
            top: see the class.
            deep, deep_tokens, values_from: see ObjectPrompts.start.
            activation, positions: see ClipMethod.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.context = tokens_of(context, backbone)
        self.own = tokens_of(own, backbone, kinds)
        width = SEEN * backbone.width
        hidden = max(1, width // NARROWER)
        self.meta = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, backbone.text_width))
        self.top = top
        self.start(deep, deep_tokens, values_from)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> FaPrompt:
        """See methods.restore. The class name is not used."""
        own = tensors["own"]
        method = cls(
            backbone,
            context=len(tensors["context"]),
            own=own.shape[1],
            kinds=len(own),
            top=bool(header["top"]),
            **stored(header, tensors),
        )
        method.load_state_dict(tensors)
        return method

    def settings(self) -> dict[str, object]:
        """See Method."""
        return super().settings() | {"top": self.top}

    def precompute(self) -> None:
        """See Method. The normal prompt, and the anomalous ones of the first pass, are the same for every picture."""
        self.text = torch.cat([self._normal(), self._anomalous(None)[0]])  # (1 + K, D)

    def forward(self, features: ImageFeatures) -> FaPromptOutput:
        """See Method. Computes in fp32."""
        assert features.values is not None, "encode_image(values=...)"
        with torch.autocast(self.deep.device.type, enabled=False):
            patches = scoring.unit(features.values)
            if self.text is None:
                normal, anomalous = self._normal(), self._anomalous(None)
            else:
                normal, anomalous = self.text[:1], self.text[None, 1:]
            first = _states(normal, anomalous)
            seen = _probability(patches, first)  # (B, N)
            bias = self.meta(self._chosen(patches, seen).flatten(1))
            moved = self._anomalous(bias)  # (B, K, D)
            second = _states(normal, moved)
            again = _probability(patches, second)
            maps = (seen.unflatten(1, features.grid), again.unflatten(1, features.grid))
            picture = pair_logits(features.globals[:, -1], second)
            return FaPromptOutput((first, second), maps, bias, picture, scoring.unit(moved))

    def scores(self, output: FaPromptOutput, keep: Tensor | None = None) -> Scores:
        """See Method. The picture's is the mean of its own probability and of the highest patches of both passes."""
        first, second = output.patches if keep is None else (one.masked_fill(~keep, 0) for one in output.patches)
        highest = (2 * first.amax(dim=(1, 2)) + second.amax(dim=(1, 2))) / 3
        return Scores((output.picture.softmax(dim=1)[:, 1] + highest) / 2, (first + second) / 2)

    def _chosen(self, patches: Tensor, probability: Tensor) -> Tensor:
        """Return the patches (B, SEEN, D) of (B, N, D) that the bias is made from; zeros where there are fewer."""
        if self.top:
            worst = probability.topk(min(SEEN, probability.shape[1]), dim=1).indices
            chosen = patches.gather(1, worst.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        else:
            chosen = patches[:, :SEEN]
        return F.pad(chosen, (0, 0, 0, SEEN - chosen.shape[1]))

    def _normal(self) -> Tensor:
        """Encode the normal prompt: (1, D), not normalised."""
        return self.encode_state(self.context[None], self.words_normal)

    def _anomalous(self, bias: Tensor | None) -> Tensor:
        """Encode the anomalous prompts: (B, K, D), not normalised. bias: (B, W), added to their own tokens; None for none, B = 1."""
        own = self.own[None] if bias is None else self.own + bias[:, None, None]  # (B, K, m, W)
        B, K = own.shape[:2]
        tokens = torch.cat([self.context.expand(B, K, -1, -1), own], dim=2).flatten(0, 1)
        return self.encode_state(tokens, self.words_anomalous).unflatten(0, (B, K))


def _states(normal: Tensor, anomalous: Tensor) -> Tensor:
    """Return (B, 2, D) unit of normal (1, D) and anomalous features (B, K, D), which are averaged as they are."""
    mean = anomalous.mean(dim=1)
    return scoring.unit(torch.stack([normal.expand_as(mean), mean], dim=1))


def _probability(patches: Tensor, states: Tensor) -> Tensor:
    """Return the probability of anomalous (B, N) of patches (B, N, D) unit, with states (B or 1, 2, D) unit."""
    normal, anomalous = (patches @ states.mT / TEMPERATURE).unbind(dim=2)
    return torch.sigmoid(anomalous - normal)
