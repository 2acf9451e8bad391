"""`trainer station --add`: more good parts for a station that is there, and the way back."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.cli import main as agent
from edge_agent.config.load import load_config
from edge_agent.config.places import parse
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.inference import load
from edge_agent.line.calibration import read_calibration
from tests.drilled import folder, part
from trainer.cli import main
from trainer.station import before_after, candidates
from trainer.station.folder import config_text
from trainer.station.present import Present, present_station


@pytest.fixture(scope="module", autouse=True)
def one_trunk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "TRUNKS", ("efficientnet-lite0",))
        patch.setattr(candidates, "TIMED", 1)
        patch.setattr(candidates, "BATCH", 2)
        loader = load.Loader()
        patch.setattr(load, "Loader", lambda: loader)
        yield


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Path:
    """A station made from four good parts and two bad ones, whose folders are gone; two more good parts wait in `more`."""
    place = tmp_path_factory.mktemp("four")
    good = folder(place / "good", [part(seed) for seed in range(4)])
    bad = folder(place / "bad", [part(seed, lacking=True) for seed in range(20, 22)])
    out = str(place / "station")
    assert (
        main(["station", "--good", str(good), "--bad", str(bad), "--name", "cam1", "--out", out, "--size", "400"]) == 0
    )
    shutil.rmtree(good)
    shutil.rmtree(bad)
    folder(place / "more", [part(seed) for seed in (3, 4, 5)])  # the first one is there already
    return place


@pytest.fixture
def copied(four, tmp_path) -> Path:
    shutil.copytree(four, tmp_path / "own")
    return tmp_path / "own"


def add(place: Path, *arguments: str) -> int:
    return main(["station", "--add", str(place / "more"), "--out", str(place / "station"), *arguments])


def test_what_is_added_joins_what_was_there_once_and_the_station_as_it_was_is_kept(copied, capsys):
    config = copied / "station" / "config.yaml"
    text = config.read_text().replace("source:\n", "source:  # the camera's\n").replace("agent:", "# ours\nagent:")
    config.write_text(text)
    first = load_checkpoint(copied / "station" / "cam1.safetensors")
    assert add(copied) == 0
    said = capsys.readouterr()
    assert "part0.png: the same picture as" in said.err
    assert re.search(r"the station as it is, from 4 good parts +\d", said.out)

    made = load_checkpoint(copied / "station" / "cam1-2.safetensors")
    assert len({one["sha256"] for one in made.header["good"]}) == 6
    assert made.header["parent_sha256"] == first.sha256
    assert (made.header["size"], len(made.tensors["bank"])) == (400, 400)
    assert read_calibration(copied / "station" / "cam1-2-calibration.json").good_pictures == 6
    assert len(list((copied / "station" / "pictures" / "good").iterdir())) == 6
    assert len(list((copied / "station" / "pictures" / "bad").iterdir())) == 2
    assert config.read_text() == text.replace("cam1.safe", "cam1-2.safe").replace("cam1-cal", "cam1-2-cal")
    assert agent(["check", "--config", str(config)]) == 0

    kept = copied / "station" / "config-1.yaml"
    assert f"the station as it was: {kept}; to go back" in said.out
    assert kept.read_text() == text
    assert load_config(kept).station("cam1").calibration.good_pictures == 4


def test_a_station_that_is_better_keeps_its_checkpoint(copied, capsys, monkeypatch):
    monkeypatch.setattr(candidates, "TRUNKS", ())  # what remains is the model as shipped, which is worse
    monkeypatch.setattr(Present, "trunks", [])
    assert add(copied) == 0
    assert "Nothing that was tried is better than the station as it is" in capsys.readouterr().out
    station = load_config(copied / "station" / "config.yaml").station("cam1")
    assert station.detector.checkpoint.name == "cam1.safetensors"
    assert station.calibration.good_pictures == 6
    assert not (copied / "station" / "cam1-2.safetensors").exists()


def test_a_part_that_was_taken_out_of_the_folder_is_forgotten(copied, capsys):
    pictures = copied / "station" / "pictures" / "good"
    (pictures / "part0.png").unlink()
    assert main(["station", "--add", str(pictures), "--out", str(copied / "station")]) == 0
    said = capsys.readouterr()
    assert "they were taken out" in said.err
    assert "as it is" not in said.out
    made = load_checkpoint(copied / "station" / "cam1-2.safetensors")
    assert [one["name"] for one in made.header["good"]] == ["part1.png", "part2.png", "part3.png"]


def test_what_was_learnt_is_not_lost_without_a_word(four):
    there = present_station(four / "station", None)
    assert list(there.cautions()) == []
    header = {**there.header, "corrections": [{"inspection": "1"}, {"inspection": "2"}]}
    (said,) = replace(there, header=header).cautions()
    assert "has learnt 2 corrections" in said
    assert "edge-agent learn --station cam1" in said


def test_made_anew_it_holds_the_new_pictures_alone(copied, capsys):
    new = ["station", "--name", "cam1", "--out", str(copied / "station"), "--good"]
    assert main([*new, str(copied / "station" / "pictures" / "good")]) == 1
    assert "go on from it with --add" in capsys.readouterr().err
    assert main([*new, str(copied / "more")]) == 0
    assert len(list((copied / "station" / "pictures" / "good").iterdir())) == 3
    assert not (copied / "station" / "pictures" / "bad").exists()
    assert (copied / "station" / "cam1.safetensors").exists()


@pytest.mark.parametrize(("when", "said"), [("candidates", "looks as it did"), ("compared", "is complete in")])
def test_interrupted_it_says_what_there_is(copied, capsys, monkeypatch, when, said):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    config = copied / "station" / "config.yaml"
    before = config.read_text()
    monkeypatch.setattr(candidates, "TRUNKS", ())
    monkeypatch.setattr(candidates if when == "candidates" else before_after, when, interrupted)
    assert add(copied, "--try", str(copied / "more")) == 130
    assert said in capsys.readouterr().err
    assert (config.read_text() == before) is (when == "candidates")


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("config.yaml", "holds no station: make one with --good"), ("pictures", "make it again with --good")],
)
def test_without_a_station_nothing_is_added(copied, capsys, lacks, said):
    place = copied / "station" / lacks
    place.unlink() if place.is_file() else shutil.rmtree(place)
    assert add(copied) != 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_config_keeps_what_else_it_says():
    before = """\
stations:
  - name: cam0
    source: {folder: a}
  - name: cam1   # the second one
    source: {folder: b}
    detector: {class_name: cap, device: cpu, checkpoint: old.safetensors, model: efficientnet-lite2, windows: 2}
    calibration: old.json
    debounce: {raise_after: 3}
"""
    section = {"model": "efficientnet-lite0", "checkpoint": "new.safetensors"}
    text = config_text(before, "cam1", "cap", section, "new.json")
    cam0, cam1 = parse(text).data["stations"]
    assert cam0 == {"name": "cam0", "source": {"folder": "a"}}
    assert cam1["detector"] == {"class_name": "cap", "device": "cpu", **section}
    assert cam1["calibration"] == "new.json"
    assert cam1["debounce"] == {"raise_after": "3"}
    again = config_text(before.replace(", windows: 2", ""), "cam1", "cap", section, "new.json")
    assert again == (
        before.replace(", windows: 2", "").replace("old.", "new.").replace("efficientnet-lite2", "efficientnet-lite0")
    )
