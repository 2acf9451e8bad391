"""EfficientNet-Lite as a backbone: the features of timm's model with the same weights, and what it refuses."""

from __future__ import annotations

import shutil

import pytest
import torch

from edge_agent.backbones.efficientnet import family
from edge_agent.backbones.efficientnet.family import SIZES, EfficientNetFamily
from edge_agent.cli import main
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader


@pytest.mark.parametrize("name", list(SIZES))
def test_every_stage_gives_what_timms_model_of_the_same_weights_gives(name):
    timm = pytest.importorskip("timm")
    backbone = EfficientNetFamily().load(name, [])
    (file,) = EfficientNetFamily().catalog[name].shipped.glob("*.pth")
    theirs = timm.create_model(name.replace("-", "_")).eval()
    tensors = torch.load(file, weights_only=True).values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
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
