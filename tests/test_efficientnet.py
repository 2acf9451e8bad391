"""EfficientNet-Lite as a backbone: the features of timm's model with the same weights, and what it refuses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from edge_agent.backbones.efficientnet import family
from edge_agent.backbones.efficientnet.family import SIZES, EfficientNetFamily
from edge_agent.cli import main
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader


@pytest.mark.parametrize("name", list(SIZES))
def test_every_stage_gives_what_timms_model_with_tensorflows_padding_gives(name):
    timm = pytest.importorskip("timm")
    backbone = EfficientNetFamily().load(name, [])
    (file,) = EfficientNetFamily().catalog[name].shipped.glob("*.pth")
    theirs = timm.create_model(f"tf_{name}".replace("-", "_")).eval()
    tensors = torch.load(file, weights_only=True).values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    x = torch.randn(
        1, 3, 64, 72, generator=torch.Generator().manual_seed(0)
    )  # stage 6 has an odd number of columns to halve
    with torch.inference_mode():
        outputs = []
        inner = theirs.bn1(theirs.conv_stem(x))
        for block in theirs.blocks:
            inner = block(inner)
            outputs.append(inner)
        ours = backbone.trunk(x)
    for one, other in zip(ours, outputs, strict=False):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 2e-4


def test_features_of_all_stages_lie_on_the_grid_of_8_pixels():
    backbone = EfficientNetFamily().random("efficientnet-lite0")
    features = backbone.encode_image(torch.zeros(2, 3, 64, 96), (3, 4, 6))
    assert features.grid == (8, 12)
    assert [one.shape for one in features.layers.values()] == [(2, 96, 40), (2, 96, 80), (2, 96, 192)]


def test_it_is_listed_as_installed(capsys):
    assert main(["models"]) == 0
    assert "efficientnet-lite2" in capsys.readouterr().out


def test_without_a_bank_it_says_how_one_is_made():
    with pytest.raises(CheckpointError, match="name a checkpoint"):
        Loader().detector("efficientnet-lite0")
    with pytest.raises(CheckpointError, match="trainer station --good FOLDER"):
        Loader().detector("efficientnet-lite0", method="clip")


def test_damaged_weights_are_refused_with_the_remedy(tmp_path, monkeypatch):
    known = EfficientNetFamily().catalog["efficientnet-lite0"]
    (file,) = known.shipped.glob("*.pth")
    shutil.copy(file, tmp_path / "weights.pth")
    with (tmp_path / "weights.pth").open("r+b") as damaged:
        damaged.write(b"zero")
    monkeypatch.setattr(family, "_folder", lambda name: tmp_path)
    with pytest.raises(CheckpointError, match=r"weights\.pth: is damaged.*pip install --force-reinstall"):
        EfficientNetFamily().load("efficientnet-lite0", [])
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(CheckpointError, match=r"not installed: `pip install"):
        EfficientNetFamily().load("efficientnet-lite0", [])


@pytest.mark.parametrize("layer", [3, 4, 6])
def test_a_spot_is_found_where_it_is(layer):
    """What changes most when a spot moves into the picture lies around the spot, neither above nor beside it."""
    backbone = Loader().backbone("efficientnet-lite0", "cpu")
    plain = np.full((224, 224, 3), 128, np.uint8)
    plain[::8] = 140
    centres = []
    for row, column in ((60, 150), (115, 116), (170, 70)):
        spotted = plain.copy()
        spotted[row - 6 : row + 6, column - 6 : column + 6] = 10
        with torch.inference_mode():
            features = backbone.encode_image(backbone.pictures([plain, spotted], 224), (layer,))
        one, other = features.layers[layer].unflatten(1, features.grid)
        change = (one - other).square().sum(dim=2).numpy()
        place = (np.arange(28) + 0.5) * 8
        found = np.array([change.sum(axis=1) @ place, change.sum(axis=0) @ place]) / change.sum()
        centres.append(found - (row, column))
    assert np.abs(np.mean(centres, axis=0)).max() < 4
