"""Makes checkpoints with a memory of a few good pictures, for any method that can be shown some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.checkpoint import Checkpoint, unfitted_checkpoint
from edge_agent.detectors.memory import FewShotMethod
from edge_agent.detectors.methods import METHODS, few_shot_methods, restore
from edge_agent.detectors.patchcore import PatchCore
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.squares import SquaresDetector, squares
from trainer.bank.bank import SIZE, Bank, make_bank
from trainer.bank.good_parts import BEYOND_SCALE, exceeded_score, fold_of, varied
from trainer.bank.good_picture import GoodPicture

MOST_SHOWN = 32  # pictures: a memory keeps every patch of each, up to 34 MB
# Of the log odds of good parts' scores, expected beforehand: these methods' scores grow with the distance itself, and a bank's
# with its fourth power. WinCLIP+ with the embedded model gave 0.14 on six good hazelnuts.
SPREAD_SHOWN = 0.15
AGAIN = 4  # varied copies that stand for other good parts where there is one


def bank_maker(
    method: str,
    base: Checkpoint | None,
    backbone: Backbone,
    *,
    class_name: str = "object",
    image_size: int | None = None,
    size: int | None = None,
    align: bool = False,
    seed: int = 0,
) -> Callable[..., Bank]:
    """Return what makes a bank or a memory of good pictures.

    Args:
        method: one that compares with good parts.
        base: the fitted checkpoint that the memory is added to; None for a method that needs none.
        backbone: that the pictures are read with.
        class_name: what they show.
        image_size: side in pixels at which they are read; default that of `base`, or the backbone's.
        size: patches that a bank holds at most; default SIZE.
        align: see make_bank.
        seed: of a bank's subset.

    Raises EdgeAgentError for a method that cannot be shown good parts, that needs a checkpoint first, or that keeps every patch
    where a size is given.
    """
    entry = METHODS[method]
    if method not in few_shot_methods():
        raise EdgeAgentError(f"{method} does not compare with good parts; {' and '.join(few_shot_methods())} do")
    if base is None and entry.fitted and not entry.from_good_parts:
        raise EdgeAgentError(
            f"{method} needs a fitted checkpoint first: `trainer fit --method {method}`, then --checkpoint FILE"
        )
    if method == PatchCore.name:
        return partial(make_bank, backbone, image_size=image_size, size=size or SIZE, align=align, seed=seed)
    if align:
        raise EdgeAgentError(f"--align is for a bank ({PatchCore.name}), not for a memory of {method}: leave it out")
    if size is not None:
        raise EdgeAgentError(
            f"--size is that of a bank ({PatchCore.name}); a memory of {method} keeps every patch: leave it out"
        )
    return partial(
        make_memory,
        base or unfitted_checkpoint(method, backbone),
        backbone,
        class_name=class_name,
        image_size=image_size,
    )


def make_memory(
    base: Checkpoint,
    backbone: Backbone,
    pictures: Sequence[GoodPicture],
    *,
    class_name: str = "object",
    image_size: int | None = None,
    report: Callable[[int], object] = lambda n: None,
) -> Bank:
    """Add a memory of good pictures to a checkpoint. Its thresholds are what 1 in 100 good parts is estimated to exceed.

    Args:
        base: of a method that can be shown good pictures; a memory that it has is replaced.
        backbone: the one that it was fitted on.
        pictures: at least one. With a single one, varied copies of it stand for other good parts.
        class_name: what they show.
        image_size: side in pixels at which they are read; default that of `base`.
        report: called with 1 for every picture; default nothing.

    Raises EdgeAgentError for more pictures than a memory can hold.
    """
    if len(pictures) > MOST_SHOWN:
        raise EdgeAgentError(
            f"{len(pictures)} pictures are more than the {MOST_SHOWN} that a memory holds: give fewer, or make a bank, which"
            " keeps a subset: `trainer station`"
        )
    side = image_size or int(base.header["image_size"])
    base.require_backbone(backbone.name, backbone.sha256)
    with torch.inference_mode():
        method = restore(backbone, base.header, base.tensors, class_name).eval()
        assert isinstance(method, FewShotMethod), method.name
        good = []
        for one in pictures:
            good.append(_described(method, one.decode(), side))
            report(1)
    fold = fold_of(len(good))

    def checkpoint(some: Sequence[int], thresholds: dict[str, float]) -> Checkpoint:
        method.show([good[at] for at in some])
        header = {
            **base.header,
            "image_size": side,
            "class_name": class_name,
            "good": [{"name": pictures[at].name, "sha256": pictures[at].sha256} for at in some],
            **thresholds,
        }
        return Checkpoint(header, method.tensors())

    # Each fold is read with the others; a single picture with itself.
    shown = [[at for at in range(len(good)) if fold[at] != left] or [0] for left in range(max(fold) + 1)]
    folds = [checkpoint(some, {}) for some in shown]
    readers = [SquaresDetector(PromptDetector(backbone, one, class_name)) for one in folds]
    asked = [(at, one.decode()) for at, one in enumerate(pictures)]
    if len(good) == 1:
        asked = [(0, varied(asked[0][1], number)) for number in range(AGAIN)]
    read = [readers[fold[at]].read([pixels])[0] for at, pixels in asked]
    thresholds = {
        "threshold": exceeded_score(BEYOND_SCALE, np.array([one.score for one in read]), SPREAD_SHOWN),
        "map_threshold": exceeded_score(BEYOND_SCALE, np.array([one.heatmap.max() for one in read]), SPREAD_SHOWN),
    }
    return Bank(checkpoint(range(len(good)), thresholds), folds, fold, SPREAD_SHOWN)


def _described(method: FewShotMethod, pixels: np.ndarray, side: int) -> list[Tensor]:
    """Describe a picture, an elongated one in squares: the method's sets, fp16 on the CPU."""
    views = [pixels[top:bottom, left:right] for top, bottom, left, right in squares(pixels.shape)]
    sets = method.describe(method.encode(method.backbone.pictures(views, side)))
    return [one.half().cpu() for one in sets]
