"""What the three methods are fitted with equals numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from edge_agent.backbones.tips.model import Tips
from edge_agent.detectors import cops, tipsomaly, vip2clip
from edge_agent.detectors.clip.adaclip import AdaClip, AdaClipOutput
from edge_agent.detectors.clip.afclip import AfClip, AfClipOutput
from edge_agent.detectors.clip.anomalyclip import AnomalyClip, AnomalyClipOutput
from edge_agent.detectors.clip.aprilgan import AprilGan, AprilGanOutput
from edge_agent.detectors.clip.bayespfl import BayesPfl, BayesPflOutput
from edge_agent.detectors.clip.bayespfl_parts import Drawn, Flows, Gaussian, draw
from edge_agent.detectors.clip.crane import Crane, CraneOutput
from edge_agent.detectors.clip.craneplus import CranePlus, CranePlusOutput
from edge_agent.detectors.clip.faprompt import FaPrompt, FaPromptOutput
from edge_agent.detectors.clip.glocalclip import GlocalClip
from edge_agent.detectors.clip.vcpclip import VcpClip, VcpClipOutput
from edge_agent.inference.load import Loader
from tests.tiny_clip import GuideFamily, tiny_clip
from trainer.fit.losses import (
    adaclip_losses,
    afclip_losses,
    alignment,
    anomalyclip_losses,
    aprilgan_losses,
    bayespfl_losses,
    both_dice,
    cops_losses,
    crane_losses,
    craneplus_losses,
    faprompt_losses,
    focal,
    glocalclip_losses,
    map_loss,
    mean_where,
    tipsomaly_losses,
    vcpclip_losses,
    vip2clip_losses,
)


@pytest.fixture(scope="module")
def embedded() -> Tips:
    backbone = Loader().backbone()
    assert isinstance(backbone, Tips)
    return backbone


def value(loss: torch.Tensor) -> float:
    return float(loss.detach())


def by_hand(probabilities: Sequence[Sequence[float]], truths: Sequence[Sequence[int]]) -> float:
    """Focal (gamma 2) over all pixels, and both Dice a picture, in plain numbers; a picture is a list of pixels."""
    focals, dices = [], []
    for picture, truth in zip(probabilities, truths, strict=True):
        pairs = list(zip(picture, truth, strict=True))
        focals += [-((1 - p) ** 2) * math.log(p) if t else -(p**2) * math.log(1 - p) for p, t in pairs]
        for shown, there in ((picture, truth), ([1 - p for p in picture], [1 - t for t in truth])):
            overlap = sum(p * t for p, t in zip(shown, there, strict=True))
            dices.append(1 - (2 * overlap + 1) / (sum(shown) + sum(there) + 1))
    return sum(focals) / len(focals) + sum(dices) / len(probabilities)


def test_focal_and_both_dice_are_what_they_are_by_hand():
    probability = torch.tensor([[[0.9, 0.2], [0.4, 0.6]]])
    truth = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    focals = -(0.1**2 * math.log(0.9) + 0.2**2 * math.log(0.8) + 0.6**2 * math.log(0.4) + 0.6**2 * math.log(0.4)) / 4
    dices = (1 - 3.6 / 5.1) + (1 - 3.4 / 4.9)  # overlaps 1.3 and 1.2; 2.1 + 2 and 1.9 + 2 pixels
    assert float(focal(probability, truth)) == pytest.approx(focals, rel=1e-6)
    assert float(both_dice(probability, truth)) == pytest.approx(dices, rel=1e-6)
    assert float(map_loss(probability, truth)) == pytest.approx(focals + dices, rel=1e-6)
    assert by_hand([[0.9, 0.2, 0.4, 0.6]], [[1, 0, 1, 0]]) == pytest.approx(focals + dices, rel=1e-9)


def test_focal_weighs_what_is_nearly_right_less():
    """With gamma 0 it is the cross-entropy; with 2 a pixel at 0.9 counts a hundredth of that."""
    probability, truth = torch.tensor([[[0.9]]]), torch.ones(1, 1, 1)
    assert float(focal(probability, truth, gamma=0)) == pytest.approx(-math.log(0.9), rel=1e-6)
    assert float(focal(probability, truth)) == pytest.approx(-math.log(0.9) / 100, rel=1e-5)


def test_dice_is_a_mean_over_pictures_not_over_pixels():
    """A picture without a defect costs as much as one with: the one added to both sides keeps it finite."""
    probability = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.5, 0.0]]])
    truth = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    third = (1 - 1 / 1.5) + (1 - 4 / 4.5)
    assert float(both_dice(probability, truth)) == pytest.approx(third / 3, rel=1e-6)


def test_a_perfect_map_costs_nothing_and_no_gradient_is_infinite():
    for truth in (torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 2)):
        for probability in (truth.clone(), 1 - truth):
            probability.requires_grad_()
            loss = map_loss(probability, truth)
            loss.backward()
            assert probability.grad is not None
            assert probability.grad.isfinite().all()
            assert loss.isfinite()
    assert value(map_loss(truth, truth)) == pytest.approx(0.0, abs=1e-4)


def test_the_loss_of_tipsomaly_is_that_of_the_map_stretched_bilinearly_alone(embedded):
    """Two patches side by side over four pixels: a quarter and three quarters of the way between them."""
    patches = torch.tensor([[[0.9, 0.2]], [[0.1, 0.3]]])
    found = tipsomaly.TipsomalyOutput(
        *(patches if name == "patches" else torch.full((2, 2), 0.5) for name in fields(tipsomaly.TipsomalyOutput))
    )
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2] = 1
    method = tipsomaly.Tipsomaly(embedded, fixed=torch.zeros(2, embedded.width))
    parts = tipsomaly_losses(method, found, masks, torch.tensor([1.0, 0.0]))
    rows = [0.9, 0.725, 0.375, 0.2], [0.1, 0.15, 0.25, 0.3]
    assert list(parts) == ["map"]
    expected = by_hand([rows[0] * 4, rows[1] * 4], [[1, 1, 0, 0] * 4, [0] * 16])
    assert value(parts["map"]) == pytest.approx(expected, rel=1e-5)


def fields(output: type) -> list[str]:
    return list(output.__dataclass_fields__)


def test_the_losses_of_vip2clip_are_what_they_are_by_hand(embedded):
    method = vip2clip.ViP2Clip(embedded, layers=(1, 2), top=1)
    masks, bad = torch.tensor([[[1.0, 0.0]]]).expand(1, 1, 2), torch.ones(1)
    probability = torch.tensor([[[[0.9, 0.2]], [[0.6, 0.4]]]])  # (1, 2 layers, 1, 2)
    cosines = torch.tensor([[[[[0.1, 0.3]], [[0.2, 0.3]]], [[[0.0, 0.1]], [[0.05, 0.0]]]]])  # (1, 2, 2 states, 1, 2)
    square = vip2clip.ViP2ClipOutput(torch.zeros(1, 2, 256), cosines, probability.repeat(1, 1, 2, 1))
    parts = vip2clip_losses(method, square, masks.repeat(1, 2, 1), bad)
    expected = by_hand([[0.9, 0.2] * 2], [[1, 0] * 2]) + by_hand([[0.6, 0.4] * 2], [[1, 0] * 2])
    assert value(parts["map"]) == pytest.approx(expected, rel=1e-5)
    # The most anomalous patch of each layer is the first: mean cosines 0.05 (normal) and 0.125 (anomalous), one softmax.
    odds = (0.125 - 0.05) / vip2clip.TEMPERATURE
    assert value(parts["picture"]) == pytest.approx(math.log1p(math.exp(-odds)), rel=1e-5)
    assert list(parts) == ["map", "picture"]


def test_vip2clip_takes_the_mean_over_pictures_good_and_bad(embedded):
    method = vip2clip.ViP2Clip(embedded, layers=(1,), top=2)
    probability = torch.tensor([[[[0.9, 0.2], [0.4, 0.6]]], [[[0.1, 0.3], [0.2, 0.2]]]])  # (2, 1 layer, 2, 2)
    cosines = torch.zeros(2, 1, 2, 2, 2)
    cosines[:, 0, 1, 0] = torch.tensor([[0.07, 0.21], [0.07, 0.21]])  # the two most anomalous of both: 0.14 in the mean
    masks = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = vip2clip.ViP2ClipOutput(torch.zeros(2, 2, 256), cosines, probability)
    parts = vip2clip_losses(method, found, masks, torch.tensor([1.0, 0.0]))
    expected = by_hand([[0.9, 0.2, 0.4, 0.6], [0.1, 0.3, 0.2, 0.2]], [[1, 0, 1, 0], [0] * 4])
    assert value(parts["map"]) == pytest.approx(expected, rel=1e-5)
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    assert value(parts["picture"]) == pytest.approx((right + wrong) / 2, rel=1e-5)


def cops_found() -> cops.CopsOutput:
    """Two pictures of 2 x 2 patches, codes of two numbers."""
    return cops.CopsOutput(
        patches=torch.zeros(2, 4, 8),
        prototypes=torch.zeros(2, 2, 6, 8),
        text=torch.zeros(2, 2, 8),
        picture=torch.tensor([[0.3, 1.3], [2.0, 0.0]]),
        probability=torch.tensor([[[0.9, 0.2], [0.4, 0.6]], [[0.1, 0.3], [0.2, 0.2]]]),
        distances=torch.tensor(
            [
                [[[0.5, 0.1], [0.2, 0.3]], [[0.05, 0.9], [0.8, 0.7]]],
                [[[0.1, 0.2], [0.3, 0.4]], [[1.0, 1.1], [1.2, 1.3]]],
            ]
        ),
        vae=cops.VaeOutput(
            target=torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
            mean=torch.tensor([[1.0, 0.0], [0.5, -0.5]]),
            log_variance=torch.tensor([[0.0, math.log(2.0)], [0.0, 0.0]]),
            decoded=torch.tensor([[1.5, 2.0], [0.0, 1.0]]),
        ),
    )


def test_the_losses_of_cops_are_what_they_are_by_hand(embedded):
    """A mask of 4 x 4 pixels with one pixel set: its patch alone is anomalous, its three other pixels are not."""
    masks = torch.zeros(2, 4, 4)
    masks[0, 1, 0] = 1
    parts = cops_losses(cops.Cops(embedded), cops_found(), masks, torch.tensor([1.0, 0.0]), reconstruction=True)
    assert list(parts) == ["picture", "map", "normal", "anomalous", "code", "reconstruction"]
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(-2.0))) / 2
    assert value(parts["picture"]) == pytest.approx(expected, rel=1e-6)
    first = [0.9, 0.9, 0.2, 0.2] * 2 + [0.4, 0.4, 0.6, 0.6] * 2  # each number over its four pixels
    second = [0.1, 0.1, 0.3, 0.3] * 2 + [0.2, 0.2, 0.2, 0.2] * 2
    truth = [0, 0, 0, 0, 1] + [0] * 11
    assert value(parts["map"]) == pytest.approx(4 * by_hand([first, second], [truth, [0] * 16]), rel=1e-5)
    assert value(parts["normal"]) == pytest.approx((0.1 + 0.2 + 0.3 + 0.1 + 0.2 + 0.3 + 0.4) / 7, rel=1e-6)
    assert value(parts["anomalous"]) == pytest.approx(0.05, rel=1e-6)
    # KL of N(m, s^2) and N(0, 1) is (m^2 + s^2 - 1 - log s^2) / 2: (1 + 0) + (0 + 2 - 1 - log 2), and 1/4 + 1/4.
    assert value(parts["code"]) == pytest.approx(((1 + 1 - math.log(2)) / 2 + 0.25) / 2, rel=1e-6)
    assert value(parts["reconstruction"]) == pytest.approx((0.25 + 0 + 0 + 1) / 4, rel=1e-6)


def test_cops_reconstructs_nothing_unless_asked_and_good_pictures_have_no_anomalous_patches(embedded):
    parts = cops_losses(cops.Cops(embedded), cops_found(), torch.zeros(2, 4, 4), torch.zeros(2))
    assert "reconstruction" not in parts
    assert value(parts["anomalous"]) == 0
    assert value(parts["normal"]) == pytest.approx((0.5 + 0.1 + 0.2 + 0.3 + 0.1 + 0.2 + 0.3 + 0.4) / 8, rel=1e-6)


def test_the_mean_of_nothing_is_nothing_and_has_a_gradient():
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    mean_where(x, torch.tensor([False, False])).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0]
    assert value(mean_where(x, torch.tensor([False, True]))) == 3


def test_the_losses_of_af_clip_by_hand():
    """Two pictures of two patches: the first is defective in its second patch, the second is good."""
    odds = torch.logit(torch.tensor([[0.8, 0.3, 0.6], [0.1, 0.2, 0.4]]))
    adapted = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.0, 1.0], [0.6, 0.8]]])[:, None]
    found = AfClipOutput(adapted, torch.zeros(2, 2), odds, None, (1, 2))
    masks = torch.zeros(2, 2, 4)
    masks[0, :, 2:] = 1
    parts = afclip_losses(AfClip(tiny_clip()), found, masks, torch.tensor([1.0, 0.0]))
    assert value(parts["picture"]) == pytest.approx(-(0.2**4 * math.log(0.8) + 0.1**4 * math.log(0.9)) / 2, rel=1e-4)
    focals = -(0.3**4 * math.log(0.7) + 0.4**4 * math.log(0.6) + 0.2**4 * math.log(0.8) + 0.4**4 * math.log(0.6)) / 4
    assert value(parts["map"]) == pytest.approx(focals + (0.3 + 0.4 + 0.2 + 0.4) / 4, rel=1e-4)
    # Across: 0.8 in the first picture, twice. Same: each of four patches with itself, and 0.8 in the second, twice.
    assert value(parts["alignment"]) == pytest.approx(max(0, 0.8 - (4 + 2 * 0.8) / 6), abs=1e-6)


def test_patches_of_different_kinds_that_are_more_alike_cost_by_how_much():
    patches = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]]])  # one set
    truth = torch.tensor([[0.0, 0.0, 1.0]])
    across, same = (0.6 + 0.8) / 2, (1 + 1 + 0 + 0 + 1) / 5
    assert value(alignment(patches, truth)) == pytest.approx(across - same, abs=1e-6)
    for one in (torch.zeros(1, 3), torch.ones(1, 3)):
        assert value(alignment(patches, one)) == 0


def test_the_loss_of_april_gan_by_hand():
    """One patch a picture, so that stretching changes nothing; two blocks."""
    logits = torch.zeros(2, 2, 2, 1, 1)
    logits[0, 0, 1], logits[0, 1, 1], logits[1, 0, 0] = math.log(4), math.log(1.5), math.log(9)
    masks = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 2, 2)
    parts = aprilgan_losses(
        AprilGan(tiny_clip()), AprilGanOutput(torch.zeros(2), logits, None, 2), masks, torch.tensor([1.0, 0.0])
    )
    expected = 0.0
    for bad, good in ((0.8, 0.1), (0.6, 0.5)):  # probabilities of the defective and of the good picture in each block
        expected -= ((1 - bad) ** 2 * math.log(bad) + good**2 * math.log(1 - good)) / 2
        expected += (1 - (8 * bad + 1) / (4 * bad + 4 + 1) + 1 - 1 / (4 * good + 1)) / 2
    assert value(parts["map"]) == pytest.approx(expected, rel=1e-5)


# Two pictures of one patch each, the first is defective; their patches and what a map's loss is for them.
PATCHES, BAD = torch.tensor([0.8, 0.3]).view(2, 1, 1), torch.tensor([1.0, 0.0])
MASKS = BAD.view(2, 1, 1).expand(2, 2, 2)
PICTURE = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])  # probabilities of anomalous: 3/4 and 1/5
CROSS_ENTROPY = -(math.log(3 / 4) + math.log(4 / 5)) / 2
FOCAL = -(0.2**2 * math.log(0.8) + 0.3**2 * math.log(0.7)) / 2
DICE = ((1 - (8 * 0.8 + 1) / (4 * 0.8 + 4 + 1)) + (1 - 1 / (4 * 0.3 + 1))) / 2
NORMAL_DICE = ((1 - 1 / (4 * 0.2 + 1)) + (1 - (8 * 0.7 + 1) / (4 * 0.7 + 4 + 1))) / 2


def test_the_losses_of_anomaly_clip_and_glocal_clip_by_hand():
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 1.0]])
    found = AnomalyClipOutput(text, PICTURE, PATCHES)
    one = anomalyclip_losses(AnomalyClip(tiny_clip()), found, MASKS, BAD)
    assert value(one["picture"]) == pytest.approx(CROSS_ENTROPY, rel=1e-5)
    assert value(one["map"]) == pytest.approx(4 * (FOCAL + DICE + NORMAL_DICE), rel=1e-5)
    two = glocalclip_losses(GlocalClip(tiny_clip()), found, MASKS, BAD)
    assert value(two["map"]) == pytest.approx(FOCAL + DICE + NORMAL_DICE, rel=1e-5)
    assert value(two["pairs"]) == pytest.approx(0.4**2 + 0.8**2, rel=1e-5)  # only the normal states differ


def test_the_losses_of_crane_by_hand():
    unused = torch.zeros(2, 2)
    found = CraneOutput(unused, PICTURE / 7, PATCHES, unused, unused, unused)
    parts = crane_losses(Crane(tiny_clip()), found, MASKS, BAD)
    assert value(parts["picture"]) == pytest.approx(0.2 * CROSS_ENTROPY, rel=1e-5)  # at 0.01, 7 times as sharp
    assert value(parts["map"]) == pytest.approx(4 * 2 * (FOCAL + DICE), rel=1e-5)


def test_the_losses_of_crane_plus_by_hand():
    """Both sets of patches say the same, so that the map's loss counts twice."""
    unused, odds = torch.zeros(2, 2), torch.logit(PATCHES).unsqueeze(1).expand(-1, 2, -1, -1)
    found = CranePlusOutput(unused, PICTURE / 7, PATCHES, unused, unused, unused, odds, 2)
    method = CranePlus(tiny_clip(), guide=GuideFamily().load("guide", []))
    parts = craneplus_losses(method, found, MASKS, BAD)
    assert value(parts["picture"]) == pytest.approx(0.2 * CROSS_ENTROPY, rel=1e-5)
    assert value(parts["map"]) == pytest.approx(2 * 2 * (FOCAL + DICE), rel=1e-5)


def test_the_losses_of_fa_prompt_by_hand():
    kinds = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]]).expand(2, -1, -1)
    bias = torch.tensor([[5.0, 5.0], [0.1, 0.3]])  # only the good picture's counts
    found = FaPromptOutput((PICTURE, PICTURE), (PATCHES, PATCHES), bias, PICTURE, kinds)
    parts = faprompt_losses(FaPrompt(tiny_clip()), found, MASKS, BAD)
    assert value(parts["map"]) == pytest.approx(1.5 * (FOCAL + DICE + NORMAL_DICE), rel=1e-5)
    assert value(parts["picture"]) == pytest.approx(CROSS_ENTROPY, rel=1e-5)
    bad, good = (3 / 4 + 0.8) / 2, (1 / 5 + 0.3) / 2
    scored = -((1 - bad) ** 2 * math.log(bad) + good**2 * math.log(1 - good)) / 2
    assert value(parts["score"]) == pytest.approx(scored, rel=1e-5)
    assert value(parts["kinds"]) == pytest.approx(0.1 * (0.6 + 0.0 + 0.8), rel=1e-5)
    assert value(parts["bias"]) == pytest.approx((0.01 + 0.09) / 2, rel=1e-5)


def test_the_loss_of_vcp_clip_by_hand():
    """Both branches say the same in one block, so that the loss counts twice."""
    logits = torch.stack([torch.zeros(2), torch.logit(PATCHES.flatten())], dim=1).view(2, 1, 2, 1, 1)
    unused = torch.zeros(2, 2)
    method = VcpClip(tiny_clip(text_width=24))
    parts = vcpclip_losses(method, VcpClipOutput(unused, unused, unused, logits, logits, 2), MASKS, BAD)
    assert value(parts["map"]) == pytest.approx(2 * (FOCAL + DICE), rel=1e-5)


def test_the_losses_of_bayes_pfl_by_hand():
    """A bank of one prompt, two blocks that say the same; text of a bank of two in its last lines."""
    odds = torch.logit(PATCHES).view(2, 1, 1, 1, 1).expand(2, 2, 1, 1, 1)
    drawn = tuple(Drawn(torch.zeros(1), torch.tensor(one)) for one in ([1.0, 3.0], [5.0], [7.0]))
    text = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]).expand(2, -1, -1, -1)
    found = BayesPflOutput(text, PICTURE.unsqueeze(2), odds, torch.zeros(2), drawn, 2)
    method = BayesPfl(tiny_clip(text_width=24))
    parts = bayespfl_losses(method, found, MASKS, BAD)
    assert value(parts["picture"]) == pytest.approx(CROSS_ENTROPY, rel=1e-5)
    focals = -(0.2**2) * math.log(0.8) - 0.3**2 * math.log(0.7)  # each kind has a mean of its own
    together = 1 - 2 * 4 * 0.8 / (4 * 0.8 + 4 * 0.3 + 4)
    assert value(parts["map"]) == pytest.approx(2 * (focals + together), rel=1e-4)
    assert value(parts["flows"]) == pytest.approx(0.01 * (2 + 5 + 7), rel=1e-6)
    assert value(parts["bank"]) == 0
    bank = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.0, 1.0]]]).expand(2, -1, -1, -1)
    two = PICTURE.unsqueeze(2).expand(-1, -1, 2), odds.expand(-1, -1, 2, -1, -1)
    parts = bayespfl_losses(method, BayesPflOutput(bank, *two, torch.zeros(2), drawn, 2), MASKS, BAD)
    assert value(parts["bank"]) == pytest.approx(2 * 0.6**2 / 4 + 2 / 4, rel=1e-5)


def test_the_divergence_of_what_was_drawn_is_that_of_its_distribution():
    """Without flows, of many samples, it is the known one of two normal distributions; a flow takes off the volume it leaves."""
    torch.manual_seed(0)
    gaussian, flows = Gaussian(3, 4), Flows(3, conditioned=False)
    with torch.no_grad():
        for number in flows.learned.values():
            number.zero_()
        x = torch.ones(1, 3)
        mean, log_variance = gaussian(x)
        known = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        samples = draw(gaussian, flows, x.expand(4000, 3), torch.randn(4000, 1, 3)).divergence
        assert float(samples.mean()) == pytest.approx(float(known), abs=0.15)
        flows.learned["u"][0, :3] = torch.tensor([0.5, 0.0, 0.0])
        flows.learned["w"][0, :3] = torch.tensor([2.0, 1.0, 0.0])
        z, volume = flows(x, torch.tensor([[[0.1, 0.2, 0.3]]]))
    inner = math.tanh(2 * 0.1 + 0.2)
    assert z.flatten().tolist() == pytest.approx([0.1 + 0.5 * inner, 0.2, 0.3], rel=1e-5)
    assert float(volume) == pytest.approx(math.log(1 + (1 - inner**2) * 0.5 * 2), abs=2e-4)


def test_the_losses_of_ada_clip_by_hand():
    """Two blocks, which say the same."""
    logits = torch.stack([torch.zeros(2), torch.logit(PATCHES.flatten())], dim=1).view(2, 1, 2, 1, 1)
    unused = torch.zeros(2, 2)
    found = AdaClipOutput(unused, unused, unused, logits.expand(-1, 2, -1, -1, -1), PICTURE, 2)
    parts = adaclip_losses(AdaClip(tiny_clip()), found, MASKS, BAD)
    assert value(parts["picture"]) == pytest.approx(-(0.25**2 * math.log(0.75) + 0.2**2 * math.log(0.8)) / 2, rel=1e-5)
    assert value(parts["map"]) == pytest.approx(2 * (FOCAL + DICE + NORMAL_DICE), rel=1e-5)
