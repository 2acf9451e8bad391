"""Pretraining: patches compared within their picture, Muon in fp32, a run that begins with another's weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_agent.backbones.catalog import TEXT, TOKENIZER, VISION
from edge_agent.backbones.tips import Comparison, VisionShape, VisionTower, load_tips, to_official
from edge_agent.errors import CheckpointError
from trainer import synthesis
from trainer.muon import Muon, orthogonal
from trainer.pretrain import Pupil, Recipe, pretrain

TINY = Recipe(
    image_size=64,
    width=64,
    depth=2,
    stem=(8, 8, 16, 32, 64),
    compared=(0, 1),
    text_depth=1,
    vocabulary=300,
    pool=6,
    batch=4,
    small_size=32,
    small_steps=1,
    steps=3,
    decay_steps=1,
    warmup_steps=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run: its model, saved as the package ships one."""
    folder = tmp_path_factory.mktemp("run")
    tips = pretrain(TINY, folder, workers=0, log_every=1)
    vision, text = to_official(tips)
    np.savez(folder / VISION, **vision)
    np.savez(folder / TEXT, **text)
    return folder, tips


def test_compared_patches_are_one_more_variant_of_the_file(run):
    folder, tips = run
    again = load_tips(folder / VISION, folder / TEXT, folder / TOKENIZER)
    assert again.vision.shape == tips.vision.shape
    assert again.vision.shape.compared == (0, 1)
    x = torch.rand(2, 3, 64, 64)
    ours, theirs = again.encode_image(x), tips.encode_image(x)
    torch.testing.assert_close(ours.patches, theirs.patches, atol=0.02, rtol=0.02)  # half precision on the way


def test_a_tower_without_comparisons_has_no_weights_for_them():
    assert not any("comparison" in name for name in VisionTower(VisionShape(64, 1, 256, 4, 16)).state_dict())


def test_a_patch_unlike_all_others_gets_what_no_other_gets_wherever_it_lies():
    torch.manual_seed(0)
    comparison = Comparison(64).eval()
    x = torch.randn(64) + 0.1 * torch.randn(1, 25, 64)
    x[0, 7] += 2 * torch.randn(64)
    with torch.no_grad():
        moved = comparison(x.roll(5, dims=1), (5, 5))
        more = comparison(x, (5, 5))
    away = (more - more.median(dim=1, keepdim=True).values).norm(dim=2)[0]
    assert int(away.argmax()) == 7
    assert away[7] > 2 * away[[index for index in range(25) if index != 7]].median()
    assert int((moved - moved.median(dim=1, keepdim=True).values).norm(dim=2)[0].argmax()) == 12


def test_a_flat_picture_is_compared_without_a_division_by_nothing():
    comparison = Comparison(64)
    x = torch.ones(1, 16, 64, requires_grad=True)
    comparison(x, (4, 4)).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_orthogonal_keeps_directions_and_evens_their_lengths():
    torch.manual_seed(0)
    for shape in ((2, 20, 50), (2, 50, 20)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3


def test_muon_steps_as_torch_does_but_in_fp32():
    torch.manual_seed(0)
    start, gradient = torch.randn(24, 40), torch.randn(24, 40)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    own = Muon([ours], 0.01, 0.1)
    published = torch.optim.Muon([theirs], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(2):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        published.step()
    torch.testing.assert_close(ours, theirs, atol=3e-3, rtol=0)  # theirs is rounded to bfloat16


def test_a_run_begins_with_anothers_weights_and_the_same_function_but_for_the_first_class_token(run):
    _, tips = run
    torch.manual_seed(1)
    pupil = Pupil(TINY, tips.tokenizer)
    x = torch.rand(16, 3, 64, 64)
    pupil.start_from(tips, x)
    begun = pupil.tips(tips.tokenizer, "begun").encode_image(x)
    whole = tips.encode_image(x)
    assert (begun.patches - whole.patches).abs().mean() < 0.2 * whole.patches.abs().mean()
    assert not torch.equal(begun.globals[:, 0], whole.globals[:, 0])


def test_a_model_that_is_built_otherwise_is_refused(run):
    _, tips = run
    other = Pupil(replace(TINY, width=128), tips.tokenizer)
    with pytest.raises(CheckpointError, match="built otherwise"):
        other.start_from(tips, torch.rand(4, 3, 64, 64))


def test_the_class_tokens_differ_from_the_start(run):
    torch.manual_seed(0)
    pupil = Pupil(TINY, run[1].tokenizer)
    assert not torch.equal(pupil.vision.vit.cls_token, pupil.vision.vit.reg_token)


def test_a_description_says_how_large_the_defect_is_and_where():
    mask = np.zeros((90, 90), bool)
    mask[:25, 65:] = True
    text = synthesis.description(np.random.default_rng(0), "metal plate", "hole", mask)
    assert "large hole" in text or "huge hole" in text
    assert "top right" in text
    assert "metal plate" in text
    good = synthesis.description(np.random.default_rng(0), "apple", None, np.zeros((9, 9), bool))
    assert good.startswith("an apple, ")
