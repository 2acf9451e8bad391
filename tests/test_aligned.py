"""Parts that are aligned before they are looked at: where they are found, what is said of those that do not fit, and the maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import pytest

from edge_agent.core import Evaluation, Reading
from edge_agent.detectors.checkpoint import load_checkpoint, save_checkpoint
from edge_agent.errors import CheckpointError, EdgeAgentError
from edge_agent.inference.aligned import AlignedDetector, Reference, aligned
from edge_agent.inference.arranged import arranged
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.learn.bank import require_bank
from edge_agent.line.judge import Rules, judge
from tests.detectors import SynchronousDetector, info
from tests.drilled import SIDE, folder, part
from trainer.bank.bank import make_bank
from trainer.bank.good_picture import GoodPicture
from trainer.cli import main

WIDE = (SIDE, SIDE + 40)


def plate(seed: int = 0) -> np.ndarray:
    """A drilled part on a wide table, with a mark that says which side is up."""
    pixels = cv2.copyMakeBorder(part(seed), 0, 0, 20, 20, cv2.BORDER_CONSTANT, value=(40, 40, 40))
    cv2.rectangle(pixels, (60, 20), (76, 26), (230, 230, 230), -1)
    return pixels


def moved(pixels: np.ndarray, angle: float, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn a picture by degrees and shift it by pixels; return it and the matrix (2, 3) from it as it was to it as it is."""
    matrix = cv2.getRotationMatrix2D((WIDE[1] / 2, WIDE[0] / 2), angle, 1.0)
    matrix[:, 2] += (x, y)
    return cv2.warpAffine(pixels, matrix, WIDE[::-1], borderMode=cv2.BORDER_REPLICATE), matrix


class Spots(SynchronousDetector):
    """Finds what is pure red, and remembers the masks that it was given."""

    info = info("spots")

    def __init__(self) -> None:
        self.keep: list[np.ndarray | None] = []

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        self.keep = list(keep or [])
        maps = [((one[..., 0] > 200) & (one[..., 1] < 80)).astype(np.float32) for one in images]
        return [Reading(float(one.max()), one) for one in maps]


@pytest.mark.parametrize(("angle", "x", "y"), [(0, 0, 0), (0, 9, -6), (11, 4, 5), (-17, -7, 3)])
def test_a_part_is_found_where_it_lies(angle, x, y):
    picture, matrix = moved(plate(), angle, x, y)
    placement = Reference.of(plate()).place(picture)
    corners = np.array([[20, 20, 1], [110, 20, 1], [110, 80, 1]]).T
    assert np.abs(placement.matrix @ corners - matrix @ corners).max() < 0.7
    assert placement.fit > 0.95
    inside = np.s_[25:70, 40:95]
    apart = [
        np.abs(one[inside].astype(int) - plate()[inside]).mean()
        for one in (aligned(picture, placement.matrix), picture)
    ]
    assert apart[0] <= apart[1] / 2


def test_what_is_found_lies_in_the_coordinates_of_the_picture_and_a_mask_on_the_part():
    spotted = plate()
    cv2.circle(spotted, (90, 60), 4, (255, 0, 0), -1)
    picture, matrix = moved(spotted, 12, 8, -5)
    spots, keep = Spots(), np.zeros(WIDE, bool)
    keep[40:, :] = True
    (reading,) = AlignedDetector(spots, Reference.of(plate())).read([picture], [keep])
    rows, columns = np.nonzero(reading.heatmap > 0.5)
    assert (columns.mean(), rows.mean()) == pytest.approx(matrix @ [90, 60, 1], abs=1)
    (mask,) = spots.keep
    assert mask.shape == keep.shape
    assert mask[50:80, 50:90].all()
    assert not mask[:40].any()


def test_a_part_that_lies_as_in_the_reference_is_read_as_it_is():
    spots = Spots()
    (reading,) = AlignedDetector(spots, Reference.of(plate())).read([plate()])
    assert reading.fault is None
    assert spots.keep == [None]


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((*WIDE, 3), np.uint8), "it agrees with the reference good part to 0.00, where 0.30 is needed"),
        (
            np.random.default_rng(0).integers(0, 255, (*WIDE, 3), np.uint8),
            "where 0.30 is needed: look whether it is the",
        ),
        (moved(plate(), 0, 42, 20)[0], "of where it has to be looked at lies in the picture"),
        (plate()[:, 20:-20], "the picture is 96 x 96, and those of good parts are 1.42 times as wide as high"),
    ],
)
def test_what_cannot_be_aligned_is_not_decidable_with_the_reason(picture, said):
    detector = AlignedDetector(Spots(), Reference.of(plate()))
    bad, good = detector.read([picture, plate()])
    assert bad.score == 1
    verdict = judge(bad, Rules(0.5), picture.shape)
    assert verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert said in verdict.reason
    assert judge(good, Rules(0.5), plate().shape).evaluation is Evaluation.OK


@pytest.fixture(scope="module")
def backbone():
    return Loader().backbone("efficientnet-lite0")


def good(*seeds: int) -> list[GoodPicture]:
    return [GoodPicture(f"part{seed}", f"{seed:064}", partial(plate, seed)) for seed in seeds]


def test_an_aligned_bank_looks_at_a_turned_part_as_if_it_were_not_turned(backbone, tmp_path):
    scores = {}
    turned = moved(plate(9), 15, 3, 2)[0]
    for align in (False, True):
        made = make_bank(backbone, good(0, 1, 2), image_size=96, size=400, align=align)
        save_checkpoint(made.checkpoint, tmp_path / "bank.safetensors")
        detector = arranged(PromptDetector(backbone, load_checkpoint(tmp_path / "bank.safetensors"), "object"))
        assert isinstance(detector, AlignedDetector) is align
        scores[align] = [one.score for one in detector.read([turned, plate(9)])]
    assert scores[True][0] < scores[False][0]
    assert scores[True][1] == pytest.approx(scores[False][1], abs=0.2)
    with pytest.raises(CheckpointError, match="aligns its parts, and such a bank cannot learn"):
        require_bank(made.checkpoint, "cam1")


def test_a_damaged_reference_is_refused_in_a_sentence(backbone):
    made = make_bank(backbone, good(0), image_size=64, size=50, align=True).checkpoint
    made.tensors["reference"] = made.tensors["reference"].float()
    with pytest.raises(CheckpointError, match=r"damaged .*a reference picture of shape"):
        PromptDetector(backbone, made, "object")


def test_parts_that_do_not_look_alike_cannot_be_aligned_and_that_is_said(tmp_path, capsys, backbone):
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    place = folder(tmp_path / "good", [part(0), part(1), noise])
    command = ["bank", "--good", str(place), "--out", str(tmp_path / "bank.safetensors"), "--align"]
    assert main([*command, "--method", "patchcore"]) == 1
    assert "part2.png: cannot be aligned with part" in capsys.readouterr().err
    assert main([*command, "--method", "winclip"]) == 1
    assert "--align is for a bank (patchcore)" in capsys.readouterr().err
    with pytest.raises(EdgeAgentError, match="it is a picture of another shape"):
        make_bank(backbone, [*good(0), GoodPicture("small", "", partial(part, 0))], align=True)
