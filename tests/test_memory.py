"""A memory of a few good pictures: distances as by hand, and methods that carry it through a checkpoint."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, unfitted_checkpoint
from edge_agent.detectors.clip.afclip import AfClip
from edge_agent.detectors.clip.aprilgan import TEMPLATES, AprilGan
from edge_agent.detectors.memory import FewShotMethod, Memory
from edge_agent.detectors.winclip import WinClip, WindowFeatures
from edge_agent.errors import CheckpointError, EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from tests.tiny_clip import saved, tiny_clip
from trainer.bank.good_parts import exceeded_score
from trainer.bank.good_picture import GoodPicture
from trainer.bank.memory import SPREAD_SHOWN, make_memory
from trainer.cli import main

SIDE = 40  # five patches
METHODS = (AfClip, AprilGan, WinClip)


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (SIDE, SIDE, 3), np.uint8)


def shown(method: FewShotMethod, *seeds: int) -> FewShotMethod:
    """Put good pictures into the method's memory."""
    with torch.inference_mode():
        backbone = method.backbone
        method.show([method.describe(method.encode(backbone.pictures([picture(seed)], SIDE))) for seed in seeds])
    return method.eval()


def checkpoint_of(method: FewShotMethod) -> Checkpoint:
    header = {"method": method.name, "backbone": method.backbone.name, "backbone_sha256": method.backbone.sha256}
    header |= {"image_size": SIDE, "fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5}
    return Checkpoint(header | method.settings(), method.tensors())


def test_distances_are_one_minus_the_greatest_cosine_set_by_set():
    torch.manual_seed(0)
    sets = [F.normalize(torch.randn(7, 5), dim=1), F.normalize(torch.randn(9, 3), dim=1)]
    asked = [F.normalize(torch.randn(2, 4, 5), dim=2), F.normalize(torch.randn(2, 4, 3), dim=2)]
    for found, own, rows in zip(Memory(sets).distances(asked), asked, sets, strict=True):
        assert torch.allclose(found, 1 - (own @ rows.T).amax(dim=2), atol=1e-5)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="memory of shape"):
        Memory([torch.zeros(0, 4)])


@pytest.mark.parametrize("kind", METHODS)
def test_a_picture_of_the_memory_is_near_and_another_is_farther(clip, kind):
    detector = PromptDetector(clip, checkpoint_of(shown(kind(clip), 0, 1)), "metal nut")
    plain = PromptDetector(clip, checkpoint_of(kind(clip).eval()), "metal nut")
    same, other = detector.read([picture(0), picture(2)])
    assert same.score < other.score
    assert same.heatmap.mean() < other.heatmap.mean()
    assert other.heatmap.shape == (SIDE, SIDE)
    assert plain.read([picture(0)])[0].score != same.score


@pytest.mark.parametrize("kind", METHODS)
def test_a_checkpoint_carries_the_memory_in_half_precision(clip, kind, tmp_path):
    method = shown(kind(clip), 0)
    path = tmp_path / "memory.safetensors"
    save_checkpoint(checkpoint_of(method), path)
    restored = load_checkpoint(path)
    assert restored.tensors["memory.0"].dtype == torch.float16
    again = PromptDetector(clip, restored, "object").read([picture(1), picture(2)])
    for one, other in zip(
        again, PromptDetector(clip, checkpoint_of(method), "object").read([picture(1), picture(2)]), strict=True
    ):
        assert one.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize("kind", METHODS)
def test_what_is_masked_does_not_count(clip, kind):
    detector = PromptDetector(clip, checkpoint_of(shown(kind(clip), 0)), "object")
    spoiled = picture(0)
    spoiled[:16, :16] = 255
    keep = np.ones((SIDE, SIDE), bool)
    keep[:24, :24] = False
    (masked,), (seen,) = detector.read([spoiled], [keep]), detector.read([spoiled])
    assert masked.score < seen.score
    assert not masked.heatmap[:16, :16].any()


def test_a_damaged_memory_is_a_damaged_checkpoint(clip):
    checkpoint = checkpoint_of(shown(AfClip(clip), 0))
    torn = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "memory.3"}
    with pytest.raises(CheckpointError, match="damaged"):
        PromptDetector(clip, Checkpoint(checkpoint.header, torn), "object")


def test_layers_that_the_backbone_does_not_have_are_refused(clip):
    for kind in (AfClip, AprilGan):
        with pytest.raises(CheckpointError, match=r"layers \(9,\): clip:ViT-tiny-8 has layers 1 to 3"):
            kind(clip, layers=[9])


def test_win_clip_associates_every_scale_with_its_own_and_averages_them(clip):
    """Two by two patches and one window: of two numbers each, in pictures that differ in one patch."""
    good = WindowFeatures(
        torch.ones(1, 24),
        torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]]),
        {2: torch.tensor([[[[3.0, 4.0]]]])},
        (2, 2),
    )
    other = WindowFeatures(
        torch.ones(1, 24),
        torch.tensor([[[1.0, 0], [-1, 0], [0, 1], [2, 2]]]),
        {2: torch.tensor([[[[4.0, 3.0]]]])},
        (2, 2),
    )
    method = WinClip(clip)
    method.show([method.describe(good)])
    window = (1 - 0.96) / 2  # their cosine is (12 + 12) / 25
    patches = torch.tensor([[0, (1 - 0) / 2], [0, (1 - 0.5**0.5) / 2]])  # -1, 0 is nearest to 0, 1
    assert torch.allclose(method._association(other), (patches + window) / 2, atol=1e-5)


def test_the_command_makes_a_memory_that_inspects_and_says_its_threshold(tmp_path, capsys):
    (tmp_path / "good").mkdir()
    for seed in range(3):
        cv2.imwrite(str(tmp_path / "good" / f"{seed}.png"), picture(seed))
    backbone, out = saved(tmp_path), tmp_path / "memory.safetensors"
    command = ["bank", "--good", str(tmp_path / "good"), "--out", str(out)]
    assert main([*command, "--method", "winclip", "--model", backbone, "--image-size", "40"]) == 0
    assert "of 3 good parts, for the model clip:ViT-tiny-8" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert [one["name"] for one in checkpoint.header["good"]] == ["0.png", "1.png", "2.png"]
    detector = Loader().detector(backbone, out)
    assert detector.info.threshold == checkpoint.header["threshold"]
    assert detector.read([picture(0)])[0].score < detector.info.threshold
    assert main([*command, "--method", "afclip", "--model", backbone]) == 1
    assert "afclip needs a fitted checkpoint first" in capsys.readouterr().err
    method = AfClip(Loader().backbone(backbone))
    save_checkpoint(checkpoint_of(method), tmp_path / "fitted.safetensors")
    assert main([*command, "--checkpoint", str(tmp_path / "fitted.safetensors"), "--model", backbone]) == 0
    assert load_checkpoint(out).header["method"] == "afclip"
    assert len(load_checkpoint(out).tensors["memory.0"]) == 3 * 25


def test_a_memorys_threshold_expects_less_spread_than_a_banks():
    """A score that is the distance itself spreads less than one that is its fourth power: else most defects are missed."""
    scores = np.array([0.20, 0.24, 0.26, 0.21])
    memory, bank = exceeded_score(0.01, scores, SPREAD_SHOWN), exceeded_score(0.01, scores)
    assert 0.26 < memory < 0.36 < bank


def test_a_single_good_part_is_enough_and_more_than_a_memory_holds_are_refused(clip):
    def shown(count: int) -> list[GoodPicture]:
        return [GoodPicture(f"{seed}.png", "", partial(picture, seed)) for seed in range(count)]

    base = unfitted_checkpoint("winclip", clip)
    assert 0 < make_memory(base, clip, shown(1), image_size=SIDE).checkpoint.header["threshold"] < 1
    with pytest.raises(EdgeAgentError, match=r"33 pictures are more than the 32 .*`trainer station`"):
        make_memory(base, clip, shown(33), image_size=SIDE)


def test_sentences_of_april_gan_are_thirty_five_for_each_state():
    assert len(set(TEMPLATES)) == 35
    assert all(one.count("{}") == 1 for one in TEMPLATES)
