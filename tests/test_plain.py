"""Plain prompts and WinCLIP: nothing fitted, windows that see only themselves, harmonic means, no checkpoint to name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_agent.backbones import windows
from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.detectors.checkpoint import unfitted_checkpoint
from edge_agent.detectors.plain import Plain
from edge_agent.detectors.winclip import (
    ANOMALOUS,
    NORMAL,
    SIDES,
    TEMPLATES,
    WinClip,
    WindowFeatures,
    harmonic,
    windows_to_patches,
)
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from tests.made import gradient
from tests.parity import vectors
from tests.tiny_clip import tiny_clip
from trainer.cli import main
from trainer.evaluate.record import read_evaluation

NAMES = ("clip", "winclip")
PICTURES = [gradient(60 + 10 * seed, 90, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(params=["embedded", "clip"])
def backbone(request):
    return request.getfixturevalue("loader").backbone() if request.param == "embedded" else tiny_clip()


@pytest.fixture(scope="module")
def tower():
    """An official TIPS vision tower, in small: what it sees of a patch is that patch alone."""
    return vectors.towers(vectors.load("tips_mlp")[1])[0]


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def detector(name: str, backbone, size: int = 64) -> PromptDetector:
    return PromptDetector(backbone, unfitted_checkpoint(name, backbone), "metal_plate", image_size=size)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


# What they say of pictures


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_maps_are_in_their_range_and_differ_from_picture_to_picture(name, backbone):
    readings = detector(name, backbone).read(PICTURES)
    assert len({reading.score for reading in readings}) == len(PICTURES)
    for reading in readings:
        assert 0 <= reading.score <= 1
        assert reading.heatmap.shape == (64, 64)
        assert 0 <= reading.heatmap.min() < reading.heatmap.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_pictures_give_alone(name, backbone):
    one = detector(name, backbone)
    for picture, together in zip(PICTURES, one.read(PICTURES), strict=True):
        (alone,) = one.read([picture])
        assert alone.score == pytest.approx(together.score, abs=1e-5)
        np.testing.assert_allclose(alone.heatmap, together.heatmap, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_masked_out_is_not_shown(name, clip):
    keep = np.ones((64, 64), bool)
    keep[:32] = False
    (whole,), (masked,) = (detector(name, clip).read(PICTURES[:1], one) for one in (None, [keep]))
    assert not masked.heatmap[:32].any()
    assert masked.heatmap[32:].any()
    assert masked.score == whole.score  # the whole picture's, as published


@pytest.mark.parametrize("name", NAMES)
def test_the_class_name_is_in_what_pictures_are_compared_with(name, clip):
    assert (Plain if name == "clip" else WinClip)(clip, "metal_plate").text.shape == (2, clip.width)
    (plate,) = detector(name, clip).read(PICTURES[:1])
    (nut,) = PromptDetector(clip, unfitted_checkpoint(name, clip), "nut", image_size=64).read(PICTURES[:1])
    assert plate.score != nut.score


def test_winclips_sentences_are_every_state_in_every_template():
    for states, sentences in zip((NORMAL, ANOMALOUS), WinClip.sentences, strict=True):
        assert len(set(sentences)) == len(states) * len(TEMPLATES)
        assert all(sentence.count("{}") == 1 for sentence in sentences)
    assert not set(WinClip.sentences[0]) & set(WinClip.sentences[1])


def test_plain_clip_compares_with_what_clips_own_call_gives(clip):
    x = clip.pictures(PICTURES, clip.image_size)
    close(clip.encode_image(x).image, clip.model.visual(x))


# Windows


def test_a_window_as_large_as_the_picture_is_the_picture(backbone):
    x = backbone.pictures(PICTURES, 64)
    features = backbone.encode_image(x)
    found = backbone.encode_windows(x, features.grid[0])
    assert found.shape == (3, 1, 1, backbone.width)
    close(found[:, 0, 0], features.image)


def test_a_window_of_an_official_tower_as_large_as_the_picture_is_the_picture(tower):
    x = torch.rand(2, 3, 56, 56)
    close(tower.windows(x, 4)[:, 0, 0], tower(x).image)


def test_a_window_is_the_encoding_of_its_tokens_with_all_others_masked(clip):
    x = clip.pictures(PICTURES, 40)  # 5 x 5 patches
    tokens, (h, w) = clip._embed(x)
    for side in SIDES:
        found = clip.encode_windows(x, side)
        assert found.shape == (3, h - side + 1, w - side + 1, clip.width)
        for row, column in ((0, 0), (1, 2), (h - side, w - side)):
            inside = torch.zeros(h, w, dtype=torch.bool)
            inside[row : row + side, column : column + side] = True
            seen = torch.cat([torch.ones(1, dtype=torch.bool), inside.flatten()])
            mask = torch.zeros(len(seen), len(seen)).masked_fill(~seen, -torch.inf)
            own = tokens
            for block in clip.model.visual.transformer.resblocks:
                own = block(own, attn_mask=mask)
            visual = clip.model.visual
            close(found[:, row, column], visual.ln_post(own[:, 0]) @ visual.proj)


def test_what_lies_outside_a_window_changes_nothing_in_it(tower):
    x = torch.rand(1, 3, 70, 70)
    y = torch.rand(1, 3, 70, 70)
    y[:, :, 14:42, 28:56] = x[:, :, 14:42, 28:56]  # two patches by two, from the second row and third column on
    before, after = tower.windows(x, 2), tower.windows(y, 2)
    torch.testing.assert_close(after[:, 1, 2], before[:, 1, 2])
    assert (after - before).abs().amax(dim=3).flatten().kthvalue(2).values > 1e-3  # and all others are others


def test_windows_are_the_same_in_however_many_runs(clip, monkeypatch):
    x = clip.pictures(PICTURES, 40)
    expected = clip.encode_windows(x, 2)
    monkeypatch.setattr(windows, "WINDOWS_PER_RUN", 7)
    close(clip.encode_windows(x, 2), expected)


def test_a_patch_is_the_harmonic_mean_of_the_windows_it_is_in():
    scores = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05  # of 4 x 5 patches
    found = windows_to_patches(scores, 2)
    assert found.shape == (2, 4, 5)
    for row in range(4):
        for column in range(5):
            covering = scores[:, max(0, row - 1) : row + 1, max(0, column - 1) : column + 1].flatten(1)
            close(found[:, row, column], covering.shape[1] / (1 / covering).sum(dim=1))


def test_the_map_is_the_harmonic_mean_over_picture_and_windows(clip):
    method = WinClip(clip)
    seen = method.encode(clip.pictures(PICTURES, 40))
    found = method(seen)
    corner = [
        method.probability(window)[:, 0, 0] for window in seen.windows.values()
    ]  # a corner is in one window of each
    expected = 3 / sum(1 / each for each in (method.probability(seen.image), *corner))
    close(found.patches[:, 0, 0], expected)
    close(found.picture, method.probability(seen.image))


def test_one_window_that_is_sure_outweighs_those_that_are_not():
    assert float(harmonic(torch.tensor([0.01, 0.9, 0.9]))) < 0.03
    nothing = torch.zeros(3, 2)
    assert torch.isfinite(harmonic(nothing)).all()
    assert torch.isfinite(windows_to_patches(torch.zeros(1, 2, 2), 3)).all()


def test_a_picture_smaller_than_a_window_is_read_by_what_fits(clip):
    seen = WinClip(clip).encode(clip.pictures(PICTURES, 16))
    assert isinstance(seen, WindowFeatures)
    assert list(seen.windows) == [2]
    (reading,) = detector("winclip", clip, 8).read(PICTURES[:1])
    assert 0 <= reading.score <= 1


# Without a checkpoint


def test_methods_without_a_checkpoint_have_digests_of_their_own(loader):
    first, second = (loader.detector(method=name) for name in NAMES)
    assert first.info.name == "clip/embedded"
    assert second.info.name == "winclip/embedded"
    assert len(first.info.checkpoint_sha256) == len(second.info.checkpoint_sha256) == 64
    assert first.info.checkpoint_sha256 != second.info.checkpoint_sha256
    assert loader.detector(method="clip") is first
    assert first.method.backbone is loader.detector().method.backbone


def test_a_method_and_a_checkpoint_exclude_each_other(loader):
    with pytest.raises(CheckpointError, match="winclip needs no checkpoint"):
        loader.detector(checkpoint=EMBEDDED_CHECKPOINT, method="winclip")


def test_a_method_that_is_fitted_wants_its_checkpoint(loader):
    with pytest.raises(CheckpointError, match=r"vip2clip inspects with fitted prompts.*clip, winclip"):
        loader.detector(method="vip2clip")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_measured_without_a_checkpoint(name, tmp_path: Path, capfd):
    for kind in ("good", "dent"):
        (tmp_path / "plate/test" / kind).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(tmp_path / f"plate/test/{kind}/{number}.png"), gradient(50, 50, number + 7 * len(kind)))
    out = tmp_path / "measured.json"
    command = ["evaluate", "--data", str(tmp_path), "--method", name, "--json", str(out)]
    assert main(command) == 0
    assert read_evaluation(out).measured.detector == f"{name}/embedded"
    assert main([*command, "--checkpoint", str(EMBEDDED_CHECKPOINT)]) == 1
    assert "leave one of the two out" in capfd.readouterr().err
