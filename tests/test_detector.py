"""The embedded detector in its three layers: numbers in and out, masks, sharing, checkpoints that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT, EMBEDDED_FOLDER
from edge_agent.detectors import prompts
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader, choose_device, load_detector
from edge_agent.kernels import scoring


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


@pytest.fixture(scope="module")
def detector(loader):
    return loader.detector()


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_scores_and_maps_are_in_their_range_whatever_the_picture(detector):
    black, white = np.zeros((50, 70, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    for reading in detector.read([black, white, picture(1), picture(2, 900, 33)]):
        assert 0 <= reading.score <= 1
        assert reading.heatmap.dtype == np.float32
        assert reading.heatmap.shape == (224, 224)
        assert 0 <= reading.heatmap.min() <= reading.heatmap.max() <= 1


def test_a_batch_gives_what_its_pictures_give_alone(detector):
    images = [picture(seed, 100 + seed, 200) for seed in range(5)]
    together = detector.read(images)
    for image, reading in zip(images, together, strict=True):
        (alone,) = detector.read([image])
        assert alone.score == pytest.approx(reading.score, abs=1e-5)
        np.testing.assert_allclose(alone.heatmap, reading.heatmap, atol=1e-4)


def test_reading_twice_gives_the_same_to_the_bit(detector):
    first, second = (detector.read([picture(3)])[0] for _ in range(2))
    assert first.score == second.score
    np.testing.assert_array_equal(first.heatmap, second.heatmap)


def test_what_is_masked_out_is_neither_scored_nor_shown(detector):
    image = np.full((224, 224, 3), 128, np.uint8)
    image[20:60, 20:60] = picture(4, 40, 40)
    (whole,) = detector.read([image])
    y, x = np.unravel_index(whole.heatmap.argmax(), whole.heatmap.shape)
    keep = np.ones((64, 64), bool)
    keep[max(0, y * 64 // 224 - 12) : y * 64 // 224 + 12, max(0, x * 64 // 224 - 12) : x * 64 // 224 + 12] = False
    masked, untouched = detector.read([image, image], [keep, None])
    assert masked.score < whole.score
    assert masked.heatmap[y, x] == 0
    assert untouched.score == pytest.approx(whole.score, abs=1e-5)


def test_detectors_of_one_model_share_its_backbone(loader, detector):
    plate = loader.detector(class_name="metal plate")
    assert plate is not detector
    assert plate.method.backbone is detector.method.backbone
    assert loader.detector() is detector


def test_the_class_name_changes_the_picture_score_and_not_the_map(loader, detector):
    (ours,), (theirs,) = detector.read([picture(5)]), loader.detector(class_name="leather").read([picture(5)])
    assert ours.score != theirs.score
    np.testing.assert_array_equal(ours.heatmap, theirs.heatmap)


def test_the_stored_text_features_are_those_that_the_text_tower_gives(loader, detector):
    # Not in the checkpoint, so it is encoded; the tokenizer lower-cases.
    named_otherwise = loader.detector(class_name="OBJECT")
    torch.testing.assert_close(named_otherwise.method.fixed, detector.method.fixed, atol=1e-5, rtol=0)


def test_half_precision_reads_the_same_within_its_rounding(loader, detector):
    half = loader.detector(precision="bf16")
    (ours,), (theirs,) = detector.read([picture(6)]), half.read([picture(6)])
    assert theirs.score == pytest.approx(ours.score, abs=0.05)


def test_class_names_become_words_in_all_sentences():
    normal, anomalous = prompts.sentences("metal_nut-M8")
    assert (len(normal), len(anomalous)) == (28, 20)
    assert "a bad photo of a flawless metal nut M8." in normal
    assert "a cropped photo of the metal nut M8 with damage." in anomalous
    assert prompts.sentences("")[0][0] == "a bad photo of a object."


def test_smoothing_keeps_a_flat_map_flat_and_a_maps_mean():
    flat = torch.full((1, 20, 30), 0.3)
    torch.testing.assert_close(scoring.smooth(flat, 3.0), flat)
    spike = torch.zeros(1, 41, 41)
    spike[0, 20, 20] = 1
    blurred = scoring.smooth(spike, 2.0)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(blurred[0, 20, 20]) == pytest.approx(1 / (2 * np.pi * 4), rel=0.02)


def test_smoothing_a_map_smaller_than_its_kernel_works():
    assert torch.isfinite(scoring.smooth(torch.rand(2, 3, 2), 4.0)).all()


def copy(tmp_path: Path, **changes: object) -> Path:
    """The embedded checkpoint with another header."""
    whole = load_checkpoint(EMBEDDED_CHECKPOINT)
    path = tmp_path / "prompts.safetensors"
    save_checkpoint(Checkpoint({**whole.header, **changes}, whole.tensors), path)
    return path


def test_prompts_for_another_backbone_are_refused_with_both_names(loader, tmp_path):
    path = copy(tmp_path, backbone="tips-l14", backbone_sha256="ab" * 32)
    with pytest.raises(CheckpointError, match=r"fitted for tips-l14.*uses embedded.*refit"):
        loader.detector(checkpoint=path)


def test_prompts_of_another_method_are_refused(loader, tmp_path):
    with pytest.raises(CheckpointError, match=r"'guess' is no method.*tipsomaly, vip2clip, cops, patchcore"):
        loader.detector(checkpoint=copy(tmp_path, method="guess"))
    with pytest.raises(CheckpointError, match=r"prompts\.safetensors: damaged"):
        loader.detector(checkpoint=copy(tmp_path, method="cops"))


def test_a_model_without_prompts_asks_for_a_checkpoint(loader):
    with pytest.raises(CheckpointError, match="checkpoint"):
        loader.detector(model=str(EMBEDDED_FOLDER))


def test_the_embedded_model_by_its_folder_takes_its_own_checkpoint(loader, detector):
    by_folder = loader.detector(str(EMBEDDED_FOLDER), EMBEDDED_CHECKPOINT)
    assert by_folder.read([picture(7)])[0].score == detector.read([picture(7)])[0].score


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "header", "nan"])
def test_a_damaged_checkpoint_is_named_with_a_remedy(loader, tmp_path, damage):
    path = tmp_path / "prompts.safetensors"
    whole = EMBEDDED_CHECKPOINT.read_bytes()
    if damage == "header":
        path.write_bytes(
            safetensors.torch.save({"learned": torch.zeros(2, 4)}, {"header": json.dumps({"format": "1"})})
        )
    elif damage == "nan":
        good = load_checkpoint(EMBEDDED_CHECKPOINT)
        save_checkpoint(Checkpoint(good.header, {**good.tensors, "learned": torch.full((2, 4), torch.nan)}), path)
    else:
        path.write_bytes({"empty": b"", "truncated": whole[:-100], "text": b"not a checkpoint" * 10}[damage])
    with pytest.raises(CheckpointError, match=r"prompts\.safetensors"):
        loader.detector(checkpoint=path)


def test_a_checkpoint_says_what_it_is():
    header = load_checkpoint(EMBEDDED_CHECKPOINT).header
    assert header["method"] == "tipsomaly"
    assert header["backbone"] == "embedded"
    assert header["class_token"] in (1, 2)
    assert 0 < header["threshold"] < 1


def test_a_gpu_that_is_not_there_is_an_error_and_not_a_slow_agent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(CheckpointError, match="doctor"):
        choose_device("cuda")


def test_the_api_of_the_readme_reads_a_picture():
    (reading,) = load_detector(class_name="metal plate").read([picture(8)])
    assert 0 <= reading.score <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_reads_what_the_cpu_reads():
    (ours,), (theirs,) = load_detector(device="cpu").read([picture(9)]), load_detector(device="cuda").read([picture(9)])
    assert theirs.score == pytest.approx(ours.score, abs=0.01)


def test_a_station_may_read_at_another_size_than_the_prompts_were_fitted_at(loader):
    larger = loader.detector(image_size=320)
    (reading,) = larger.read([picture(8)])
    assert reading.heatmap.shape == (320, 320)
    assert loader.detector().info.image_size == 224
    with pytest.raises(CheckpointError, match="embedded reads sides that are multiples of 16: take 304, not 300"):
        loader.detector(image_size=300)
