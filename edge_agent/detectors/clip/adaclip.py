"""AdaCLIP (arXiv 2407.15795): tokens made of the picture within both towers, and what its most suspicious patches have in common.

Two passes through the vision tower and 48 sentences for each picture. The published k-means starts at random; here it starts
from the most anomalous patch and goes on with what is farthest from all that was taken, so that a picture has one score.
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
from edge_agent.detectors.method import Scores, spread
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

DEPTH, LENGTH = 4, 5  # blocks with tokens of their own, and how many; as published
CLUSTERS = 20
PATCHES_PER_CLUSTER = 5
LAYERS = 4
TEMPERATURE = 0.01  # as published, not the backbone's own
CLUSTER_SHARE = 0.2  # of the suspicious patches in the picture's feature
STD = 0.02
ITERATIONS = 20  # of k-means


@dataclass(frozen=True, slots=True)
class AdaClipOutput:
    """What `forward` returns; states are normal, then anomalous.

    text: (B, 2, D) unit. whole: (B, D) unit. patches: (B, K, N, D) unit, of K blocks. logits: (B, K, 2, h, w). picture: (B, 2)
    logits. side: of the pictures in pixels.
    """

    text: Tensor
    whole: Tensor
    patches: Tensor
    logits: Tensor
    picture: Tensor
    side: int


class AdaClip(ClipMethod):
    """See the module. Its text is that of the class name and of the picture."""

    name = "adaclip"
    sigma = 4.0
    pictures = True
    fixed_batch = True

    def __init__(
        self,
        backbone: Backbone,
        class_name: str = "object",
        *,
        depth: int | None = None,
        length: int = LENGTH,
        clusters: int = CLUSTERS,
        layers: Sequence[int] | None = None,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            class_name: what is in the pictures, in a word or two.
            depth: blocks of each tower, from the first on, with tokens of their own; default four, or as many as there are.
            length: how many these are.
            clusters: of suspicious patches.
            layers: blocks, counted from 1, whose patches are read; default four, evenly spaced.
            activation, positions: see ClipMethod.

        Raises CheckpointError for numbers that do not fit the backbone.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.read = tuple(dict.fromkeys(spread(LAYERS, backbone.depth))) if layers is None else tuple(layers)
        if not self.read or not all(1 <= layer <= backbone.depth for layer in self.read):
            raise CheckpointError(f"AdaCLIP with layers {self.read}: {backbone.name} has layers 1 to {backbone.depth}")
        most = min(backbone.depth, backbone.text_depth)
        if depth is not None and depth > most:
            raise CheckpointError(f"AdaCLIP with tokens in {depth} blocks: {backbone.name} has {most}")
        depth = min(DEPTH, most) if depth is None else depth
        width, text_width, tower = backbone.width, backbone.text_width, backbone.tower_width
        self.clusters = clusters
        self.text_static = nn.Parameter(STD * torch.randn(depth, length, text_width))
        self.vision_static = nn.Parameter(STD * torch.randn(depth, length, tower))
        self.text_maps = nn.ModuleList(nn.Linear(width, text_width) for _ in range(length))
        self.vision_maps = nn.ModuleList(nn.Linear(width, tower) for _ in range(length))
        self.maps = nn.ModuleList(nn.Linear(tower, width) for _ in self.read)
        self.whole_map = nn.Linear(width, width)
        states = prompts.sentences(class_name)
        self.sentences = tuple(len(state) for state in states)
        with torch.no_grad():
            words = [backbone.embed_words(sentence) for state in states for sentence in state]
        # The text tower takes prompts of one length at once.
        by_length: dict[int, list[int]] = {}
        for number, one in enumerate(words):
            by_length.setdefault(len(one), []).append(number)
        order = [number for numbers in by_length.values() for number in numbers]
        self.register_buffer("order", torch.tensor(order).argsort(), persistent=False)
        self.order: Tensor  # of the sentences among those sorted by length
        self.groups = [f"words{count}" for count in by_length]
        for name, numbers in zip(self.groups, by_length.values(), strict=True):
            self.register_buffer(name, torch.stack([words[number] for number in numbers]), persistent=False)
        self.to(backbone.device)

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> AdaClip:
        """See Method."""
        return cls(backbone, class_name)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> AdaClip:
        """See methods.restore."""
        method = cls(
            backbone,
            class_name,
            depth=len(tensors["text_static"]),
            length=tensors["text_static"].shape[1],
            clusters=int(header["clusters"]),
            layers=[int(layer) for layer in header["layers"]],
            **run_as(header),
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return super().settings() | {"layers": list(self.read), "clusters": self.clusters}

    def forward(self, features: ImageFeatures) -> AdaClipOutput:
        """See Method. The second pass through the vision tower is here; it runs in the precision of the caller."""
        assert features.pictures is not None, "pictures"
        whole = features.image.float()
        seen = self.backbone.encode_appended(features.pictures, self.vision_tokens(whole), self.read)
        with torch.autocast(whole.device.type, enabled=False):
            text = self._text(whole)
            raw = [seen.raw[layer][:, 1:].float() for layer in self.read]
            patches = scoring.unit(
                torch.stack([own(one) for own, one in zip(self.maps, raw, strict=True)], dim=1)
            )  # (B, K, N, D)
            own = scoring.unit(self.whole_map(seen.image.float()))
            logits = (text.unsqueeze(1) @ patches.mT) / TEMPERATURE  # (B, K, 2, N)
            picture = self._picture(patches, logits, own, text)
        grid = features.grid
        side = grid[0] * self.backbone.patch
        return AdaClipOutput(text, own, patches, logits.unflatten(3, grid), picture, side)

    def scores(self, output: AdaClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches are pixels: the softmax is taken of logits that are stretched to the picture's size."""
        normal, anomalous = output.logits.mean(dim=1).unbind(dim=1)
        patches = torch.sigmoid(scoring.resize_aligned((anomalous - normal).unsqueeze(1), output.side).squeeze(1))
        picture = output.picture
        if keep is not None:
            patches = patches.masked_fill(~(scoring.resize_nearest(keep.float(), output.side) > 0.5), 0)
            logits = output.logits.flatten(3)
            picture = self._picture(output.patches, logits, output.whole, output.text, keep.flatten(1))
        return Scores(picture.softmax(dim=1)[:, 1], patches)

    def vision_tokens(self, whole: Tensor) -> Tensor:
        """Return the tokens of the vision tower (J, B, n, C) of its first J blocks. whole: (B, D)."""
        return hybrid(self.vision_maps, whole, self.vision_static)

    def text_tokens(self, whole: Tensor) -> Tensor:
        """Return the tokens of the text tower (J, B, n, W); nothing reads those of the first block. whole: (B, D)."""
        return hybrid(self.text_maps, whole, self.text_static)

    def _text(self, whole: Tensor) -> Tensor:
        """Encode all sentences for every picture: (B, 2, D) unit."""
        B = whole.shape[0]
        deep = self.text_tokens(whole)[1:]  # (J - 1, B, n, W)
        features = []
        for name in self.groups:
            words = self.get_buffer(name)  # (G, L, W)
            repeated = words.expand(B, -1, -1, -1).flatten(0, 1)
            own = deep.unsqueeze(2).expand(-1, -1, len(words), -1, -1).flatten(1, 2)  # (J - 1, B * G, n, W)
            features.append(self.backbone.encode_prompts(repeated, own).unflatten(0, (B, -1)))
        sentences = scoring.unit(torch.cat(features, dim=1)[:, self.order])  # (B, S, D)
        return scoring.unit(
            torch.stack([state.mean(dim=1) for state in sentences.split(list(self.sentences), dim=1)], dim=1)
        )

    def _picture(
        self, patches: Tensor, logits: Tensor, whole: Tensor, text: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """Return the pictures' logits (B, 2). Args: as in AdaClipOutput, logits (B, K, 2, N). keep: (B, N) bool."""
        chosen = most_anomalous(logits, self.clusters * PATCHES_PER_CLUSTER, keep)
        taken = gathered(patches, chosen)  # (B, M, K, D)
        weights = None if keep is None else keep.gather(1, chosen).float()
        labels = k_means(taken.detach().flatten(2), self.clusters)
        return picture_logits(whole, centre(taken, labels, self.clusters, weights), text)


def dynamic(maps: nn.ModuleList, whole: Tensor) -> Tensor:
    """Return tokens made of pictures (B, n, C), by n linear maps of their features (B, D)."""
    return torch.stack([own(whole) for own in maps], dim=1)


def hybrid(maps: nn.ModuleList, whole: Tensor, static: Tensor) -> Tensor:
    """Return tokens made of pictures plus learned ones, rounded to half precision as in the published code: (J, B, n, C).

    Args:
        maps: n linear maps.
        whole: (B, D), of the pictures.
        static: (J, n, C).
    """
    return (dynamic(maps, whole) + static.unsqueeze(1)).half().float()


def most_anomalous(logits: Tensor, count: int, keep: Tensor | None = None) -> Tensor:
    """Return the numbers (B, M) of the most anomalous patches, the worst one first.

    Args:
        logits: (B, K, 2, N), of K blocks.
        count: most M.
        keep: (B, N) bool, the patches that count; others come last.
    """
    normal, anomalous = logits.mean(dim=1).unbind(dim=1)
    odds = anomalous - normal
    if keep is not None:
        odds = odds.masked_fill(~keep, -torch.inf)
    return odds.topk(min(count, odds.shape[1]), dim=1).indices


def gathered(patches: Tensor, chosen: Tensor) -> Tensor:
    """Return the chosen patches (B, M, K, D). patches: (B, K, N, D). chosen: (B, M)."""
    return patches.transpose(1, 2).gather(
        1, chosen[:, :, None, None].expand(-1, -1, patches.shape[1], patches.shape[3])
    )


def k_means(points: Tensor, clusters: int) -> Tensor:
    """Assign points (B, M, C) to clusters: (B, M) int64. No random numbers, and no host synchronisation.

    It starts from the first point, then again and again takes the one that is farthest from those taken.
    """
    M, C = points.shape[1:]
    centres = points[:, :1]
    nearest = (points - centres).square().sum(dim=2)  # (B, M)
    for _ in range(min(clusters, M) - 1):
        farthest = nearest.argmax(dim=1)
        new = points.gather(1, farthest[:, None, None].expand(-1, 1, C))
        centres = torch.cat([centres, new], dim=1)
        nearest = torch.minimum(nearest, (points - new).square().sum(dim=2))
    labels = torch.cdist(points, centres).argmin(dim=2)
    for _ in range(ITERATIONS):
        member = torch.nn.functional.one_hot(labels, centres.shape[1]).to(points)  # (B, M, k)
        count = member.sum(dim=1).unsqueeze(2)
        centres = torch.where(count > 0, member.mT @ points / count.clamp(min=1), centres)
        labels = torch.cdist(points, centres).argmin(dim=2)
    return labels


def centre(points: Tensor, labels: Tensor, clusters: int, weights: Tensor | None = None) -> Tensor:
    """Return the unit mean (B, D) of the means of all clusters, over their points and blocks.

    Args:
        points: (B, M, K, D).
        labels: (B, M), from 0.
        clusters: how many there are at most; empty ones do not count.
        weights: (B, M), of the points; default 1.
    """
    member = torch.nn.functional.one_hot(labels, clusters).to(points)  # (B, M, k)
    if weights is not None:
        member = member * weights.unsqueeze(2)
    count = member.sum(dim=1)  # (B, k)
    means = member.mT @ points.mean(dim=2) / count.unsqueeze(2).clamp(min=1)  # (B, k, D)
    return scoring.unit(means.sum(dim=1) / (count > 0).sum(dim=1, keepdim=True).clamp(min=1))


def picture_logits(whole: Tensor, suspicious: Tensor, text: Tensor) -> Tensor:
    """Return the logits (B, 2) of pictures.

    Args:
        whole: (B, D) unit, of the pictures.
        suspicious: (B, D) unit, of their most anomalous patches; see centre.
        text: (B, 2, D) unit.
    """
    fused = scoring.unit(CLUSTER_SHARE * suspicious + (1 - CLUSTER_SHARE) * whole)
    return (text @ fused.unsqueeze(2)).squeeze(2) / TEMPERATURE
