"""`trainer station`: from a folder of good parts to a station that is ready to run, and what it says of bad input."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import edge_agent
from edge_agent.cli import main as agent
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.inference import load
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.squares import SquaresDetector
from edge_agent.io.pictures import decode
from edge_agent.line.calibration import read_calibration
from tests.drilled import folder, part
from trainer.bank.bank import make_bank
from trainer.bank.coreset import POOL, coreset
from trainer.bank.good_parts import fold_of, scale, varied
from trainer.bank.good_picture import GoodPicture
from trainer.cli import main
from trainer.station import candidates, pictures
from trainer.station.choice import false_alarm_rate
from trainer.station.pictures import picture_set


@pytest.fixture(scope="module", autouse=True)
def one_trunk():
    """The smaller trunk alone: what is tested here is the same with both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "TRUNKS", ("efficientnet-lite0",))
        patch.setattr(candidates, "TIMED", 1)
        patch.setattr(candidates, "BATCH", 2)
        loader = load.Loader()
        patch.setattr(load, "Loader", lambda *places: loader)
        yield


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """A station made from twelve good parts and three bad ones."""
    place = tmp_path_factory.mktemp("taught")
    good = folder(place / "good", [part(seed) for seed in range(12)])
    bad = folder(place / "bad", [part(seed, lacking=True) for seed in range(20, 23)])
    out = str(place / "station")
    assert main(["station", "--good", str(good), "--bad", str(bad), "--name", "cam1", "--out", out]) == 0
    return place


def test_the_station_passes_its_checks_and_finds_parts_that_it_has_not_seen(taught, capsys):
    config = str(taught / "station" / "config.yaml")
    assert agent(["check", "--config", config]) == 0
    new = folder(taught / "new", [part(30), part(31), part(32, lacking=True)])
    assert agent(["replay", str(new), "--config", config, "--out", str(taught / "replayed")]) == 0
    verdicts = re.findall(r"^(OK|NotOK) .*(part\d)", capsys.readouterr().out, re.MULTILINE)
    assert verdicts == [("OK", "part0"), ("OK", "part1"), ("NotOK", "part2")]


def test_the_calibration_promises_what_twelve_pictures_allow(taught):
    calibration = read_calibration(taught / "station" / "cam1-calibration.json")
    assert calibration.good_pictures == 12
    assert calibration.false_alarm_rate == pytest.approx(1 / 13)
    assert calibration.squares


def test_the_bank_names_the_pictures_that_it_was_made_from(taught):
    checkpoint = load_checkpoint(taught / "station" / "cam1.safetensors")
    assert [one["name"] for one in checkpoint.header["good"]] == [f"part{number}.png" for number in range(12)]
    assert checkpoint.header["backbone"] == "efficientnet-lite0"
    assert checkpoint.tensors["bank"].dtype == torch.float16


def test_the_page_says_what_it_gets_wrong_and_loads_nothing(taught):
    page = (taught / "station" / "wrong.html").read_text()
    assert "Good parts that it rejects" in page
    assert "Defects that it misses" in page
    assert not re.search(r"https?://|<script", page)


def test_a_defective_picture_among_the_good_ones_is_named(tmp_path, capsys):
    good = folder(tmp_path / "good", [part(seed, lacking=seed == 4) for seed in range(8)])
    bad = folder(tmp_path / "bad", [part(40, lacking=True)])
    command = ["station", "--good", str(good), "--bad", str(bad), "--name", "cam1", "--out", str(tmp_path / "station")]
    assert main(command) == 0
    assert "Unlike the other good parts: part4.png. Look whether they are good" in capsys.readouterr().out


def test_without_defects_some_are_painted_and_that_is_said(tmp_path, capsys):
    good = folder(tmp_path / "good", [part(0)])
    assert main(["station", "--good", str(good), "--name", "cam1", "--out", str(tmp_path / "station")]) == 0
    said = capsys.readouterr().out
    assert "Defects: 1 painted ones" in said
    assert "A single one does not tell how far good parts lie apart" in said


def test_the_same_pictures_and_seed_give_the_same_bank():
    backbone = load.Loader().backbone("efficientnet-lite0")
    pictures = [GoodPicture(str(seed), "", lambda seed=seed: part(seed)) for seed in range(3)]
    one, other = (make_bank(backbone, pictures, image_size=64, size=50).checkpoint for _ in range(2))
    assert one.header == other.header
    assert torch.equal(one.tensors["bank"], other.tensors["bank"])
    assert len(one.tensors["bank"]) == 50


def test_the_size_of_a_bank_is_a_setting(tmp_path, capsys):
    good, out = str(folder(tmp_path / "good", [part(0)])), tmp_path / "bank.safetensors"
    command = ["bank", "--good", good, "--out", str(out), "--image-size", "64"]
    assert main([*command, "--method", "patchcore", "--size", "50"]) == 0
    made = load_checkpoint(out)
    assert (len(made.tensors["bank"]), made.header["size"]) == (50, 50)
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--method", "patchcore", "--size", "20001"])
    assert "20001: a bank is chosen from 20000 patches" in capsys.readouterr().err
    assert main([*command, "--method", "winclip", "--size", "50"]) == 1
    assert "a memory of winclip keeps every patch" in capsys.readouterr().err


def test_a_further_trunk_is_tried_and_one_that_is_not_here_is_said_at_once(tmp_path, capsys, monkeypatch):
    good = folder(tmp_path / "good", [part(0)])
    bad = folder(tmp_path / "bad", [part(9, lacking=True)])
    station = ["station", "--good", str(good), "--bad", str(bad), "--name", "cam1", "--out", str(tmp_path / "station")]
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path))
    assert main([*station, "--trunk", "wide-resnet50"]) == 1
    assert "run `edge-agent models fetch wide-resnet50`" in capsys.readouterr().err
    monkeypatch.setattr(candidates, "TRUNKS", ())
    assert main([*station, "--trunk", "efficientnet-lite1", "--trunk", "efficientnet-lite1", "--size", "200"]) == 0
    assert capsys.readouterr().out.count("\nbank of 1 good part, efficientnet-lite1") == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda good: [good / "part1.png"], "is the same picture as .*part1.png, which is said to be good"),
        (lambda good: [], "no pictures there"),
    ],
)
def test_defective_pictures_that_cannot_be_are_refused(tmp_path, capsys, bad, said):
    good = folder(tmp_path / "good", [part(0), part(1)])
    (tmp_path / "bad").mkdir()
    for path in bad(good):
        shutil.copy(path, tmp_path / "bad" / "copied.png")
    command = ["station", "--good", str(good), "--bad", str(tmp_path / "bad"), "--name", "cam1"]
    assert main([*command, "--out", str(tmp_path / "station")]) == 1
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "station").exists()


def test_a_folder_with_other_files_in_it_is_left_alone(tmp_path, capsys):
    good = folder(tmp_path / "good", [part(0)])
    assert main(["station", "--good", str(good), "--name", "cam1", "--out", str(good)]) == 1
    assert "part0.png, which this command did not make" in capsys.readouterr().err
    assert main(["station", "--good", str(good), "--name", "../x", "--out", str(tmp_path / "station")]) == 1
    assert "letters, digits" in capsys.readouterr().err


def test_every_picture_is_decoded_and_painted_once_while_they_fit(tmp_path, monkeypatch):
    files = sorted(folder(tmp_path / "good", [part(0), part(1)]).iterdir())
    made = picture_set(files, [])
    assert made.good[0].decode() is made.good[0].decode()
    assert made.bad[1].decode() is made.bad[1].decode()
    monkeypatch.setattr(pictures, "KEPT_BYTES", part(0).nbytes)
    made = picture_set(files, [])
    assert made.good[0].decode() is made.good[0].decode()
    assert made.good[1].decode() is not made.good[1].decode()


def test_a_coreset_covers_what_all_patches_cover():
    torch.manual_seed(0)
    clusters = torch.randn(10, 8).repeat_interleave(30, dim=0) * 10 + torch.randn(300, 8) * 0.01
    chosen = coreset(clusters, 10)
    assert torch.cdist(clusters, chosen).amin(dim=1).max() < 1
    assert coreset(clusters, 1000) is clusters
    assert len(coreset(torch.randn(POOL + 10, 2), 3)) == 3


def test_the_scale_lies_above_most_good_parts_and_higher_for_fewer():
    distances = np.exp(np.random.default_rng(0).normal(0, 0.1, 1000))
    assert (distances > scale(list(distances))).mean() == pytest.approx(0.01, abs=0.005)
    assert scale(list(distances[:3])) > scale(list(distances))


def test_a_picture_left_out_is_read_as_the_bank_of_all_pictures_would_read_it():
    backbone = load.Loader().backbone("efficientnet-lite0")
    pictures = [GoodPicture(str(seed), "", lambda seed=seed: part(seed)) for seed in range(3)]
    bank = make_bank(backbone, pictures, image_size=64, size=50)
    farther = bank.folds[0].header["scale"] / bank.checkpoint.header["scale"]
    assert farther == pytest.approx((3 / 2) ** 0.1)


def test_of_a_single_good_picture_the_scale_is_that_of_other_products_and_other_good_parts_stay_below_it():
    loader = load.Loader()
    backbone = loader.backbone("efficientnet-lite0")
    first, *others = [
        decode(path) for path in sorted((Path(edge_agent.__file__).parent / "sample_part" / "good").glob("*"))
    ]
    bank = make_bank(backbone, [GoodPicture("first", "", lambda: first)], size=500)
    detector = SquaresDetector(PromptDetector(backbone, bank.checkpoint, "plate"))
    assert bank.expected == pytest.approx((0.2, 0.2), abs=0.03)
    assert all(one.score < 0.5 for one in detector.read(others))


def test_every_picture_is_in_one_fold_and_few_are_each_by_themselves():
    assert fold_of(3) == [0, 1, 2]
    assert fold_of(6) == [0, 1, 2, 3, 0, 1]


def test_a_varied_copy_has_the_size_and_nearly_the_light_of_the_picture():
    assert varied(part(0)).shape == part(0).shape
    assert abs(float(varied(part(0)).mean()) - float(part(0).mean())) < 8


def test_a_rate_that_so_few_pictures_cannot_promise_is_replaced_by_the_lowest_they_can():
    assert false_alarm_rate(200) == Fraction(1, 100)
    assert false_alarm_rate(19) == Fraction(1, 20)
    assert false_alarm_rate(19, Fraction(1, 10)) == Fraction(1, 10)
    assert false_alarm_rate(19, Fraction(1, 1000)) == Fraction(1, 20)
