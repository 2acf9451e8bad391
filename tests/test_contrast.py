"""What a patch is told of its local contrast: nothing on an even picture, most where it differs, the same in any batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edge_agent.backbones.contrast import SURROUNDINGS, Contrast, surroundings


@pytest.fixture
def told() -> Contrast:
    torch.manual_seed(0)
    return Contrast(16).eval().requires_grad_(False)


def test_an_even_picture_tells_every_patch_the_same(told):
    y, distance = told(torch.full((1, 3, 96, 64), 0.4), (6, 4))
    assert y.shape == (1, 24, 16)
    assert torch.allclose(y, y[:, :1].expand_as(y), atol=1e-5)
    assert distance.shape == (1, 24, 16)  # four cells a patch and side
    assert (distance < 0.002).all()


def test_a_spot_tells_its_own_patch_most(told):
    x = torch.full((1, 3, 96, 96), 0.4)
    even, _ = told(x, (6, 6))
    x[:, :, 36:44, 52:60] += 0.3  # within row 2, column 3
    spotted, _ = told(x, (6, 6))
    assert (spotted - even).norm(dim=2).view(6, 6).argmax() == 2 * 6 + 3


def test_distances_of_cells_are_to_a_quarter_of_the_sides_around(told):
    x = torch.full((1, 3, 224, 224), 0.4)
    x[:, :, 36:44, 52:60] += 0.3  # cells of 4 pixels: rows 9 and 10, columns 13 and 14
    x[:, :, 112:, 112:] = 0.5  # by how much this differs from what is around depends on how far around reaches
    _, distance = told(x, (14, 14))
    gray = F.avg_pool2d(x[:, :1], 4)
    around = F.interpolate(surroundings(F.avg_pool2d(gray, 4), 0.25), scale_factor=4, mode="bilinear")
    by_hand = F.avg_pool2d(
        (gray - around).abs(), 3, 1, 1, count_include_pad=False
    )  # a gray picture has lightness alone
    torch.testing.assert_close(distance, by_hand[:, 0], atol=0.002, rtol=0)
    lit = (distance[0] > 0.75 * distance.max()).nonzero()
    assert lit.min(dim=0).values.tolist() == [9, 13]
    assert lit.max(dim=0).values.tolist() == [10, 14]


@pytest.mark.parametrize("size", [(16, 16), (224, 224), (80, 160)])
def test_any_size_and_batch_gives_finite_figures_that_do_not_depend_on_the_batch(told, size):
    x = torch.rand(3, 3, *size)
    grid = (size[0] // 16, size[1] // 16)
    for together, alone in zip(told(x, grid), told(x[1:2], grid), strict=True):
        assert together.isfinite().all()
        assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("fraction", SURROUNDINGS)
def test_surroundings_of_an_even_picture_are_the_picture_up_to_its_border(fraction):
    patches = torch.full((1, 3, 5, 9), 0.7)
    assert torch.allclose(surroundings(patches, fraction), patches)
