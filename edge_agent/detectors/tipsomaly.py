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
from edge_agent.kernels.scoring import MIN_PROBABILITY
from edge_agent.kernels.similarity import compare

PROMPT_LENGTH = 8  # tokens, as published
CLASS_TOKEN = 2  # as published
CONSISTENCY = (0.0, 0.0)  # as published: none
NO_CONTRAST = (0.0, 1.0)  # as published
LEAST_CONTRAST = 0.01  # is added to every cell's, so that one without any does not make its probability 0


@dataclass(frozen=True, slots=True)
class LocalEvidence:
    """How much of a picture its "local evidence" is: see picture_score. As published unless said.

    fractions: for each size of defect the fraction of the patches, the highest ones, that counts; 0 for the highest one.
    odds: means are taken of log odds, and of probabilities otherwise.
    """

    fractions: tuple[float, ...] = (0.0,)
    odds: bool = False

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> LocalEvidence:
        """What a checkpoint's header says of it."""
        said = header.get("evidence", cls().fractions)
        fractions = tuple(min(max(float(one), 0.0), 1.0) for one in (said if isinstance(said, Sequence) else [said]))
        return cls(fractions, bool(header.get("odds", False)))


PUBLISHED = LocalEvidence()


@dataclass(frozen=True, slots=True)
class TipsomalyOutput:
    """picture: (B, C), anomalous probability by class token 1, 2 (CLIP has one). patches: (B, h, w), by patch; peak: (B,), the highest.

    dissimilarity: (B, h, w) and contrast: (B, 4h, 4w), see ImageFeatures, None where the backbone cannot tell.
    """

    picture: Tensor
    patches: Tensor
    peak: Tensor
    dissimilarity: Tensor | None = None
    contrast: Tensor | None = None


def fixed_features(backbone: Backbone, class_name: str) -> Tensor:
    """(2, D) unit: the class-specific pair that a whole picture is compared with."""
    return torch.stack([scoring.state_feature(backbone.encode_text(state)) for state in prompts.sentences(class_name)])


def learned_features(backbone: Backbone, prompt_pair: Tensor) -> Tensor:
    """(2, D) unit: the pair that patches are compared with. prompt_pair: (2, S, W), in front of the sentences for "object"."""
    states = zip(prompts.sentences("object"), prompt_pair, strict=True)
    return torch.stack([scoring.state_feature(backbone.encode_text(state, prompt)) for state, prompt in states])


def score(features: ImageFeatures, fixed: Tensor, learned: Tensor, temperature: float | Tensor) -> TipsomalyOutput:
    """Probabilities before any combination."""
    patches = compare(features.patches, learned.unsqueeze(0), temperature)
    return TipsomalyOutput(
        scoring.anomalous_probability(features.globals, fixed, temperature),
        patches.probability.unflatten(1, features.grid),
        patches.peak,
        None if features.dissimilarity is None else features.dissimilarity.unflatten(1, features.grid),
        features.contrast,
    )


def with_consistency(found: TipsomalyOutput, slope: float, centre: float) -> TipsomalyOutput:
    """Each patch's logit plus what it looks unlike its own picture's others beyond `centre`, times `slope`: 0 changes nothing.

    Not of the paper: test-time self-consistency, for backbones that tell of it.
    """
    if not slope or found.dissimilarity is None:
        return found
    patches = torch.sigmoid(torch.logit(found.patches, MIN_PROBABILITY) + slope * (found.dissimilarity - centre))
    return replace(found, patches=patches, peak=patches.amax(dim=(1, 2)))


def sharpened(found: TipsomalyOutput, share: float, temperature: float) -> Tensor:
    """(B, 4h, 4w) in [0, 1]: geometric mean of the patches' probability, weighted 1 - share, and of their cells' local contrast.

    temperature: what the patches' log odds are divided by first, as contrast alone would rank those that are all but certain.
    The patches themselves (B, h, w) for a share of 0. Not of the paper: it shows where in its patch a defect lies, for
    backbones that look at contrast.
    """
    if not share or found.contrast is None:
        return found.patches
    contrast = (found.contrast + LEAST_CONTRAST).clamp(max=1)
    patches = torch.sigmoid(torch.logit(found.patches, MIN_PROBABILITY) / temperature)
    _, height, width = contrast.shape
    return scoring.resize_bilinear(patches, (height, width)) ** (1 - share) * contrast**share


def picture_score(
    found: TipsomalyOutput, class_token: int, keep: Tensor | None = None, evidence: LocalEvidence = PUBLISHED
) -> Tensor:
    """(B,) in [0, 1]: mean of class token k's probability and the patches' "local evidence", once for each size of defect.

    keep: (B, h, w) bool, patches that count. The published score is this one doubled, in [0, 2]; its evidence is the
    highest patch, and probabilities are what its mean is of.
    """
    token, patches, peak = found.picture[:, class_token - 1], found.patches.flatten(1), found.peak
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
    """(B,): mean of that fraction of the highest patches (B, N) that count, of one at least; `none` where none counts."""
    if keep is None:
        return patches.topk(max(round(fraction * patches.shape[1]), 1), dim=1).values.mean(dim=1)
    count = (fraction * keep.sum(dim=1, keepdim=True)).round().clamp(min=1)  # (B, 1)
    falling = patches.masked_fill(~keep, none).sort(dim=1, descending=True).values
    return (falling * (torch.arange(patches.shape[1], device=patches.device) < count)).sum(dim=1) / count.squeeze(1)


class Tipsomaly(Method):
    """prompt: (2, S, W), normal then anomalous, the only parameter. class_token: 1 or 2, whose probability counts.

    evidence: see picture_score. Where a backbone is small its highest patch is noise: means of several and of many tell more.
    consistency: slope and centre of with_consistency. contrast: share and temperature of sharpened.
    """

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
        """fixed: the class name's pair, if it is known already, so that no text tower is needed."""
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
        """With the text features made of them, so that the line needs no text tower for this class name."""
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

    def scores(self, found: TipsomalyOutput, keep: Tensor | None = None) -> Scores:
        """See Method."""
        found = with_consistency(found, *self.consistency)
        token = min(self.class_token, found.picture.shape[1])
        return Scores(picture_score(found, token, keep, self.evidence), sharpened(found, *self.contrast))
