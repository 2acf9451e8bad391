"""Makes the checkpoint of a bank from pictures of good parts, and one bank besides for each fold of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.patchcore import PatchCore, default_layers
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import Described, described, fold_of, scale, varied

SIZE = 3000  # rows of a bank: more brought less than half a point of image AUROC


@dataclass(frozen=True, slots=True)
class GoodPicture:
    """One picture of a good part: its file's name and SHA-256 (hex), and what decodes it to (H, W, 3) uint8 RGB."""

    name: str
    sha256: str
    decode: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """A bank of good parts.

    checkpoint: of all pictures. folds: one for each fold, made without its pictures, on the same scale. fold: of each picture.
    """

    checkpoint: Checkpoint
    folds: Sequence[Checkpoint]
    fold: Sequence[int]


def make_bank(
    backbone: Backbone,
    pictures: Sequence[GoodPicture],
    *,
    image_size: int | None = None,
    size: int = SIZE,
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> Bank:
    """Make a bank from pictures of good parts.

    Args:
        backbone: whose features are compared.
        pictures: at least one. With a single one, a varied copy of it stands for a second good part.
        image_size: side in pixels at which pictures are read; default that of the backbone.
        size: rows of the bank at most; default 3000.
        seed: decides the subset; the same pictures and seed give the same bytes.
        report: called with 1 for every picture; default nothing.
    """
    layers, side = default_layers(backbone), image_size or backbone.image_size
    good: list[Described] = []
    for one in pictures:
        good.append(described(backbone, one.decode(), side, layers))
        report(1)
    fold = fold_of(len(good))
    if len(good) == 1:
        banks = [coreset(good[0].rows, size, seed)]
        asked = [described(backbone, varied(pictures[0].decode(), number), side, layers) for number in range(4)]
        distances = [one.distances(banks[0].float()) for one in asked]
    else:
        banks = [
            _of(good, [at for at in range(len(good)) if fold[at] != left], size, seed) for left in range(max(fold) + 1)
        ]
        distances = [one.distances(banks[fold[at]].float()) for at, one in enumerate(good)]
    whole, highest = (scale(each) for each in zip(*distances, strict=True))

    def checkpoint(bank: Tensor, shown: Sequence[GoodPicture]) -> Checkpoint:
        method = PatchCore(backbone, bank, layers, scale=whole, patch_scale=highest)
        header = {
            "method": PatchCore.name,
            "backbone": backbone.name,
            "backbone_sha256": backbone.sha256,
            "image_size": side,
            "fitted_on": f"{len(shown)} pictures of good parts",
            "good": [{"name": one.name, "sha256": one.sha256} for one in shown],
            "seed": seed,
            "threshold": 0.5,
            "map_threshold": 0.5,
        }
        return Checkpoint(header | method.settings(), method.tensors())

    folds = [
        checkpoint(bank, [one for at, one in enumerate(pictures) if fold[at] != left or len(pictures) == 1])
        for left, bank in enumerate(banks)
    ]
    every = folds[0] if len(good) == 1 else checkpoint(_of(good, range(len(good)), size, seed), pictures)
    return Bank(every, folds, fold)


def _of(good: Sequence[Described], shown: Sequence[int], size: int, seed: int) -> Tensor:
    return coreset(torch.cat([good[at].rows for at in shown]), size, seed)
