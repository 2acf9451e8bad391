"""What ViP2-CLIP is fitted with equals numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from edge_agent.detectors.load import Loader
from edge_agent.detectors.vip2clip import TEMPERATURE, Found, ViP2Clip
from trainer.losses import vip2clip_losses


def test_the_losses_of_vip2clip_are_what_they_are_by_hand():
    method = ViP2Clip(Loader().backbone(), layers=(1, 2), top=1)
    masks, bad = torch.tensor([[[1.0, 0.0]]]).expand(1, 1, 2), torch.ones(1)
    probability = torch.tensor([[[[0.9, 0.2]], [[0.6, 0.4]]]])  # (1, 2 layers, 1, 2)
    cosines = torch.tensor([[[[[0.1, 0.3]], [[0.2, 0.3]]], [[[0.0, 0.1]], [[0.05, 0.0]]]]])  # (1, 2, 2 states, 1, 2)
    square = Found(torch.zeros(1, 2, 256), cosines, probability.repeat(1, 1, 2, 1))
    parts = vip2clip_losses(method, square, masks.repeat(1, 2, 1), bad)

    def layer(of_bad: float, of_good: float) -> float:
        focal = -((1 - of_bad) ** 2 * math.log(of_bad) + of_good**2 * math.log(1 - of_good)) / 2
        anomalous = 1 - (2 * 2 * of_bad + 1) / (2 * (of_bad + of_good) + 2 + 1)
        normal = 1 - (2 * 2 * (1 - of_good) + 1) / (2 * (2 - of_bad - of_good) + 2 + 1)
        return focal + anomalous + normal

    assert float(parts["map"].detach()) == pytest.approx(layer(0.9, 0.2) + layer(0.6, 0.4), rel=1e-5)
    # The most anomalous patch of each layer is the first: mean cosines 0.05 (normal) and 0.125 (anomalous), one softmax.
    odds = (0.125 - 0.05) / TEMPERATURE
    assert float(parts["picture"].detach()) == pytest.approx(math.log1p(math.exp(-odds)), rel=1e-5)
