"""Tipsomaly (TIPS Over Tricks, arXiv 2602.03594): fixed prompts for the picture, learned ones for its patches, local evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors import prompts
from edge_agent.detectors.method import Method, Scores
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import compare
from edge_agent.kernels.scoring import MIN_PROBABILITY

PROMPT_LENGTH = 8  # tokens, as published
CLASS_TOKEN = 2  # as published
CONSISTENCY = (0.0, 0.0)  # slope and centre: none, as published
NO_CONTRAST = (0.0, 1.0)  # share and temperature: none, as published
CONTRAST_OFFSET = 0.01  # added to every cell's, so that no contrast does not make the probability 0


@dataclass(frozen=True, slots=True)
class LocalEvidence:
    """How the "local evidence" of a picture is computed: see picture_score. The defaults are as published.

    fractions: for each size of defect, which fraction of the patches, the highest ones, is averaged; 0 for the highest alone.
    odds: take means of log odds, not of probabilities.
    """

    fractions: tuple[float, ...] = (0.0,)
    odds: bool = False

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> LocalEvidence:
        """Read it from a checkpoint's header."""
        stated = header.get("evidence", cls().fractions)
        fractions = tuple(
            min(max(float(one), 0.0), 1.0) for one in (stated if isinstance(stated, Sequence) else [stated])
        )
        return cls(fractions, bool(header.get("odds", False)))


PUBLISHED = LocalEvidence()


@dataclass(frozen=True, slots=True)
class TipsomalyOutput:
    """What `forward` returns: probabilities of anomalous, in [0, 1].

    picture: (B, C), by class token 1, 2 (CLIP has one). patches: (B, h, w). peak: (B,), the highest patch.
    dissimilarity: (B, h, w) and contrast: (B, 4h, 4w), see ImageFeatures; None where the backbone has none.
    """

    picture: Tensor
    patches: Tensor
    peak: Tensor
    dissimilarity: Tensor | None = None
    contrast: Tensor | None = None


def fixed_features(backbone: Backbone, class_name: str) -> Tensor:
    """Encode the class-specific pair (2, D), unit, that a whole picture is compared with."""
    return torch.stack([scoring.state_feature(backbone.encode_text(state)) for state in prompts.sentences(class_name)])


def learned_features(backbone: Backbone, prompt_pair: Tensor) -> Tensor:
    """Encode the pair (2, D), unit, that patches are compared with. prompt_pair: (2, S, W), put before sentences for "object"."""
    states = zip(prompts.sentences("object"), prompt_pair, strict=True)
    return torch.stack([scoring.state_feature(backbone.encode_text(state, prompt)) for state, prompt in states])


def score(features: ImageFeatures, fixed: Tensor, learned: Tensor, temperature: float | Tensor) -> TipsomalyOutput:
    """Compare the features with the text; nothing is combined yet.

    Args:
        features: of B pictures.
        fixed: (2, D) unit, for whole pictures.
        learned: (2, D) unit, for patches.
        temperature: what cosines are divided by before the softmax.
    """
    patches = compare(features.patches, learned.unsqueeze(0), temperature)
    return TipsomalyOutput(
        scoring.anomalous_probability(features.globals, fixed, temperature),
        patches.probability.unflatten(1, features.grid),
        patches.peak,
        None if features.dissimilarity is None else features.dissimilarity.unflatten(1, features.grid),
        features.contrast,
    )


def with_consistency(output: TipsomalyOutput, slope: float, centre: float) -> TipsomalyOutput:
    """Add test-time self-consistency to each patch's logit: `slope` times (dissimilarity - `centre`).

    For backbones that compute dissimilarities; not in the paper.

    Args:
        output: of the method.
        slope: 0 changes nothing.
        centre: the dissimilarity that adds nothing.
    """
    if not slope or output.dissimilarity is None:
        return output
    patches = torch.sigmoid(torch.logit(output.patches, MIN_PROBABILITY) + slope * (output.dissimilarity - centre))
    return replace(output, patches=patches, peak=patches.amax(dim=(1, 2)))


def sharpened(output: TipsomalyOutput, share: float, temperature: float) -> Tensor:
    """Sharpen the map: the geometric mean of the patches' probability and their cells' local contrast, (B, 4h, 4w) in [0, 1].

    It shows where in its patch a defect lies, for backbones that compute contrast; not in the paper.

    Args:
        output: of `forward`.
        share: in [0, 1], weight of the contrast; for 0 the patches (B, h, w) are returned as they are.
        temperature: what the patches' log odds are divided by first; else contrast alone would rank nearly certain patches.
    """
    if not share or output.contrast is None:
        return output.patches
    contrast = (output.contrast + CONTRAST_OFFSET).clamp(max=1)
    patches = torch.sigmoid(torch.logit(output.patches, MIN_PROBABILITY) / temperature)
    _, height, width = contrast.shape
    return scoring.resize_bilinear(patches, (height, width)) ** (1 - share) * contrast**share


def picture_score(
    output: TipsomalyOutput, class_token: int, keep: Tensor | None = None, evidence: LocalEvidence = PUBLISHED
) -> Tensor:
    """Compute the pictures' scores (B,) in [0, 1]: the mean of a class token's probability and the patches' "local evidence".

    There is one local evidence for each size of defect. The published score is this one doubled, in [0, 2], with the highest
    patch as the only evidence and a mean of probabilities.

    Args:
        output: of `forward`.
        class_token: 1 or 2, whose probability counts.
        keep: (B, h, w) bool, the patches that count; None for all.
        evidence: how local evidence is computed; default as published.
    """
    token, patches, peak = output.picture[:, class_token - 1], output.patches.flatten(1), output.peak
    none = 0.0
    if evidence.odds:
        token, patches, peak = (torch.logit(one, MIN_PROBABILITY) for one in (token, patches, peak))
        none = math.log(MIN_PROBABILITY)
    kept = None if keep is None else keep.flatten(1)
    means = [token]
    for fraction in evidence.fractions:
        if fraction:
            means.append(highest(patches, kept, fraction, none))
        else:
            means.append(peak if kept is None else patches.masked_fill(~kept, none).amax(dim=1))
    mean = torch.stack(means).mean(dim=0)
    return torch.sigmoid(mean) if evidence.odds else mean


def highest(patches: Tensor, keep: Tensor | None, fraction: float, none: float = 0.0) -> Tensor:
    """Average the highest patches: (B,).

    Args:
        patches: (B, N).
        keep: (B, N) bool, the patches that count; None for all.
        fraction: of those that count, how many are averaged, at least one.
        none: the result where no patch counts.
    """
    if keep is None:
        return patches.topk(max(round(fraction * patches.shape[1]), 1), dim=1).values.mean(dim=1)
    count = (fraction * keep.sum(dim=1, keepdim=True)).round().clamp(min=1)  # (B, 1)
    falling = patches.masked_fill(~keep, none).sort(dim=1, descending=True).values
    return (falling * (torch.arange(patches.shape[1], device=patches.device) < count)).sum(dim=1) / count.squeeze(1)


class Tipsomaly(Method):
    """See the module. prompt: (2, S, W), normal then anomalous, is the only parameter."""

    name = "tipsomaly"
    sigma = 4.0

    def __init__(
        self,
        backbone: Backbone,
        class_name: str = "object",
        class_token: int = CLASS_TOKEN,
        fixed: Tensor | None = None,
        evidence: LocalEvidence = PUBLISHED,
        consistency: tuple[float, float] = CONSISTENCY,
        contrast: tuple[float, float] = NO_CONTRAST,
    ) -> None:
        """Create the method with random prompts.

        Args:
            backbone: the frozen backbone.
            class_name: what is in the pictures, in a word or two.
            class_token: 1 or 2, whose probability counts.
            fixed: the class name's pair (2, D), where it is known already, so that the text tower is not needed.
            evidence: see picture_score. A small backbone's highest patch is noise: means of several and of many are better.
            consistency: slope and centre of with_consistency.
            contrast: share and temperature of sharpened.
        """
        super().__init__(backbone)
        self.class_name, self.class_token, self.evidence = class_name, class_token, evidence
        self.consistency, self.contrast = consistency, contrast
        self.prompt = nn.Parameter(0.02 * torch.randn(2, PROMPT_LENGTH, backbone.text_width, device=backbone.device))
        if fixed is None:
            with torch.no_grad():
                fixed = fixed_features(backbone, class_name)
        self.fixed: Tensor
        self.register_buffer("fixed", fixed.to(backbone.device))
        self.learned: Tensor | None
        self.register_buffer("learned", None)

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> Tipsomaly:
        """See Method."""
        return cls(backbone, class_name)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> Tipsomaly:
        """See methods.restore."""
        token = 1 + (1, 2).index(header["class_token"])
        slope, centre = header.get("consistency", CONSISTENCY)
        fixed = tensors.get(f"fixed.{class_name}")
        consistency = float(slope), float(centre)
        share, temperature = (float(one) for one in header.get("contrast", NO_CONTRAST))
        if not (0 <= share <= 1 and 0.01 <= temperature <= 100):
            raise ValueError(f"contrast: {[share, temperature]}")
        method = cls(
            backbone, class_name, token, fixed, LocalEvidence.from_header(header), consistency, (share, temperature)
        )
        method.prompt = nn.Parameter(tensors["prompt"].to(backbone.device))
        method.learned = tensors["learned"].to(backbone.device)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method. With the text features of the prompts, so that inspecting needs no text tower for this class name."""
        with torch.no_grad():
            learned = learned_features(self.backbone, self.prompt)
        return {"prompt": self.prompt.detach(), "learned": learned, f"fixed.{self.class_name}": self.fixed}

    def settings(self) -> dict[str, Any]:
        """See Method."""
        evidence = {"evidence": list(self.evidence.fractions), "odds": self.evidence.odds}
        own = {"consistency": list(self.consistency), "contrast": list(self.contrast)}
        return {"class_token": self.class_token, **evidence, **own}

    def precompute(self) -> None:
        """See Method."""
        if self.learned is None:
            self.learned = learned_features(self.backbone, self.prompt)

    def forward(self, features: ImageFeatures) -> TipsomalyOutput:
        """See Method."""
        learned = learned_features(self.backbone, self.prompt) if self.learned is None else self.learned
        return score(features, self.fixed, learned, self.backbone.temperature)

    def scores(self, output: TipsomalyOutput, keep: Tensor | None = None) -> Scores:
        """See Method."""
        output = with_consistency(output, *self.consistency)
        token = min(self.class_token, output.picture.shape[1])
        return Scores(picture_score(output, token, keep, self.evidence), sharpened(output, *self.contrast))
