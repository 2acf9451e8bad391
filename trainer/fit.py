"""Fitting Tipsomaly's two learned prompts on a frozen backbone: pictures are seen once, their features kept in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.tips import Tips
from edge_agent.detectors import scoring, tipsomaly
from trainer.losses import map_loss


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """Tipsomaly's published training, section Training of its paper. image_size and map_size in pixels."""

    image_size: int = 518
    map_size: int = 518  # side at which maps meet masks
    prompt_length: int = 8
    epochs: int = 2
    batch: int = 8
    rate: float = 1e-3
    seed: int = 0


def fit_prompts(
    backbone: Tips,
    labelled: Iterable[tuple[Tensor, Tensor]],
    recipe: FitRecipe,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Tensor:
    """Learned prompts (2, S, D). labelled: batches of pictures (B, 3, H, W) in [0, 1] and masks (B, H, W) in {0, 1}."""
    kept, masks = [], []
    with torch.inference_mode():
        for x, mask in labelled:
            features = backbone.encode_image(x)
            grid = features.grid
            kept.append(scoring.unit(features.patches).half())
            masks.append(
                F.interpolate(mask.unsqueeze(1), size=(recipe.map_size,) * 2, mode="nearest").squeeze(1).half()
            )
    patches, truth = torch.cat(kept), torch.cat(masks)  # (n, N, D), (n, S, S)
    patches, truth = patches.clone(), truth.clone()  # inference tensors take no part in autograd

    draw = torch.Generator().manual_seed(recipe.seed)
    prompt = torch.nn.Parameter(0.02 * torch.randn(2, recipe.prompt_length, backbone.width, generator=draw))
    optimizer = torch.optim.Adam([prompt], recipe.rate, betas=(0.5, 0.999))
    step = 0
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(patches), generator=draw).split(recipe.batch):
            learned = tipsomaly.learned_features(backbone, prompt)
            probability = scoring.anomalous_probability(patches[chosen], learned, backbone.temperature)
            shown = scoring.stretch(probability.unflatten(1, grid), recipe.map_size)
            loss = map_loss(shown, truth[chosen].float())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            report(step, float(loss.detach()))
    return prompt.detach()
