"""A family of backbones is one class and one member of the list: one that is added from outside works in every command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import nn

from edge_agent.backbones.backbone import ImageFeatures, Preprocessing
from edge_agent.backbones.families import FAMILIES
from edge_agent.backbones.family import Family
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.backbones.weights.published import Published
from tests.walk import Walk

WIDTH, PATCH = 8, 16


class NullBackbone(nn.Module):
    """Sees the mean colour of each patch, padded with ones; every sentence is the same to it."""

    name, sha256, temperature = "null-backbone", "5" * 64, 1.0
    width = text_width = WIDTH
    depth = text_depth = 1
    patch, image_size = PATCH, 64
    preprocessing = Preprocessing()

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.AvgPool2d(PATCH)
        self.word = nn.Parameter(torch.ones(WIDTH), requires_grad=False)

    @property
    def device(self):
        return self.word.device

    @property
    def vision_tower(self):
        return self.tower

    def pictures(self, images, size):
        return pictures_to_tensor(images, size, self.device)

    @property
    def tower_width(self):
        return 0

    @property
    def activation(self):
        return None

    def run_as(self, activation, positions):
        raise NotImplementedError

    def project(self, tokens):
        raise NotImplementedError

    def encode_image(self, x, layers=(), *, values=0, joined=False, raw=()):
        cells = self.tower(x)
        patches = nn.functional.pad(cells.flatten(2).transpose(1, 2), (0, WIDTH - 3), value=1.0)
        return ImageFeatures(patches.mean(dim=1, keepdim=True), patches, tuple(cells.shape[2:]))

    def fix_grid(self, grid):
        pass

    def encode_windows(self, x, side):
        raise NotImplementedError

    def encode_text(self, sentences, prompt=None):
        return self.word.expand(len(sentences), -1)

    def embed_words(self, words):
        raise NotImplementedError

    def encode_prompts(self, prompts, deep=None, *, begun=False, inserted=None, norm=None):
        raise NotImplementedError


class NullFamily(Family):
    catalog: ClassVar = {
        NullBackbone.name: Published(NullBackbone.name, "nobody", "CC0-1.0", 64, PATCH, WIDTH, 0.0, 0.0)
    }

    def load(self, name, folders):
        return NullBackbone()


NAME = f"clip/{NullBackbone.name}"


def add() -> None:
    FAMILIES.append(NullFamily())


@pytest.fixture
def walk(tmp_path, capsys) -> Iterator[Walk]:
    add()
    yield Walk(tmp_path, NAME, {"model": NullBackbone.name, "method": "clip"}, capsys)
    FAMILIES.pop()


def test_check_and_doctor_know_it(walk):
    assert f"model {NullBackbone.name}" in walk.check()
    assert f"cam1: {NAME} on cpu, weights {'5' * 12}" in walk.doctor()


def test_a_size_that_is_not_whole_patches_of_it_is_refused_by_check(walk):
    text = walk.config.read_text().replace('"method"', '"image_size": 70, "method"')
    walk.config.write_text(text)
    with pytest.raises(AssertionError, match=f"multiple of {NullBackbone.name}'s patch of {PATCH} pixels: take 64"):
        walk.check()


def test_the_daemon_inspects_with_it_and_metrics_count_its_scores(walk):
    counted = walk.run(before=add)
    assert (counted["score_count", "cam1"], counted["score_sum", "cam1"]) == (1, 0.5)  # normal as well as anomalous


def test_stored_pictures_are_replayed_with_it(walk):
    assert "1 NotOK" in walk.replay()


def test_it_is_evaluated(walk):
    measured = walk.evaluate("--model", NullBackbone.name, "--method", "clip")
    assert (measured["detector"], measured["image_size"]) == (NAME, 64)


def test_bench_times_it_with_any_method(walk):
    assert walk.bench("--backbone", NullBackbone.name, "--method", "clip")["detector"] == NAME
    timed = walk.bench("--backbone", NullBackbone.name)
    assert (timed["detector"], timed["weights"]) == (f"tipsomaly/{NullBackbone.name}", "its own weights")


def test_models_lists_it(walk):
    (line,) = [line for line in walk.said("models").splitlines() if line.startswith(NullBackbone.name)]
    assert line.split()[1:4] == ["64", "px", str(WIDTH)]
    assert "nobody, CC0-1.0" in line


def test_an_unknown_name_near_to_it_is_answered_with_it(walk):
    walk.config.write_text(walk.config.read_text().replace(NullBackbone.name, "null-bckbone"))
    with pytest.raises(AssertionError, match=f"did you mean {NullBackbone.name}"):
        walk.check()
