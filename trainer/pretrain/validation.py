"""Figures of a model in training, on synthetic pictures that it was not trained on."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edge_agent.backbones.tips.model import Tips
from edge_agent.detectors import prompts
from edge_agent.kernels import scoring
from trainer.evaluate.metrics import auroc
from trainer.pretrain.batches import Batch

MAP_SIDE = 56  # pixels at which maps and masks are compared


@torch.inference_mode()
def validate(tips: Tips, batch: Batch) -> dict[str, float]:
    """Return image and pixel AUROC in percent, with the fixed prompts for "object"."""
    pair = torch.stack([scoring.state_feature(tips.encode_text(state)) for state in prompts.sentences("object")])
    maps, images = [], []
    for x in batch.x.split(64):
        features = tips.encode_image(x.to(tips.device))
        patches = scoring.anomalous_probability(features.patches, pair, tips.temperature).unflatten(1, features.grid)
        tokens = scoring.anomalous_probability(features.globals, pair, tips.temperature)
        maps.append(scoring.resize_bilinear(patches, MAP_SIDE))
        images.append((tokens[:, 1] + patches.amax(dim=(1, 2))) / 2)
    masks = F.interpolate(batch.mask.unsqueeze(1), size=(MAP_SIDE, MAP_SIDE), mode="area").squeeze(1) > 0.3
    return {
        "image_auroc": auroc(batch.mask.amax(dim=(1, 2)).numpy() > 0, torch.cat(images).cpu().numpy()),
        "pixel_auroc": auroc(masks.numpy().ravel(), torch.cat(maps).cpu().numpy().ravel()),
    }
