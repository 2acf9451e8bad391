"""CLIP's features meet what the two papers' own code read from it: layers, class token, value stream, resized positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.parity import vectors

BATCHES = (1, 2)


@pytest.fixture(scope="module")
def clip():
    """All four files are of one CLIP."""
    return vectors.clip(vectors.load("vip2")[1])


def features(clip, config, batch, **wanted):
    """Of both pictures, `batch` at a time: a list of ImageFeatures."""
    pictures = vectors.pictures(config)
    with torch.inference_mode():
        return [
            clip.encode_image(clip.pictures(pictures[start : start + batch], config["size"]), **wanted)
            for start in range(0, len(pictures), batch)
        ]


def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs, atol=vectors.TOLERANCE, rtol=0)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["vip2", "vip2_interp"])
def test_layers_and_class_token_meet_vip2(clip, name, batch):
    arrays, config = vectors.load(name)
    found = features(clip, config, batch, layers=config["feats"])
    close(F.normalize(torch.cat([each.globals for each in found])[:, 0], dim=-1), arrays["global"])
    step = config["strides"]["patches"][-1]  # of the numbers of each patch, some are kept
    for index, layer in enumerate(config["feats"]):
        close(torch.cat([each.layers[layer] for each in found])[..., ::step], arrays["patches"][:, index, 1:])


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["cops", "cops_k3"])
def test_value_stream_and_class_token_meet_cops(clip, name, batch):
    arrays, config = vectors.load(name)
    found = features(clip, config, batch, values=1)
    close(torch.cat([each.globals for each in found])[:, 0], arrays["global"])
    values = torch.cat([each.values for each in found]).transpose(1, 2).unflatten(2, found[0].grid)  # (B, D, h, w)
    pooled = F.avg_pool2d(values, config["k"], stride=1, padding=config["k"] // 2)
    close(pooled.flatten(2).transpose(1, 2), arrays["patches"])


def test_the_last_layer_is_the_patches(clip):
    _, config = vectors.load("vip2")
    (found,) = features(clip, config, 2, layers=[clip.depth])
    assert torch.equal(found.layers[clip.depth], found.patches)
