"""Tipsomaly's local evidence: the highest patch as published, or means of the highest few and many, as a checkpoint says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.tipsomaly import (
    CONTRAST_OFFSET,
    LocalEvidence,
    Tipsomaly,
    TipsomalyOutput,
    highest,
    picture_score,
    sharpened,
    with_consistency,
)
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader


@pytest.fixture
def patches():
    return torch.from_numpy(np.random.default_rng(0).random((3, 5, 8), np.float32))


def test_local_evidence_is_the_mean_of_the_highest_patches(patches):
    by_hand = np.sort(patches.numpy().reshape(3, -1), axis=1)[:, -4:].mean(axis=1)
    np.testing.assert_allclose(highest(patches.flatten(1), None, 0.1), by_hand, rtol=1e-6)


def test_of_masked_pictures_the_fraction_is_of_what_counts(patches):
    keep = torch.zeros(3, 40, dtype=torch.bool)
    keep[0, 5:25], keep[1, 3] = True, True  # 20 count, 1 counts, none counts
    flat = patches.flatten(1)
    told = highest(flat, keep, 0.1)
    np.testing.assert_allclose(told[0], np.sort(flat[0, 5:25].numpy())[-2:].mean(), rtol=1e-6)
    assert float(told[1]) == float(flat[1, 3])
    assert float(told[2]) == 0
    torch.testing.assert_close(highest(flat, torch.ones_like(keep), 0.3), highest(flat, None, 0.3))


def test_no_fraction_is_the_highest_patch_as_published(patches):
    found = TipsomalyOutput(torch.full((3, 2), 0.5), patches, patches.amax(dim=(1, 2)))
    torch.testing.assert_close(picture_score(found, 2), (0.5 + patches.amax(dim=(1, 2))) / 2)
    torch.testing.assert_close(picture_score(found, 2, None, LocalEvidence((1e-9,))), picture_score(found, 2))
    assert (picture_score(found, 2, None, LocalEvidence((0.5,))) < picture_score(found, 2)).all()


def test_evidence_of_several_sizes_counts_each_as_much_as_the_class_token(patches):
    found = TipsomalyOutput(torch.tensor([[0.1, 0.5]] * 3), patches, patches.amax(dim=(1, 2)))
    flat = patches.flatten(1)
    by_hand = (0.5 + flat.amax(dim=1) + flat.topk(8, dim=1).values.mean(dim=1) + flat.mean(dim=1)) / 4
    torch.testing.assert_close(picture_score(found, 2, None, LocalEvidence((0.0, 0.2, 1.0))), by_hand)


def test_means_of_log_odds_and_what_is_masked_away_counts_for_nothing(patches):
    found = TipsomalyOutput(torch.tensor([[0.1, 0.3]] * 3), patches, patches.amax(dim=(1, 2)))
    odds = np.log(patches.numpy() / (1 - patches.numpy())).reshape(3, -1)
    falling = -np.sort(-odds, axis=1)
    by_hand = (np.log(0.3 / 0.7) + falling[:, 0] + falling[:, :8].mean(axis=1) + odds.mean(axis=1)) / 4
    evidence = LocalEvidence((0.0, 0.2, 1.0), odds=True)
    np.testing.assert_allclose(picture_score(found, 2, None, evidence), 1 / (1 + np.exp(-by_hand)), atol=1e-5)
    torch.testing.assert_close(
        picture_score(found, 2, torch.ones(3, 5, 8, dtype=torch.bool), evidence),
        picture_score(found, 2, None, evidence),
    )
    keep = torch.zeros(3, 5, 8, dtype=torch.bool)
    keep[:2, 1, 2] = True
    told = picture_score(found, 2, keep, evidence)
    by_hand = (np.log(0.3 / 0.7) + 3 * odds.reshape(3, 5, 8)[0, 1, 2]) / 4
    assert float(told[0]) == pytest.approx(1 / (1 + np.exp(-by_hand)), abs=1e-5)
    assert 0 < float(told[2]) < 1e-4  # where nothing counts, nothing is wrong


@pytest.mark.parametrize(
    ("header", "evidence"),
    [
        ({}, LocalEvidence()),
        ({"evidence": 0.25}, LocalEvidence((0.25,))),
        ({"evidence": [0.02, 1.0]}, LocalEvidence((0.02, 1.0))),
        ({"evidence": [0.02, 1.0], "odds": True}, LocalEvidence((0.02, 1.0), odds=True)),
    ],
)
def test_a_checkpoint_keeps_it_and_one_without_it_means_the_highest(tmp_path, header, evidence):
    backbone = Loader().backbone()
    shipped = load_checkpoint(EMBEDDED_CHECKPOINT)
    bare = {key: value for key, value in shipped.header.items() if key not in ("evidence", "odds")}
    method = Tipsomaly.restored(backbone, bare | header, shipped.tensors, "object")
    assert method.evidence == evidence
    path = tmp_path / "again.safetensors"
    save_checkpoint(Checkpoint(bare | method.settings(), method.tensors()), path)
    again = load_checkpoint(path)
    assert Tipsomaly.restored(backbone, again.header, again.tensors, "object").evidence == evidence


def test_consistency_adds_to_a_patchs_logit_what_is_unlike_its_picture(patches):
    unlike = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32))
    found = TipsomalyOutput(torch.full((3, 2), 0.5), patches, patches.amax(dim=(1, 2)), unlike)
    told = with_consistency(found, 0.5, 0.1)
    own = patches.numpy()
    by_hand = 1 / (1 + np.exp(-(np.log(own / (1 - own)) + 0.5 * (unlike.numpy() - 0.1))))
    np.testing.assert_allclose(told.patches, by_hand, atol=1e-5)
    torch.testing.assert_close(told.peak, told.patches.amax(dim=(1, 2)))
    assert with_consistency(found, 0.0, 0.1) is found
    assert with_consistency(replace(found, dissimilarity=None), 0.5, 0.1).dissimilarity is None


def test_a_sharpened_map_shows_where_in_a_patch_the_contrast_is(patches):
    contrast = torch.full((3, 20, 32), 0.04)
    contrast[:, 9, 13] = 0.5  # in row 2, column 3 of the patches
    even = torch.full_like(patches, 0.6)
    found = TipsomalyOutput(torch.full((3, 2), 0.5), even, even.amax(dim=(1, 2)), contrast=contrast)
    told = sharpened(found, 0.2, 2.0)
    patch = 1 / (1 + (0.4 / 0.6) ** 0.5)  # of half the log odds
    assert told.flatten(1).argmax(dim=1).tolist() == [9 * 32 + 13] * 3
    np.testing.assert_allclose(told[0, 0, 0], patch**0.8 * (0.04 + CONTRAST_OFFSET) ** 0.2, rtol=1e-5)
    np.testing.assert_allclose(told[0, 9, 13], patch**0.8 * (0.5 + CONTRAST_OFFSET) ** 0.2, rtol=1e-5)
    glaring = sharpened(replace(found, contrast=3 * torch.ones_like(contrast)), 0.2, 2.0)
    np.testing.assert_allclose(glaring, patch**0.8, rtol=1e-5)  # in [0, 1], however far colours lie apart
    assert sharpened(found, 0.0, 2.0) is found.patches
    alike = replace(found, patches=patches, contrast=torch.full_like(contrast, 0.5))
    patch = 1 / (1 + (1 / patches.clamp(1e-6, 1 - 1e-6) - 1) ** 0.5)
    stretched = F.interpolate(patch.unsqueeze(1), size=(20, 32), mode="bilinear").squeeze(1)
    factor = (0.5 + CONTRAST_OFFSET) ** 0.2
    torch.testing.assert_close(sharpened(alike, 0.2, 2.0), factor * stretched**0.8)  # each cell has its own patch's
    assert sharpened(replace(found, contrast=None), 0.2, 2.0) is found.patches


@pytest.mark.parametrize(("header", "contrast"), [({}, (0.0, 1.0)), ({"contrast": [0.3, 2]}, (0.3, 2.0))])
def test_a_checkpoint_says_how_much_contrast_its_map_holds_and_one_that_does_not_has_none(header, contrast):
    backbone = Loader().backbone()
    shipped = load_checkpoint(EMBEDDED_CHECKPOINT)
    bare = {key: value for key, value in shipped.header.items() if key != "contrast"}
    method = Tipsomaly.restored(backbone, bare | header, shipped.tensors, "object")
    assert method.contrast == tuple(method.settings()["contrast"]) == contrast
    x = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = method(backbone.encode_image(x))
        told = method.scores(found)
    assert told.patches.shape == ((1, 24, 16) if header else (1, 6, 4))
    torch.testing.assert_close(
        told.picture, Tipsomaly.restored(backbone, bare, shipped.tensors, "object").scores(found).picture
    )


@pytest.mark.parametrize(
    "contrast", [0.2, [0.2], [0.2, 0], [1.2, 2], [float("nan"), 2], [0.2, float("inf")], [10**400, 2], ["a", 2]]
)
def test_a_contrast_that_is_none_is_a_damaged_checkpoint(contrast):
    shipped = load_checkpoint(EMBEDDED_CHECKPOINT)
    damaged = replace(shipped, header={**shipped.header, "contrast": contrast})
    with pytest.raises(CheckpointError, match="damaged"):
        PromptDetector(Loader().backbone(), damaged, "object")
