"""Shared by the tests of methods with image-conditioned prompts: pictures, features, truth, and common checks."""

from __future__ import annotations

import dataclasses
import json
from typing import TypeVar

import numpy as np
import pytest
import torch

from edge_agent.backbones.backbone import ImageFeatures
from edge_agent.detectors.method import Method
from edge_agent.inference.detector import PromptDetector
from trainer import synthesis

SIDE = 96  # pixels
M = TypeVar("M", bound=Method)


def procedural(count: int) -> list[synthesis.Sample]:
    """Procedural pictures, half of them with a defect."""
    return [synthesis.sample(np.random.default_rng([3, number]), SIDE) for number in range(count)]


def spread_out(method: M) -> M:
    """Scale the method's weights so that its text features are far enough apart to tell patches from each other."""
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(4)
    return method.eval()


def seen(method: Method, shown) -> ImageFeatures:
    backbone = method.backbone
    with torch.no_grad():
        x = backbone.pictures([one.pixels for one in shown], SIDE)
        return backbone.encode_image(x, method.layers, values=method.values)


def rows(features: ImageFeatures, chosen: slice) -> ImageFeatures:
    return dataclasses.replace(
        features,
        globals=features.globals[chosen],
        patches=features.patches[chosen],
        layers={number: layer[chosen] for number, layer in features.layers.items()},
        values=None if features.values is None else features.values[chosen],
    )


def truth(shown) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (B, S, S) and which pictures are bad (B,)."""
    masks = torch.from_numpy(np.stack([one.mask for one in shown])).float()
    return masks, masks.amax(dim=(1, 2))


def header(method: Method) -> dict:
    """Return a checkpoint's header, through JSON and back."""
    told = {
        "method": method.name,
        "backbone": method.backbone.name,
        "backbone_sha256": method.backbone.sha256,
        "image_size": SIDE,
        "fitted_on": "nothing",
        "threshold": 0.5,
        "map_threshold": 0.5,
        **method.settings(),
    }
    return json.loads(json.dumps(told))


def assert_gradients_reach_all_but_the_backbone(method: Method, parts: dict[str, torch.Tensor]) -> None:
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in method.backbone.parameters())


def assert_reads_pictures_of_any_size(detector: PromptDetector) -> None:
    images = [np.zeros((50, 70, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (120, 33, 3), np.uint8)]
    keep = np.zeros((10, 10), bool)
    keep[:, :5] = True
    whole, masked = detector.read(images), detector.read(images, [None, keep])
    for reading in (*whole, *masked):
        assert 0 <= reading.score <= 1
        assert reading.heatmap.shape == (SIDE, SIDE)
    assert masked[0].score == pytest.approx(whole[0].score, abs=1e-6)
    assert not masked[1].heatmap[:, SIDE // 2 + 1 :].any()
