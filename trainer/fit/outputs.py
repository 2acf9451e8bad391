"""A method's outputs on the pictures of a fit, and the figures and thresholds that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from edge_agent.detectors.method import Method
from edge_agent.kernels import scoring
from trainer.evaluate.metrics import auroc, balanced_threshold, best_f1_threshold
from trainer.fit.features import FeatureBatch, Features
from trainer.io.processes import gathered

MAP_SIDE = 56  # pixels at which thresholds of maps are chosen


@torch.no_grad()
def outputs(method: Method, features: Features, size: int = 16) -> Iterator[tuple[FeatureBatch, Any]]:
    """Yield batches of features with what the method's `forward` returns for them.

    Args:
        method: in evaluation mode afterwards.
        features: of all pictures.
        size: pictures a batch; default 16.
    """
    method.eval()
    for chosen in torch.arange(len(features)).split(size):
        batch = features.batch(chosen)
        yield batch, method(batch.features)


def measure(method: Method, features: Features) -> tuple[dict[str, float], dict[str, object]]:
    """Return AUROC in percent on the pictures of all processes, and the thresholds for a checkpoint's header."""
    pictures, maps, masks, bad = [], [], [], []
    for batch, found in outputs(method, features):
        scores = method.scores(found)
        pictures.append(scores.picture.cpu())
        maps.append(scoring.heatmaps(scores.patches, MAP_SIDE, method.sigma, method.upsampling).cpu())
        masks.append(F.adaptive_avg_pool2d(batch.masks.unsqueeze(1), MAP_SIDE).squeeze(1).cpu() > 0.3)
        bad.append(batch.bad.cpu() > 0)
    defective, scored, truth, heat = (gathered(torch.cat(parts)) for parts in (bad, pictures, masks, maps))
    truth, heat = truth.ravel(), heat.ravel()
    figures = {"image_auroc": auroc(defective, scored), "pixel_auroc": auroc(truth, heat)}
    thresholds: dict[str, object] = {
        "threshold": balanced_threshold(defective, scored),
        "map_threshold": best_f1_threshold(truth, heat),
    }
    return figures, thresholds
