"""TIPS backbones load from their files alone, every variant, and say clearly when they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.backbones.tips import model
from edge_agent.errors import CheckpointError
from tests.parity import vectors
from trainer.pretrain.vocabulary import train_vocabulary

OFFICIAL = {  # width, depth, MLP width, SwiGLU, text layers
    "S": (384, 12, 1536, False, 12),
    "B": (768, 12, 3072, False, 12),
    "L": (1024, 24, 4096, False, 12),
    "So400m": (1152, 27, 4304, False, 27),
    "g": (1536, 40, 4096, True, 12),
}


class Shapes(dict):
    """Arrays by shape alone, without the memory of the large variants."""

    def add(self, name: str, *shape: int) -> None:
        self[name] = np.broadcast_to(np.zeros((), np.float16), shape)


def official_vision(width: int, depth: int, hidden: int, swiglu: bool) -> Shapes:
    arrays = Shapes()
    arrays.add("cls_token", 1, 1, width)
    arrays.add("register_tokens", 1, 1, width)
    arrays.add("pos_embed", 1, 1 + 32 * 32, width)
    arrays.add("mask_token", 1, width)
    arrays.add("patch_embed.proj.weight", width, 3, 14, 14)
    arrays.add("patch_embed.proj.bias", width)
    for block in (f"blocks.{index}." for index in range(depth)):
        first, second = ("mlp.w12", "mlp.w3") if swiglu else ("mlp.fc1", "mlp.fc2")
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), second: (width, hidden)}
        linear[first] = ((1 + swiglu) * hidden, width)
        for name, (outputs, inputs) in linear.items():
            arrays.add(block + name + ".weight", outputs, inputs)
            arrays.add(block + name + ".bias", outputs)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            arrays.add(block + name, width)
    arrays.add("norm.weight", width)
    arrays.add("norm.bias", width)
    return arrays


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A small backbone in three official files, in half precision as they may be stored."""
    folder = tmp_path_factory.mktemp("small")
    config = vectors.load("tips_mlp")[1]
    np.savez(folder / "vision.npz", **{k: v.astype(np.float16) for k, v in vectors.tips_vision_arrays(config).items()})
    np.savez(folder / "text.npz", **vectors.tips_text_arrays(config))
    (folder / "tokenizer.model").write_bytes(train_vocabulary(["a photo of a metal plate"], ["plate"], 150))
    return folder


def load(folder: Path, **options: bool) -> model.Tips:
    return model.load_tips(folder / "vision.npz", folder / "text.npz", folder / "tokenizer.model", "small", **options)


@pytest.mark.parametrize("variant", OFFICIAL)
def test_every_official_variant_is_known_by_its_shapes(variant):
    width, depth, hidden, swiglu, _ = OFFICIAL[variant]
    arrays = official_vision(width, depth, hidden, swiglu)
    shape = model.infer_vision_shape(arrays, Path("vision.npz"))
    assert shape == model.VisionShape(width, depth, hidden, 32, 14, swiglu)
    assert width // shape.heads == (72 if variant == "So400m" else 64)


@pytest.mark.parametrize("variant", ["S", "B"])
def test_every_array_of_an_official_file_has_its_place_in_the_tower(variant):
    arrays = {
        name: np.zeros(value.shape, np.float16) for name, value in official_vision(*OFFICIAL[variant][:4]).items()
    }
    shape = model.infer_vision_shape(arrays, Path("vision.npz"))
    with torch.device("meta"):
        tower = model.VisionTower(shape)
    tower.load_state_dict(model.vision_from_official(arrays, shape), strict=True, assign=True)
    assert (
        sum(value.size for value in arrays.values()) == tower_size(tower) + 2 * shape.width
    )  # mask token, first position


def tower_size(tower: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def test_a_saved_backbone_is_the_same_backbone(files, tmp_path):
    before = load(files)
    vision, text = model.to_official(before)
    np.savez(tmp_path / "vision.npz", **vision)
    np.savez(tmp_path / "text.npz", **text)
    (tmp_path / "tokenizer.model").write_bytes((files / "tokenizer.model").read_bytes())
    after = load(tmp_path)
    x = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(after.encode_image(x).patches, before.encode_image(x).patches, atol=5e-3, rtol=0)
    sentence = ["a bad photo of a damaged plate."]
    torch.testing.assert_close(after.encode_text(sentence), before.encode_text(sentence), atol=5e-3, rtol=0)
    assert after.temperature == pytest.approx(before.temperature)


def test_a_convolutional_stem_is_one_more_variant_of_the_file(tmp_path):
    shape = model.VisionShape(64, 1, 256, 4, 16, False, (8, 8, 16, 32, 64))
    backbone = model.Tips(model.VisionTower(shape), model.TextTower(model.TextShape(64, 1, 256, 50)), None, 0.1, "stem")
    vision, _ = model.to_official(backbone.eval())
    assert model.infer_vision_shape(vision, Path("vision.npz")) == shape
    again = model.VisionTower(shape)
    again.load_state_dict(model.vision_from_official(vision, shape))
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs, ours = backbone.encode_image(x), again.eval()(x)
    assert ours.grid == (4, 6)
    torch.testing.assert_close(ours.patches, theirs.patches, atol=2e-2, rtol=0)


def test_pictures_alone_need_no_text_tower(files):
    lean = load(files, with_text=False)
    assert lean.text is None
    assert lean.temperature == pytest.approx(load(files).temperature)
    assert lean.sha256 == load(files).sha256


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "pickle", "another", "incomplete"])
def test_a_damaged_vision_file_is_named_with_a_remedy(files, tmp_path, damage):
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    vision = tmp_path / "vision.npz"
    whole = vision.read_bytes()
    if damage == "missing":
        vision.unlink()
    elif damage == "pickle":
        np.savez(vision, weights=np.array([{"an": "object"}], dtype=object))
    elif damage == "another":
        vision.write_bytes((tmp_path / "text.npz").read_bytes())
    elif damage == "incomplete":
        arrays = vectors.tips_vision_arrays(vectors.load("tips_mlp")[1])
        del arrays["blocks.2.attn.qkv.bias"]
        np.savez(vision, **arrays)
    else:
        vision.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not weights"}[damage])
    with pytest.raises(CheckpointError) as error:
        load(tmp_path)
    assert "vision.npz" in str(error.value)


def test_towers_of_different_models_are_refused(files, tmp_path):
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = vectors.load("tips_mlp")[1] | {"tdim": 64, "tmlp": 256}
    np.savez(tmp_path / "text.npz", **vectors.tips_text_arrays(config))
    with pytest.raises(CheckpointError, match=r"128 wide.*64"):
        load(tmp_path)


def test_a_file_that_is_no_vocabulary_is_named(files, tmp_path):
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        load(tmp_path)


def test_sentences_are_lower_cased_padded_with_zeros_and_cut_at_64(files):
    tokenizer = load(files).tokenizer
    ids, paddings = tokenizer(["A Photo", "a photo", "plate " * 200])
    assert ids.shape == (3, 64)
    assert torch.equal(ids[0], ids[1])
    assert (ids[paddings.bool()] == 0).all()
    assert paddings[2].sum() == 0
