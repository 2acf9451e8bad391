"""Makes the checkpoint of a bank from pictures of good parts, and one bank besides for each fold of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.patchcore import PatchCore, default_layers, score_of
from edge_agent.inference.aligned import HEADER, TENSOR
from edge_agent.inference.thread_batches import read_in_threads
from edge_agent.kernels.cells import Cells
from trainer.bank.align import aligned_pictures
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import SPREAD, Described, described, fold_of, nearer, scale
from trainer.bank.good_picture import GoodPicture
from trainer.bank.kinds import kinds_of
from trainer.bank.other_things import NEXT_PART, other_things

SIZE = 3000  # rows of a bank: more brought less than half a point of image AUROC


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """A bank of good parts.

    checkpoint: of all pictures. folds: one for each fold, made without its pictures; scores are as the whole bank would give
    them, which lies nearer (see nearer). fold: of each picture. spread: see exceeded_score. expected: score and highest value
    of the map that another good part should have, where a single one was shown and tells neither; else None.
    kinds: numbers of the pictures, by kind; see kinds_of.
    """

    checkpoint: Checkpoint
    folds: Sequence[Checkpoint]
    fold: Sequence[int]
    spread: float = SPREAD
    expected: tuple[float, float] | None = None
    kinds: Sequence[Sequence[int]] = ()


def make_bank(
    backbone: Backbone,
    pictures: Sequence[GoodPicture],
    *,
    image_size: int | None = None,
    size: int = SIZE,
    align: bool = False,
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> Bank:
    """Make a bank from pictures of good parts.

    Args:
        backbone: whose features are compared.
        pictures: at least one. With a single one, how far the next lies follows from how far other things do.
        image_size: side in pixels at which pictures are read; default that of the backbone.
        size: rows of the bank at most; default 3000.
        align: move each part to where it lies in one of the pictures before it is looked at, here and later.
        seed: decides the subset; the same pictures and seed give the same bytes.
        report: called with 1 for every picture; default nothing.

    Raises EdgeAgentError for parts that cannot be aligned.
    """
    reference, pictures = aligned_pictures(pictures) if align else (None, pictures)
    layers, side = default_layers(backbone), image_size or backbone.image_size

    def look(part: slice) -> list[Described]:
        found = []
        for one in pictures[part]:
            found.append(described(backbone, one.decode(), side, layers))
            report(1)
        return found

    good = read_in_threads(look, len(pictures), large=True)
    fold = fold_of(len(good))
    asked = list(zip(good, fold, strict=True))
    if len(good) == 1:
        asked = [(described(backbone, pixels, side, layers), 0) for pixels in other_things()]
    # Each fold is compared with the others; with a single picture, other things are compared with it.
    shown = [[at for at in range(len(good)) if fold[at] != left] or [0] for left in range(max(fold) + 1)]
    subsets = [*shown, list(range(len(good)))] if len(good) > 1 else shown

    def choose(part: slice) -> list[Tensor]:
        return [coreset(torch.cat([good[at].rows for at in some]), size, seed) for some in subsets[part]]

    banks = read_in_threads(choose, len(subsets), large=True)
    share = [nearer(len(some), len(good)) for some in shown]
    cells = [Cells(bank.float()) for bank in banks[: len(shown)]]

    def compare(part: slice) -> list[list[float]]:
        return [[share[at] * one for one in picture.distances(cells[at])] for picture, at in asked[part]]

    distances = read_in_threads(compare, len(asked), large=True)
    if len(good) == 1:
        distances = [[NEXT_PART * float(one) for one in np.median(distances, axis=0)]]
    whole, highest = (scale(each) for each in zip(*distances, strict=True))

    def checkpoint(bank: Tensor, some: Sequence[int], share: float) -> Checkpoint:
        method = PatchCore(backbone, bank, layers, scale=whole / share, patch_scale=highest / share)
        header = {
            "method": PatchCore.name,
            "backbone": backbone.name,
            "backbone_sha256": backbone.sha256,
            "image_size": side,
            "fitted_on": f"{len(some)} pictures of good parts",
            "good": [{"name": pictures[at].name, "sha256": pictures[at].sha256} for at in some],
            "size": size,
            "seed": seed,
            "threshold": 0.5,
            "map_threshold": 0.5,
        }
        if reference:
            header[HEADER] = {"least_fit": reference.least_fit}
        shown = {TENSOR: torch.from_numpy(reference.gray)} if reference else {}
        return Checkpoint(header | method.settings(), method.tensors() | shown)

    folds = [checkpoint(*one) for one in zip(banks[: len(shown)], shown, share, strict=True)]
    if len(good) == 1:
        (picture, patch) = distances[0]
        return Bank(folds[0], folds, fold, expected=(score_of(picture / whole), score_of(patch / highest)))
    kinds = kinds_of(np.stack([one.rows.float().mean(dim=0).numpy() for one in good]))
    return Bank(checkpoint(banks[-1], subsets[-1], 1.0), folds, fold, kinds=kinds)
