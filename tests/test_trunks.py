"""Trunks that are fetched for a bank: the features of timm's own models with the same file, and fetching that file."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from edge_agent.backbones.families import family_of
from edge_agent.backbones.trunks.dino import Dino
from edge_agent.backbones.trunks.family import TRUNKS, WEIGHTS, TrunkFamily
from edge_agent.backbones.trunks.resnet import ResNet
from edge_agent.cli import main
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader
from tests.drilled import folder, part
from trainer.cli import main as trainer

NAME = "dinov2-s14"


def small() -> Dino:
    """As wide as NAME is, with two blocks and few positions."""
    return Dino(384, 2, grid=4)


def published(place: Path, width: int = 384) -> Path:
    """Write a file in timm's layout with the weights of such a one, and return its folder."""
    torch.manual_seed(0)
    place.mkdir()
    trunk = Dino(width, 2, grid=4)
    safetensors.torch.save_file({**trunk.state_dict(), "head.bias": torch.zeros(3)}, place / WEIGHTS)
    return place


@pytest.fixture
def small_one(monkeypatch, tmp_path) -> Path:
    """Let NAME be small, and return the folder that models are fetched into."""
    monkeypatch.setitem(TRUNKS, NAME, small)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Let every parameter and statistic of a model differ from what it does nothing with."""
    generator = torch.Generator().manual_seed(0)
    for name, one in model.state_dict().items():
        if one.is_floating_point() and one.ndim < 2:
            one.copy_(torch.rand(one.shape, generator=generator) * 0.5 + (0.5 if "bias" not in name else 0))
    return model.eval()


def test_a_resnet_gives_what_timms_gives():
    """One that is not wide, a third of the work; that the wide one has timm's shapes is held below."""
    timm = pytest.importorskip("timm")
    theirs = randomised(timm.create_model("resnet50"))
    ours = ResNet(wide=1).eval()
    ours.load_published(theirs.state_dict())
    x = torch.randn(1, 3, 64, 72, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inner = theirs.maxpool(theirs.act1(theirs.bn1(theirs.conv1(x))))
        for found, stage in zip(ours(x), (theirs.layer1, theirs.layer2, theirs.layer3), strict=True):
            inner = stage(inner)
            assert found.shape == inner.shape
            assert float((found - inner).norm() / inner.norm()) < 1e-4
    assert ours.channels == [256, 512, 1024]


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", [(70, 70), (56, 98)])
def test_dino_gives_what_timms_vit_gives(size, registers):
    timm = pytest.importorskip("timm")
    vit = timm.models.vision_transformer.VisionTransformer
    shape = {"img_size": 70, "patch_size": 14, "embed_dim": 128, "depth": 3, "num_heads": 2, "init_values": 1.0}
    more = {"reg_tokens": registers, "no_embed_class": bool(registers)}
    theirs = randomised(vit(**shape, **more, num_classes=0, dynamic_img_size=True))
    ours = Dino(128, 3, grid=5, registers=registers).eval()
    ours.load_published(theirs.state_dict())
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = theirs.get_intermediate_layers(x, n=[0, 1, 2], reshape=True, norm=True)
        for found, other in zip(ours(x), wanted, strict=True):
            torch.testing.assert_close(found, other, atol=1e-4, rtol=1e-4)
        before = ours(x)[-1]
        ours.fix_grid((size[0] // 14, size[1] // 14))
        torch.testing.assert_close(ours(x)[-1], before)


def test_the_sizes_are_timms_own():
    timm = pytest.importorskip("timm")
    for name, known in TrunkFamily.catalog.items():
        repository = known.files[0].url.split("/")[4]
        config = timm.get_pretrained_cfg(repository)
        assert config.license == known.licence.lower()
        assert config.input_size[1] == known.image_size
        with torch.device("meta"):
            theirs, ours = timm.create_model(repository.partition(".")[0]).state_dict(), TRUNKS[name]()
        assert len(theirs[known.files[0].sized]) == known.width == ours.channels[-1]
        weights = {key: one.shape for key, one in ours.named_parameters() if not key.endswith("bias")}
        assert weights == {key: theirs[key].shape for key in weights}


def test_it_is_fetched_from_a_folder_pinned_and_a_bank_is_made_on_it(small_one, tmp_path, capsys):
    assert main(["models", "fetch", NAME, "--from", str(published(tmp_path / "usb"))]) == 0
    assert WEIGHTS in (small_one / NAME / "SHA256SUMS").read_text()
    main(["models"])
    assert str(small_one / NAME) in capsys.readouterr().out
    good = folder(tmp_path / "good", [part(0), part(1)])
    bank = ["bank", "--good", str(good), "--method", "patchcore", "--model", NAME, "--image-size", "56"]
    assert trainer([*bank, "--out", str(tmp_path / "bank.safetensors")]) == 0
    detector = Loader().detector(NAME, tmp_path / "bank.safetensors")
    shown, other = detector.read([part(0), part(9)[::-1, :, ::-1].copy()])
    assert shown.score < other.score


def test_without_its_file_it_says_how_to_get_it(small_one, tmp_path):
    with pytest.raises(CheckpointError, match=f"edge-agent models fetch {NAME}"):
        family_of(NAME).load(NAME, [small_one])
    small_one.mkdir()
    published(small_one / NAME)
    with pytest.raises(CheckpointError, match=r"put there by hand and is not pinned: .* --from"):
        family_of(NAME).load(NAME, [small_one])
    assert main(["models", "fetch", NAME, "--from", str(small_one / NAME)]) == 0
    family_of(NAME).load(NAME, [small_one])
    with (small_one / NAME / WEIGHTS).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or was replaced"):
        family_of(NAME).load(NAME, [small_one])


def test_a_file_of_another_width_or_kind_is_refused(small_one, tmp_path, capsys):
    assert main(["models", "fetch", NAME, "--from", str(published(tmp_path / "other", width=128))]) == 1
    assert f"its width is 128, that of {NAME} is 384" in capsys.readouterr().err
    (tmp_path / "pickle").mkdir()
    torch.save({"norm.weight": torch.zeros(384)}, tmp_path / "pickle" / WEIGHTS)
    assert main(["models", "fetch", NAME, "--from", str(tmp_path / "pickle")]) == 1
    assert "it has no array norm.weight" in capsys.readouterr().err
    (tmp_path / "part").mkdir()
    safetensors.torch.save_file({"norm.weight": torch.zeros(384)}, tmp_path / "part" / WEIGHTS)
    assert main(["models", "fetch", NAME, "--from", str(tmp_path / "part")]) == 0
    with pytest.raises(CheckpointError, match="does not hold dinov2-s14"):
        family_of(NAME).load(NAME, [small_one])


def test_random_weights_have_the_published_shapes():
    backbone = TrunkFamily().random("wide-resnet50")
    features = backbone.encode_image(torch.zeros(1, 3, 64, 96), (2, 3))
    assert features.grid == (8, 12)
    assert [one.shape for one in features.layers.values()] == [(1, 96, 512), (1, 96, 1024)]
