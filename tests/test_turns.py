"""Pictures are shown mirrored and turned together with their masks, and a fit counts them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edge_agent.detectors.checkpoint import load_checkpoint
from trainer.cli import main
from trainer.fit.features import LabelledPicture
from trainer.fit.pictures import FitPictures
from trainer.fit.turns import with_turns


def one(pixels: np.ndarray, mask: np.ndarray) -> FitPictures:
    return FitPictures(lambda skipped: [LabelledPicture(pixels, mask)], 1, "one", "key", list)


@pytest.mark.parametrize("ways", range(1, 9))
def test_each_way_is_another_and_the_mask_goes_with_the_picture(ways):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    chosen = with_turns(one(pixels, pixels[:, :, 0] > 128), ways)
    shown = list(chosen.read([]))
    assert (
        chosen.count == len(shown) == len({picture.pixels.tobytes() + bytes(picture.pixels.shape) for picture in shown})
    )
    for picture in shown:
        assert np.array_equal(picture.mask, picture.pixels[:, :, 0] > 128)
    assert np.array_equal(shown[0].pixels, pixels)


def test_a_fit_says_that_it_was_shown_turns(tmp_path, capfd):
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(90, 110, (64, 64, 3), np.uint8)).save(tmp_path / "good" / f"{index}.png")
    out = tmp_path / "plate.safetensors"
    words = ["fit", "--good", str(tmp_path / "good"), "--count", "8", "--turns", "4", "--epochs", "1", "--force"]
    assert main([*words, "--image-size", "64", "--out", str(out)]) == 0
    assert "fitted on 32 pictures, 4 steps" in capfd.readouterr().out
    assert str(load_checkpoint(out).header["fitted_on"]).endswith("each in 4 turns")
