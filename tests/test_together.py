"""A bank of good parts and the model as shipped, together; and good parts that do not look alike, of which a bank is worth nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edge_agent import build
from edge_agent.cli import main as agent
from edge_agent.config.load import load_config
from edge_agent.core import Reading
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.errors import CheckpointError, ConfigError
from edge_agent.inference.load import Loader
from edge_agent.inference.together import Fusion, Mix, mixed
from edge_agent.learn.station_files import station_files
from tests.drilled import folder, part
from trainer.station import candidates
from trainer.station.choice import MOST_APART, best, measured
from trainer.station.folder import write_station
from trainer.station.fusion import Said, prompts_weight
from trainer.station.pictures import picture_set
from trainer.synthesis.boards import circuit_board
from trainer.synthesis.noise import to_uint8


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


def tried(pictures, loader: Loader):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "TRUNKS", ("efficientnet-lite0",))
        patch.setattr(candidates, "TIMED", 1)
        patch.setattr(candidates, "BATCH", 2)
        read: list[int] = []
        found = list(candidates.candidates(pictures, "part", 300, 0, loader, read.append))
        assert sum(read) == candidates.steps(pictures)
    return [measured(one, Fraction(1, 5)) for one in found]


@pytest.fixture(scope="module")
def station(tmp_path_factory, loader) -> Path:
    """A station that looks with both, made from four good parts."""
    place = tmp_path_factory.mktemp("both")
    good = folder(place / "good", [part(seed) for seed in range(4)])
    pictures = picture_set(sorted(good.iterdir()), [])
    found = tried(pictures, loader)
    both = found[2]
    assert both.candidate.words.startswith("both: as shipped, and bank of 4 good parts")
    assert both.candidate.apart < MOST_APART
    write_station(place / "station", "cam1", "part", both, found, pictures, loader)
    return place / "station" / "config.yaml"


def test_both_are_read_and_mixed_as_they_were_measured(station, loader):
    config = load_config(station).station("cam1")
    assert [one.model for one in config.detector.together] == ["embedded"]
    own = build.station(config, loader, "")
    images = [part(30), part(31, lacking=True), cv2.resize(part(32), (300, 96))]
    readings = own.detector.read(images)
    other = loader.arranged(loader.detector(class_name="part")).read(images)
    bank = loader.arranged(build.single_detector(config.detector, loader)).read(images)
    fusion = Fusion.of(load_checkpoint(config.detector.checkpoint).header["together"])
    for one, first, second in zip(readings, other, bank, strict=True):
        wanted = mixed(first, second, fusion)
        assert one.score == pytest.approx(wanted.score, abs=1e-6)
        assert one.heatmap.shape == second.heatmap.shape
        assert np.abs(one.heatmap - wanted.heatmap).max() < 1e-6
    assert readings[1].score > own.rules.threshold > readings[0].score
    assert own.trace.model == "tipsomaly/embedded + patchcore/efficientnet-lite0"
    assert own.trace.checkpoint_sha256 == load_checkpoint(config.detector.checkpoint).sha256


def test_what_is_masked_is_neither_scored_nor_shown(station, loader):
    detector = build.detector(load_config(station).station("cam1").detector, loader)
    keep = np.zeros((8, 8), bool)
    keep[:, :4] = True
    half, none = detector.read([part(31, lacking=True)] * 2, [keep, np.zeros((8, 8), bool)])
    assert half.heatmap[:, 120:].max() == 0
    assert half.heatmap[:, :100].max() > 0
    assert (none.score, none.heatmap.max()) == (0, 0)


def test_the_station_of_both_passes_its_checks_and_says_what_it_cannot(station, tmp_path, capsys):
    assert agent(["check", "--config", str(station)]) == 0
    assert "together with model embedded" in capsys.readouterr().out
    assert agent(["export", "--config", str(station), "--onnx", str(tmp_path / "both.onnx")]) == 1
    assert "looks with two models together" in capsys.readouterr().err
    assert station_files(station, load_config(station).station("cam1")).named_at[-3:] == ("together", 1, "checkpoint")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda own: own | own.pop("together")[1], "was made to look together with another"),
        (lambda own: own | {"model": "embedded"}, "remove model"),
        (lambda own: own | {"together": own["together"][:1]}, "wants two detectors"),
        (lambda own: own | {"together": [{}, {}]}, "wants a bank that was made for it"),
    ],
)
def test_sections_that_say_something_else_are_refused(station, change, said):
    data = yaml.safe_load(station.read_text())
    data["stations"][0]["detector"] = change(data["stations"][0]["detector"])
    other = station.with_name("other.yaml")
    other.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=said):
        load_config(other)


def test_another_model_beside_it_than_it_was_measured_with_is_refused(station, loader):
    bank = loader.arranged(build.single_detector(load_config(station).station("cam1").detector, loader))
    fusion = Fusion(Mix(0, 1, 0), Mix(0, 1, 0), "0" * 64, "0" * 64)
    with pytest.raises(CheckpointError, match="run `trainer station` again"):
        loader.together(loader.arranged(loader.detector()), bank, fusion)


def test_the_one_that_tells_defects_better_counts_more():
    rng = np.random.default_rng(0)
    good, near, far = rng.normal(0, 1, 20), rng.normal(0.3, 1, 20), rng.normal(4, 1, 20)
    useless, useful = (Said(good, [], bad) for bad in (near, far))
    assert prompts_weight(useless, useful) < prompts_weight(useful, useful) < prompts_weight(useful, useless)


def test_a_mix_of_equal_readings_is_the_same_reading():
    reading = Reading(0.3, np.linspace(0.1, 0.9, 16, dtype=np.float32).reshape(4, 4))
    same = Mix(0.4, 0.6, 0)
    both = mixed(reading, reading, Fusion(same, same, "", ""))
    assert both.score == pytest.approx(0.3)
    assert np.allclose(both.heatmap, reading.heatmap)


def test_of_circuits_of_which_each_is_another_no_bank_is_taken(tmp_path, loader):
    boards = [to_uint8(circuit_board(np.random.default_rng([5, seed]), 128)[0]) for seed in range(4)]
    pictures = picture_set(sorted(folder(tmp_path / "good", boards).iterdir()), [])
    found = tried(pictures, loader)
    assert [one.alike for one in found] == [True, False, False]
    assert best(found, painted=True) is found[0]
