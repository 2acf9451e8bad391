"""Pretraining: patches compared within their picture, Muon in fp32, a run that begins with another's weights."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.backbones.appearance import Appearance
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.files import TEXT, TOKENIZER, VISION
from edge_agent.backbones.tips.model import Comparison, VisionShape, VisionTower, load_tips, to_official
from edge_agent.errors import CheckpointError, ConfigError
from tests.forked import together
from trainer import synthesis
from trainer.io.processes import rank
from trainer.pretrain.loop import Inputs, pretrain
from trainer.pretrain.muon import Muon, orthogonal
from trainer.pretrain.recipe import Recipe
from trainer.pretrain.student import Student
from trainer.pretrain.teacher import UNITS, Teacher, Trunk
from trainer.pretrain.weight_average import average_weights

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


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
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
    student = Student(TINY, tips.tokenizer)
    x = torch.rand(16, 3, 64, 64)
    student.load_embedded(tips, x)
    begun = student.tips(tips.tokenizer, "begun").encode_image(x)
    whole = tips.encode_image(x)
    assert (begun.patches - whole.patches).abs().mean() < 0.2 * whole.patches.abs().mean()
    assert not torch.equal(begun.globals[:, 0], whole.globals[:, 0])


def test_a_model_that_is_built_otherwise_is_refused(run):
    _, tips = run
    other = Student(replace(TINY, width=128), tips.tokenizer)
    with pytest.raises(CheckpointError, match="has other shapes"):
        other.load_embedded(tips, torch.rand(4, 3, 64, 64))


def test_a_mean_of_models_has_the_mean_of_their_weights_and_its_own_figures_of_appearance(taught):
    tips = taught[1]
    other = copy.deepcopy(tips)
    with torch.no_grad():
        for weight in other.state_dict().values():
            weight.add_(1)
    other.temperature = tips.temperature + 0.02
    made = average_weights(tips, [other])
    assert made.temperature == pytest.approx(tips.temperature + 0.01)
    for key, weight in made.state_dict().items():
        torch.testing.assert_close(weight, tips.state_dict()[key] + (0 if "appearance" in key else 0.5))


def test_a_run_finds_out_before_it_trains_that_it_cannot_be_averaged(run, tmp_path):
    rows = []
    with pytest.raises(CheckpointError, match="embedded has other shapes"):
        pretrain(TINY, tmp_path, workers=0, inputs=Inputs(average_with=(EMBEDDED_FOLDER,)), report=rows.append)
    assert not rows
    assert not (tmp_path / "state.pt").exists()


def test_only_models_of_one_descent_have_a_mean(run):
    _, tips = run
    with pytest.raises(CheckpointError, match="other has other shapes"):
        average_weights(
            tips, [Student(replace(TINY, depth=1, compared=(0,)), tips.tokenizer).tips(tips.tokenizer, "other")]
        )
    with pytest.raises(CheckpointError, match="other has other shapes"):
        average_weights(tips, [Student(replace(TINY, depth=3), tips.tokenizer).tips(tips.tokenizer, "other")])
    foreign = copy.deepcopy(tips)
    words = tips.tokenizer
    foreign.tokenizer = lambda sentences: words([sentence[::-1] for sentence in sentences])
    with pytest.raises(CheckpointError, match="another vocabulary"):
        average_weights(tips, [foreign])


def test_the_class_tokens_differ_from_the_start(run):
    torch.manual_seed(0)
    student = Student(TINY, run[1].tokenizer)
    assert not torch.equal(student.vision.vit.cls_token, student.vision.vit.reg_token)


def test_a_description_says_how_large_the_defect_is_and_where():
    mask = np.zeros((90, 90), bool)
    mask[:25, 65:] = True
    text = synthesis.description(np.random.default_rng(0), "metal plate", "hole", mask)
    assert "large hole" in text or "huge hole" in text
    assert "top right" in text
    assert "metal plate" in text
    good = synthesis.description(np.random.default_rng(0), "apple", None, np.zeros((9, 9), bool))
    assert good.startswith("an apple, ")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A file of the teacher's layout, with random weights."""
    rng = np.random.default_rng(0)
    arrays = {}

    def norm(name, width):
        for key, value in (("gamma", 1.0), ("beta", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            arrays[f"{name}_{key}"] = np.full(width, value, np.float32)

    def conv(name, after, before, side):
        spread = (2 / (before * side * side)) ** 0.5
        arrays[f"{name}_weight"] = (spread * rng.standard_normal((after, before, side, side))).astype(np.float16)

    norm("batchnorm0", 3)
    conv("conv0", 64, 3, 7)
    norm("batchnorm1", 64)
    before = 64
    for stage, units in enumerate(UNITS, start=1):
        narrow, wide = 64 * 2 ** (stage - 1), 256 * 2 ** (stage - 1)
        convs = 0
        for unit in range(units):
            shapes = [(narrow, before, 1), (narrow, narrow, 3), (wide, narrow, 1)]
            shapes += [(wide, before, 1)] if unit == 0 else []
            for index, width in enumerate((before, narrow, narrow)):
                norm(f"stage{stage}_batchnorm{3 * unit + index}", width)
            for shape in shapes:
                conv(f"stage{stage}_conv{convs}", *shape)
                convs += 1
            before = wide
    norm("stage4_batchnorm0", 1024)
    path = tmp_path_factory.mktemp("trunk") / "trunk.npz"
    np.savez(path, **arrays)
    return path


def test_a_teacher_says_as_much_of_each_patch_as_the_recipe_asks_for_and_its_targets_have_size_one(trunk):
    torch.manual_seed(0)
    x = torch.rand(4, 3, 64, 96)
    teacher = Teacher.of(Trunk(trunk), x, 8)
    targets = teacher(x)
    assert targets.shape == (4, 4 * 6, 8)
    assert float(targets.mean(dim=(0, 1)).abs().max()) < 1e-3
    assert float(targets.square().sum(dim=2).mean()) == pytest.approx(1, abs=1e-3)


def test_what_a_teacher_says_moves_with_the_picture(trunk):
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16).tile(1, 1, 8, 8)
    x[:, :, 48:64, 48:64] = 0
    told = Trunk(trunk)(x).unflatten(1, (8, 8))
    moved = Trunk(trunk)(x.roll((16, 16), dims=(2, 3))).unflatten(1, (8, 8))
    torch.testing.assert_close(told[:, 3, 3], moved[:, 4, 4], atol=0.05, rtol=0.05)  # but for the border, far away
    assert (told[:, 3, 3] - told[:, 5, 6]).norm() > (told[:, 4, 6] - told[:, 5, 6]).norm()


def test_arrays_that_are_no_such_trunk_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", conv0_weight=np.zeros((64, 3, 7, 7), np.float16))
    with pytest.raises(CheckpointError, match="expected the first stages of resnet50-v2"):
        Trunk(tmp_path / "other.npz")


@pytest.fixture(scope="module")
def taught(trunk, tmp_path_factory):
    """A small run with a teacher: its folder, its model, what it reported."""
    folder, rows = tmp_path_factory.mktemp("taught"), []
    recipe = replace(TINY, steps=12, teacher_width=8, teacher_block=1, rate=3e-3)
    return (
        folder,
        pretrain(recipe, folder, workers=0, log_every=1, inputs=Inputs(teacher=trunk), report=rows.append),
        rows,
    )


def test_a_student_comes_to_know_what_its_teacher_says_and_remembers_the_directions(taught):
    folder, _, rows = taught
    assert rows[0]["teacher"] == pytest.approx(1, abs=0.5)
    assert rows[-1]["teacher"] < 0.8 * rows[0]["teacher"]
    assert torch.load(folder / "state.pt", weights_only=True)["taught"][1].shape == (8, 2048)


def pretrained_by_one_of_two(folder: Path) -> None:
    torch.set_num_threads(1)
    tips = pretrain(TINY, folder, workers=0, log_every=1)
    weights = torch.cat([tensor.flatten() for tensor in tips.vision.state_dict().values()])
    (folder / f"weights{rank()}").write_text(hashlib.sha256(weights.numpy().tobytes()).hexdigest())


def test_two_processes_as_torchrun_starts_them_take_the_same_steps_and_one_of_them_writes(tmp_path):
    together(2, pretrained_by_one_of_two, tmp_path)
    assert (tmp_path / "weights0").read_text() == (tmp_path / "weights1").read_text()
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_a_batch_that_cannot_be_read_in_threads_evenly_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="cannot be shared out to 3 processes"):
        pretrain(TINY, tmp_path)


def test_what_a_teacher_taught_is_one_more_variant_of_the_file_and_tells_how_unlike_a_patch_is(taught, tmp_path):
    folder, tips, _ = taught
    vision, text = to_official(tips)
    np.savez(tmp_path / VISION, **vision)
    np.savez(tmp_path / TEXT, **text)
    again = load_tips(tmp_path / VISION, tmp_path / TEXT, folder / TOKENIZER)
    assert again.vision.shape.appearance == (1, 8)
    x = torch.rand(2, 3, 64, 64)
    told = again.encode_image(x).dissimilarity
    assert told.shape == (2, 16)
    torch.testing.assert_close(
        told, tips.encode_image(x).dissimilarity, atol=0.05, rtol=0.05
    )  # half precision on the way
    begun = Student(TINY, tips.tokenizer)
    begun.load_embedded(tips, torch.rand(16, 3, 64, 64))  # without a teacher it goes on without


def test_a_patch_that_looks_like_none_of_its_picture_is_the_most_unlike():
    torch.manual_seed(0)
    appearance = Appearance(16, 4)
    torch.nn.init.normal_(appearance.proj.weight)
    x = torch.randn(16) + 0.1 * torch.randn(2, 30, 16)
    x[1, 11:13] += 2 * torch.randn(16)  # two of a kind: with two others each, they are still alone
    told = appearance(x)
    assert sorted(told[1].argsort()[-2:].tolist()) == [11, 12]
    by_hand = torch.cdist(appearance.figures(x), appearance.figures(x)).sort(dim=2).values[:, :, 1:3].mean(dim=2)
    torch.testing.assert_close(told, torch.log(by_hand + 1e-3), atol=1e-2, rtol=1e-2)
