"""A bank of good patches: distances as by hand, scores relative to the good parts, known defects, masks, and its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edge_agent.backbones.backbone import ImageFeatures
from edge_agent.backbones.efficientnet.family import EfficientNetFamily
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.patchcore import BOOST, PatchCore, describe, picture_distance
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.nearest import CHUNK, reference
from tests.test_a_new_backbone import NullBackbone

SIDE = 64


@pytest.fixture(scope="module")
def trunk():
    return EfficientNetFamily().load("efficientnet-lite0", [])


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (SIDE, SIDE, 3), np.uint8)


def bank_of(trunk, *pictures: np.ndarray, **settings) -> PatchCore:
    with torch.inference_mode():
        features = trunk.encode_image(trunk.pictures(pictures, SIDE), (4, 6))
        rows = describe(features, (4, 6)).flatten(0, 1)
    return PatchCore(trunk, rows, (4, 6), **settings)


def detector_of(method: PatchCore) -> PromptDetector:
    header = {"method": "patchcore", "backbone": method.backbone.name, "backbone_sha256": method.backbone.sha256}
    header |= {"image_size": SIDE, "fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5}
    return PromptDetector(method.backbone, Checkpoint(header | method.settings(), method.tensors()), "object")


def test_distances_are_those_of_every_pair_whatever_the_chunks():
    torch.manual_seed(0)
    patches, bank = torch.randn(37, 5), torch.randn(CHUNK + 3, 5)
    assert torch.allclose(reference(patches, bank), torch.cdist(patches, bank).amin(dim=1), atol=1e-4)


def test_a_patch_that_is_in_the_bank_lies_at_no_distance():
    bank = F.normalize(torch.randn(8, 4), dim=1)
    assert reference(bank, bank).max() < 1e-3


def clustered(count: int) -> torch.Tensor:
    """As patches of parts are: many near a few."""
    centres = torch.randn(40, 24)
    return F.normalize(centres[torch.randint(40, (count,))] + 0.5 * torch.randn(count, 24), dim=1)


def test_cells_find_no_row_nearer_than_the_nearest_and_hardly_any_farther():
    torch.manual_seed(0)
    bank, patches = clustered(3000), clustered(500)
    found, exact = Cells(bank).nearest(patches), reference(patches, bank)
    assert (found - exact).min() > -1e-5
    assert (found / exact).log().mean() < 2e-3
    assert (found > exact + 1e-5).float().mean() < 0.05
    assert torch.allclose(found.topk(10).values, exact.topk(10).values, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 150, 200])
def test_cells_of_few_rows_are_searched_in_full(rows):
    torch.manual_seed(0)
    bank, patches = torch.randn(rows, 5), torch.randn(37, 5)
    assert torch.allclose(Cells(bank).nearest(patches), reference(patches, bank), atol=1e-4)


def test_cells_of_rows_that_are_all_the_same_are_one():
    assert Cells(torch.ones(1000, 3)).nearest(torch.zeros(2, 3)).tolist() == pytest.approx([3**0.5] * 2)


def test_a_picture_read_twice_has_the_same_score_and_map_to_the_last_bit(trunk):
    torch.manual_seed(0)
    detector = detector_of(PatchCore(trunk, clustered(400).repeat(1, 12)[:, :272], (4, 6)))
    one, other = (detector.read([picture(1)])[0] for _ in range(2))
    assert one.score == other.score
    assert np.array_equal(one.heatmap, other.heatmap)


def test_a_picture_of_the_bank_scores_nothing_and_another_one_more(trunk):
    detector = detector_of(bank_of(trunk, picture(0)))
    same, other = detector.read([picture(0), picture(1)])
    assert same.score < 1e-3
    assert other.score > 0.05
    assert other.heatmap.shape == (SIDE, SIDE)


def test_a_picture_at_the_scale_scores_one_half(trunk):
    first = bank_of(trunk, picture(0))
    with torch.inference_mode():
        features = trunk.encode_image(trunk.pictures([picture(1)], SIDE), (4, 6))
        patches = first(features).patches
    scaled = bank_of(trunk, picture(0), scale=float(picture_distance(patches)), patch_scale=float(patches.max()))
    (reading,) = detector_of(scaled).read([picture(1)])
    assert reading.score == pytest.approx(0.5, abs=1e-3)


def test_a_patch_on_a_known_defect_counts_as_farther_but_never_as_nearer(trunk):
    with torch.inference_mode():
        features = trunk.encode_image(trunk.pictures([picture(1)], SIDE), (4, 6))
        rows = describe(features, (4, 6))[0]
        plain = bank_of(trunk, picture(0))(features).patches
        known = bank_of(trunk, picture(0), defects=rows[:1])(features).patches
    assert torch.all(known >= plain - 1e-6)
    assert known.flatten()[0] == pytest.approx(BOOST * float(plain.flatten()[0]), rel=1e-4)


def test_of_a_masked_picture_the_highest_patches_that_are_kept_count():
    patches = torch.arange(200.0).view(1, 10, 20)
    keep = torch.zeros(1, 10, 20, dtype=torch.bool)
    keep[0, 0] = True
    assert picture_distance(patches)[0] == pytest.approx((198 + 199) / 2)
    assert picture_distance(patches.masked_fill(~keep, 0), keep)[0] == 19
    assert picture_distance(torch.zeros(1, 10, 20), torch.zeros_like(keep))[0] == 0


def test_what_is_masked_is_neither_scored_nor_shown(trunk):
    keep = np.zeros((8, 8), bool)
    (reading,) = detector_of(bank_of(trunk, picture(0))).read([picture(1)], [keep])
    assert reading.score == 0
    assert not reading.heatmap.any()


def test_the_checkpoint_gives_the_same_readings_and_the_same_bytes(trunk, tmp_path):
    method = bank_of(trunk, picture(0), scale=0.4, patch_scale=0.7)
    detector = detector_of(method)
    header = {"method": "patchcore", "backbone": trunk.name, "backbone_sha256": trunk.sha256, "image_size": SIDE}
    header |= {"fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5} | method.settings()
    for name in ("one", "two"):
        save_checkpoint(Checkpoint(header, method.tensors()), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = PromptDetector(trunk, load_checkpoint(tmp_path / "one"), "object")
    assert again.read([picture(1)])[0].score == detector.read([picture(1)])[0].score


@pytest.mark.parametrize("damage", [{"layers": [99]}, {"scale": 0.0}, {"scale": "far"}])
def test_a_damaged_bank_is_refused_in_a_sentence(trunk, damage):
    method = bank_of(trunk, picture(0))
    header = {"method": "patchcore", "backbone": trunk.name, "backbone_sha256": trunk.sha256, "image_size": SIDE}
    header |= {"fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5} | method.settings() | damage
    with pytest.raises(CheckpointError, match="damaged"):
        PromptDetector(trunk, Checkpoint(header, method.tensors()), "object").read([picture(1)])


@pytest.mark.parametrize(
    "tensors",
    [
        {"bank": torch.ones(9, 5)},
        {"bank": torch.ones(272)},
        {"bank": torch.ones(0, 272)},
        {"defects": torch.ones(2, 5)},
        {"defects": torch.ones(2)},
    ],
)
def test_a_bank_of_descriptors_of_another_width_is_refused_when_it_is_loaded(trunk, tensors):
    method = bank_of(trunk, picture(0))
    header = {"method": "patchcore", "backbone": trunk.name, "backbone_sha256": trunk.sha256, "image_size": SIDE}
    header |= {"fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5} | method.settings()
    with pytest.raises(CheckpointError, match=r"damaged .* copy it again or refit"):
        PromptDetector(trunk, Checkpoint(header, method.tensors() | tensors), "object")


def test_a_bank_of_another_backbone_is_refused_by_name(trunk):
    method = bank_of(trunk, picture(0))
    header = {"method": "patchcore", "backbone": "efficientnet-lite2", "backbone_sha256": "0" * 64, "image_size": SIDE}
    header |= {"fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5} | method.settings()
    with pytest.raises(CheckpointError, match=r"efficientnet-lite2.*efficientnet-lite0"):
        PromptDetector(trunk, Checkpoint(header, method.tensors()), "object")


def test_a_tower_of_transformer_blocks_has_a_bank_too():
    backbone = NullBackbone()
    features = ImageFeatures(
        globals=torch.zeros(1, 1, 4), patches=torch.randn(1, 9, 4), grid=(3, 3), layers={1: torch.randn(1, 9, 4)}
    )
    method = PatchCore(backbone, describe(features, (1,))[0], (1,))
    assert float(method(features).patches.max()) < 1e-3
