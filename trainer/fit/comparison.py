"""Fitted prompts beside those that were there before, measured on pictures that the fit was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.families import family_of
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint
from edge_agent.detectors.method import Method
from edge_agent.detectors.methods import restore
from edge_agent.errors import CheckpointError, EdgeAgentError
from trainer.data.examples import Skipped
from trainer.fit.feature_cache import cache_features
from trainer.fit.features import EncodeSettings
from trainer.fit.outputs import measure
from trainer.fit.pictures import FitPictures


@dataclass(frozen=True, slots=True)
class Comparison:
    """AUROC in percent by name, of the prompts that were there before and of the fitted ones.

    reference: what was there before. source: names the pictures.
    """

    reference: str
    source: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def is_worse(self) -> bool:
        """Whether the mean of the figures fell."""
        return float(np.mean(list(self.after.values()))) < float(np.mean(list(self.before.values())))


def reference_checkpoint(out: Path, model: str, backbone: Backbone) -> Checkpoint | None:
    """Return what a fit would replace: the checkpoint at `out`, else the prompts that come with the model; None without either.

    Args:
        out: where the fitted checkpoint will be.
        model: name of the backbone.
        backbone: the one to fit on; a checkpoint of another one is passed over.
    """
    for path in (out, family_of(model).checkpoint(model)):
        if path is None or not path.is_file():
            continue
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        if found.header["backbone_sha256"] == backbone.sha256:
            return found
    return None


def figures_of(
    method: Method, image_size: int, dtype: torch.dtype, pictures: FitPictures, skipped: list[Skipped]
) -> dict[str, float]:
    """Measure a method: AUROC of pictures and of pixels in percent.

    Args:
        method: on its backbone.
        image_size: side in pixels at which pictures are read.
        dtype: of the vision tower.
        pictures: to measure on.
        skipped: broken pictures are added to it.

    Raises EdgeAgentError when good or defective pictures are missing.
    """
    settings = EncodeSettings.of(method, image_size, image_size, dtype)
    features = cache_features(
        method.backbone, pictures.read(skipped), pictures.count, settings, key=pictures.key, skipped=skipped
    )
    if features.bad.all() or not features.bad.any():
        raise EdgeAgentError(
            f"{pictures.source}: has good or defective pictures only, so nothing can be compared: add pictures, raise --count,"
            " or give --force to do without"
        )
    figures, _ = measure(method, features)
    return figures


def compare(
    reference: Checkpoint,
    method: Method,
    image_size: int,
    dtype: torch.dtype,
    class_name: str,
    pictures: FitPictures,
    skipped: list[Skipped],
) -> Comparison:
    """Measure the prompts that were there before and the fitted ones on the same pictures.

    Args:
        reference: what was there before.
        method: the fitted one.
        image_size: side in pixels at which the fitted one reads pictures.
        dtype: of the vision tower.
        class_name: what the pictures show.
        pictures: kept apart from the fit.
        skipped: broken pictures are added to it.

    Raises EdgeAgentError when nothing can be measured on the pictures.
    """
    old = restore(method.backbone, reference.header, reference.tensors, class_name)
    with torch.no_grad():
        old.precompute()
        before = figures_of(old, int(reference.header["image_size"]), dtype, pictures, skipped)
        after = figures_of(method, image_size, dtype, pictures, [])
    return Comparison(str(reference.path), pictures.source, before, after)
