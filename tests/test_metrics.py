"""Figures are scikit-learn's where it has them, AUPRO is what its definition says, and pixels are counted without being kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluate import bootstrap, metrics, pixel_counts
from trainer.evaluate.pixel_counts import PixelCounts

SIDE = 48


def pictures(count: int, seed: int, low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random maps (n, SIDE, SIDE) in [low, high] and masks of several blobs, some of which the map shows."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 2, 2))
    masks = ndimage.gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 3, 3)) > 0.12
    masks[::3] = False  # good pictures
    maps = noise / noise.std() + 1.2 * masks
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    return (low + (high - low) * maps).astype(np.float32), masks


def tallied(maps: np.ndarray, masks: np.ndarray) -> PixelCounts:
    counted = PixelCounts()
    for one, mask in zip(maps, masks, strict=True):
        counted.add(one, mask)
    return counted


def aupro_by_definition(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Threshold by threshold and region by region, with scipy's components: mean overlap over false-positive rate."""
    from scipy import ndimage

    regions = []
    for one, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [one[labels == number] for number in range(1, count + 1)]
    good = np.sort(maps[~masks])
    alarms, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        alarms.append(1 - np.searchsorted(good, threshold) / len(good))
        overlaps.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip(alarms, alarms[1:], overlaps, overlaps[1:], strict=False):
        if x0 < min(x1, limit):
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return 100 * area / limit


def f1_of_scikit_learn(truth: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)
    return 100 * float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@pytest.mark.parametrize(("low", "high", "within"), [(0, 1, 0.05), (0.45, 0.47, 0.1), (0, 1e-5, 0.3), (0.9999, 1, 0.3)])
def test_pixel_figures_are_scikit_learns_within_the_quantisation(low, high, within):
    from sklearn.metrics import average_precision_score, roc_auc_score

    """within: percent; a range as narrow as the last two has but a few hundred levels."""
    maps, masks = pictures(6, seed=1, low=low, high=high)
    counted = tallied(maps, masks)
    ours = metrics.pixel_figures(counted.good, counted.bad, counted.covered)
    truth, scores = masks.ravel(), maps.ravel()
    assert ours["pixel_auroc"] == pytest.approx(100 * roc_auc_score(truth, scores), abs=within)
    assert ours["pixel_ap"] == pytest.approx(100 * average_precision_score(truth, scores), abs=within)
    assert ours["pixel_f1"] == pytest.approx(f1_of_scikit_learn(truth, scores), abs=within)


def test_pixel_figures_are_exact_where_no_two_scores_share_a_level():
    from sklearn.metrics import average_precision_score, roc_auc_score

    maps, masks = pictures(6, seed=2)
    maps = pixel_counts.score_of(pixel_counts.level_of(maps) // 64 * 64 + 0.5).astype(np.float32)
    counted = tallied(maps, masks)
    ours = metrics.pixel_figures(counted.good, counted.bad, counted.covered)
    assert ours["pixel_auroc"] == pytest.approx(100 * roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert ours["pixel_ap"] == pytest.approx(100 * average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert ours["pixel_aupro"] == pytest.approx(aupro_by_definition(maps, masks, 0.3), abs=1e-9)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_is_what_its_definition_says(limit):
    maps, masks = pictures(5, seed=3)
    counted = tallied(maps, masks)
    ours = metrics.aupro(counted.good, counted.covered, limit)
    assert ours == pytest.approx(aupro_by_definition(maps, masks, limit), abs=0.02)


def test_aupro_weighs_a_small_defect_like_a_large_one_and_joins_what_touches_at_a_corner():
    mask = np.zeros((20, 20), bool)
    mask[0:10, 0:10] = True  # a large one, found
    mask[15, 15] = mask[16, 16] = True  # a small one, missed
    heatmap = np.full((20, 20), 0.2, np.float32)
    heatmap[0:10, 0:10] = 0.9
    heatmap[mask & (heatmap < 0.5)] = 0.1
    counted = tallied(heatmap[None], mask[None])
    assert counted.regions == 2
    assert metrics.aupro(counted.good, counted.covered) == pytest.approx(50.0, abs=1e-9)


def test_levels_keep_the_order_and_span_from_zero_to_one():
    scores = np.concatenate([[0.0, 1e-9, 1e-8, 1e-5], np.linspace(0.01, 0.99, 999), [1 - 1e-5, 1 - 1e-7, 1.0]])
    levels = pixel_counts.level_of(scores.astype(np.float32))
    assert (np.diff(levels) > 0)[:-1].all()
    assert (levels[0], levels[-1]) == (0, pixel_counts.LEVELS - 1)
    np.testing.assert_allclose(pixel_counts.score_of(levels + 0.5), scores, atol=3e-5)


def test_image_figures_are_scikit_learns_with_ties_too():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(4)
    truth = rng.random(200) < 0.3
    scores = (rng.random(200) * 0.6 + 0.3 * truth).round(2)
    ours = metrics.image_figures(truth, scores)
    assert ours["image_auroc"] == pytest.approx(100 * roc_auc_score(truth, scores))
    assert ours["image_ap"] == pytest.approx(100 * average_precision_score(truth, scores))
    assert ours["image_f1"] == pytest.approx(f1_of_scikit_learn(truth, scores))


@pytest.mark.parametrize("truth", [np.ones(5, bool), np.zeros(5, bool)])
def test_figures_that_need_both_good_and_defective_are_undefined_without(truth):
    assert all(math.isnan(value) for value in metrics.image_figures(truth, np.linspace(0, 1, 5)).values())
    counted = tallied(np.random.default_rng(0).random((1, 5, 5)).astype(np.float32), np.full((1, 5, 5), truth[0]))
    assert all(
        math.isnan(value) for value in metrics.pixel_figures(counted.good, counted.bad, counted.covered).values()
    )


def test_the_figures_of_draws_are_those_of_the_pictures_drawn():
    """Each draw made by hand: pictures repeated as often as they were drawn, scikit-learn over them."""
    maps, masks = pictures(9, seed=5)
    maps = pixel_counts.score_of(pixel_counts.level_of(maps) // 16 * 16 + 8).astype(
        np.float32
    )  # what coarse levels can tell apart
    counted = PixelCounts()
    by_picture = [counted.add(one, mask) for one, mask in zip(maps, masks, strict=True)]
    defective = masks.any(axis=(1, 2))
    scores = maps.max(axis=(1, 2))
    times = bootstrap.draw_counts(defective, seed=0, name="plate")[:3]
    images, pixels = bootstrap.image_draws(times, defective, scores), bootstrap.pixel_draws(times, by_picture)
    for number, often in enumerate(times.astype(int)):
        assert often[defective].sum() == defective.sum()
        assert often[~defective].sum() == (~defective).sum()
        drawn = np.repeat(np.arange(9), often)
        by_hand = metrics.image_figures(defective[drawn], scores[drawn])
        again = tallied(maps[drawn], masks[drawn])
        by_hand |= metrics.pixel_figures(again.good, again.bad, again.covered)
        for name, value in by_hand.items():
            assert (images | pixels)[name][number] == pytest.approx(value, abs=1e-3), name


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Scores from two Gaussians one apart: AUROC is 76.02. Of 60 samples nearly all intervals hold it, but not by being wide."""
    held = []
    for seed in range(60):
        rng = np.random.default_rng([9, seed])
        defective = np.arange(120) < 60
        scores = rng.normal(size=120) + defective
        draws = bootstrap.image_draws(bootstrap.draw_counts(defective, seed, "plate"), defective, scores)
        interval = bootstrap.figure(metrics.auroc(defective, scores), draws["image_auroc"])
        held.append(interval.low <= 76.02 <= interval.high)
        assert 10 < interval.high - interval.low < 28
    assert 51 <= sum(held) <= 60


def test_draws_are_the_same_for_the_same_pictures_and_differ_between_categories():
    defective = np.array([True] * 5 + [False] * 7)
    np.testing.assert_array_equal(bootstrap.draw_counts(defective, 0, "a"), bootstrap.draw_counts(defective, 0, "a"))
    assert (bootstrap.draw_counts(defective, 0, "a") != bootstrap.draw_counts(defective, 0, "b")).any()
    assert (bootstrap.draw_counts(defective, 0, "a") != bootstrap.draw_counts(defective, 1, "a")).any()


def test_the_threshold_of_a_level_keeps_that_level():
    scores = np.random.default_rng(6).random(1000).astype(np.float32)
    levels = pixel_counts.level_of(scores)
    at = int(levels[10])
    np.testing.assert_array_equal(scores >= pixel_counts.score_of(at) - 1e-7, levels >= at)
