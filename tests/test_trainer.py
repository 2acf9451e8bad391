"""Figures by hand, pools, pretraining that resumes to the same result, pictures in MVTec layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_agent.backbones.tips.model import load_tips
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from trainer.data.examples import categories, read_examples, read_mask
from trainer.evaluate.local_contrast import LocalContrast
from trainer.evaluate.measure import evaluate
from trainer.evaluate.metrics import auroc, balanced_threshold, best_f1_threshold
from trainer.pretrain.loop import pretrain
from trainer.pretrain.package import write_embedded_model
from trainer.pretrain.pool import make_pool
from trainer.pretrain.recipe import Recipe
from trainer.pretrain.views import KINDS, make_view

TINY = Recipe(
    image_size=64,
    width=64,
    depth=1,
    stem=(8, 8, 16, 32, 64),
    text_depth=1,
    vocabulary=300,
    pool=8,
    batch=4,
    small_size=32,
    small_steps=2,
    steps=6,
    decay_steps=2,
    warmup_steps=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole pretraining in small: its folder and its model."""
    folder = tmp_path_factory.mktemp("run")
    return folder, pretrain(TINY, folder, workers=0, log_every=1)


def test_auroc_is_right_on_a_case_by_hand_and_undefined_without_both_classes():
    assert auroc(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(75.0)
    assert math.isnan(auroc(np.array([True, True]), np.array([0.1, 0.2])))


def test_the_threshold_of_the_best_f1_separates_what_can_be_separated():
    assert best_f1_threshold(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.6, 0.9])) == pytest.approx(0.6)


def test_the_balanced_threshold_weighs_a_missed_defect_like_a_false_alarm_however_many_there_are_of_each():
    truth = np.array([False] * 90 + [True] * 10)
    scores = np.concatenate([np.linspace(0, 0.6, 90), np.linspace(0.5, 1, 10)])
    assert 0.4 < balanced_threshold(truth, scores) <= 0.62


def test_scores_that_tell_good_for_defective_still_give_a_threshold_among_them():
    assert balanced_threshold(np.array([True, True, False, False]), np.array([0.1, 0.2, 0.8, 0.9])) == 0.1


def test_the_pool_is_made_once_and_its_views_are_fixed_by_their_number(tmp_path):
    first = make_pool(tmp_path, 4, 48, seed=3, workers=1)
    made_at = (tmp_path / "pictures.npy").stat().st_mtime_ns
    again = make_pool(tmp_path, 4, 48, seed=3, workers=1)
    assert (tmp_path / "pictures.npy").stat().st_mtime_ns == made_at
    one, other = (make_view(pool, np.random.default_rng(5), 32, 1.0) for pool in (first, again))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert KINDS[one.labels.max() - 1] == one.kind
    assert not make_view(first, np.random.default_rng(5), 32, 0.0).labels.any()


def test_a_pretraining_that_was_cut_off_resumes_to_the_same_weights(run, tmp_path):
    folder, whole = run
    (tmp_path / "pool").symlink_to(folder / "pool")
    pretrain(replace(TINY, steps=3, decay_steps=0), tmp_path, workers=0, log_every=1)
    resumed = pretrain(TINY, tmp_path, workers=0, log_every=1)
    for (name, theirs), ours in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0, msg=name)


def test_a_run_ends_in_a_model_that_loads_with_prompts_that_fit_it(run, tmp_path):
    folder, tips = run
    pool = make_pool(folder / "pool", TINY.pool, TINY.image_size + 32, TINY.seed)
    figures = write_embedded_model(
        tips, (folder / "tokenizer.model").read_bytes(), pool, TINY, tmp_path, fit_views=50, check_views=50
    )
    assert all(0 <= value <= 100 for value in figures.values())
    backbone = load_tips(tmp_path / "vision.npz", tmp_path / "text.npz", tmp_path / "tokenizer.model", "embedded")
    detector = PromptDetector(backbone, load_checkpoint(tmp_path / "tipsomaly.safetensors"), "metal_plate")
    (reading,) = detector.read([np.zeros((30, 40, 3), np.uint8)])
    assert 0 <= reading.score <= 1
    assert reading.heatmap.shape == (64, 64)


def test_pictures_in_mvtec_layout_are_read_with_their_masks(tmp_path):
    draw = np.random.default_rng(0)
    for kind in ("good", "dent"):
        (tmp_path / "plate" / "test" / kind).mkdir(parents=True)
    (tmp_path / "plate" / "ground_truth" / "dent").mkdir(parents=True)
    for number in range(3):
        good = draw.integers(90, 110, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "plate" / "test" / "good" / f"{number}.png"), good)
        bad, mask = good.copy(), np.zeros((64, 64), np.uint8)
        bad[10:20, 30:40], mask[10:20, 30:40] = 255, 255
        cv2.imwrite(str(tmp_path / "plate" / "test" / "dent" / f"{number}.png"), bad)
        cv2.imwrite(str(tmp_path / "plate" / "ground_truth" / "dent" / f"{number}_mask.png"), mask)
    (examples,) = categories(read_examples(tmp_path)).values()
    assert [example.kind for example in examples] == ["dent"] * 3 + ["good"] * 3
    mask = read_mask(examples[0], 32)
    assert mask is not None
    assert mask.sum() == 25
    result = evaluate(LocalContrast(), examples)
    assert (result.good, result.defective) == (3, 3)
    assert result.image_auroc == 100.0
    assert result.pixel_auroc > 95


def test_a_folder_without_pictures_says_what_was_expected(tmp_path):
    with pytest.raises(EdgeAgentError, match="MVTec layout"):
        read_examples(Path(tmp_path))
