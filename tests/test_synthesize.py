"""Defects painted onto the user's own good pictures: on the part, as sharp as the picture, and as a set that is whole or not there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer.foreground import foreground
from trainer.synthesize import painted, softness


def disc(side: int = 240, blur: float = 0.0, noise: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """A biscuit on a tray that is dark on one side and gleams on the other, and where it lies."""
    part = np.zeros((side, side), np.uint8)
    cv2.circle(part, (side // 2, side // 2), side // 4, 255, -1, cv2.LINE_AA)
    tray = np.full((side, side, 3), 60, np.uint8)
    tray[: side // 10] = (120, 130, 150)
    tray[side // 10 : side // 5, : side // 2] = 10
    pixels = np.where(part[..., None] > 127, np.uint8((205, 160, 100)), tray).astype(np.float32)
    if blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    grain = np.random.default_rng(0).normal(0, noise, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8), part > 127


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("side", [64, 240, 1000])
def test_a_part_is_found_on_a_background_of_several_colours(side):
    pixels, part = disc(side)
    assert overlap(foreground(pixels), part) > 0.93


def test_a_shadow_is_no_part():
    pixels, part = disc()
    shade = np.roll(part, (14, 14), (0, 1)) & ~part
    pixels[shade] //= 2
    assert (foreground(pixels) & shade).sum() < 0.3 * shade.sum()


def test_where_nothing_stands_out_all_of_the_picture_is_part():
    even = np.full((90, 120, 3), 77, np.uint8)
    rough = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for pixels in (even, rough, np.repeat(rough[:, :1], 120, axis=1)):
        assert foreground(pixels).all()


def test_pictures_of_any_shape_have_a_foreground():
    for shape in ((16, 16), (16, 900), (700, 17)):
        assert foreground(np.full((*shape, 3), 9, np.uint8)).shape == shape


def test_softness_is_the_blur_of_the_edges():
    sharp, soft, softer = (softness(disc(blur=blur, noise=0)[0][..., 1]) for blur in (0.0, 2.0, 4.0))
    assert sharp < 1
    assert soft == pytest.approx(2, rel=0.25)
    assert softer == pytest.approx(4, rel=0.25)


def test_a_defect_is_no_sharper_than_a_soft_picture():
    """Blurred a little, what was painted loses little where the picture is soft, and more where it is sharp."""
    lost = {}
    for blur in (0.0, 4.0):
        pixels, _ = disc(side=400, blur=blur)
        shares = []
        for seed in range(12):
            changed, _, _ = painted(np.random.default_rng(seed), pixels, pixels)
            change = changed.astype(np.float32) - pixels
            shares.append(1 - (cv2.GaussianBlur(change, (0, 0), 1.0) ** 2).sum() / (change**2).sum())
        lost[blur] = float(np.median(shares))
    assert lost[4.0] < 0.05
    assert lost[4.0] < 0.5 * lost[0.0]


def test_defects_are_painted_on_the_part_and_their_masks_hold_what_changed():
    on = off = 0
    for seed in range(40):
        pixels, part = disc(blur=4.0 * (seed % 2))
        changed, mask, _ = painted(np.random.default_rng(seed), pixels, pixels)
        change = np.abs(changed.astype(int) - pixels).max(axis=2)
        assert changed.shape == pixels.shape
        assert changed.dtype == np.uint8
        assert mask.any()
        near = cv2.dilate(mask.view(np.uint8), np.ones((9, 9))) > 0
        assert (change[near] ** 2).sum() > 0.5 * (change**2).sum()
        on, off = on + int((mask & part).sum()), off + int((mask & ~part).sum())
    assert on > 3 * off
