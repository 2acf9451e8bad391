"""Prompts that `trainer station --time` fits on painted defects: measured on parts they were not fitted on, taken on real defects alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from edge_agent.config.station import StationConfig
from edge_agent.detectors.checkpoint import save_checkpoint
from edge_agent.inference.load import Loader
from tests.drilled import folder, part
from trainer.commands.station import minutes
from trainer.station import candidates, prompts
from trainer.station.candidates import Candidate
from trainer.station.choice import best, measured
from trainer.station.pictures import PictureSet, picture_set
from trainer.station.present import Present
from trainer.station.prompts import fitted_prompts
from trainer.station.table import notes


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> PictureSet:
    place = tmp_path_factory.mktemp("shown")
    good = folder(place / "good", [part(seed) for seed in range(3)])
    bad = folder(place / "bad", [part(9, lacking=True)])
    return picture_set(sorted(good.iterdir()), sorted(bad.iterdir()))


@pytest.fixture(scope="module")
def fitted(shown) -> Candidate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "COUNT", 4)
        patch.setattr(candidates, "TIMED", 1)
        patch.setattr(candidates, "BATCH", 1)
        found = fitted_prompts(shown, "part", 0.01, 0, Loader(), lambda n: None)
    assert found is not None
    return found


def test_each_good_part_is_read_with_prompts_that_were_not_fitted_on_it(shown, fitted, tmp_path):
    readers = [fitted.reader(number) for number in range(3)]
    assert readers[0] is readers[2]
    assert len({one.info.checkpoint_sha256 for one in (*readers, fitted.detector)}) <= 3
    assert readers[0].read([part(0)])[0].score != readers[1].read([part(0)])[0].score
    assert [one["name"] for one in fitted.checkpoint.header["good"]] == ["part0.png", "part1.png", "part2.png"]
    save_checkpoint(fitted.checkpoint, tmp_path / "prompts.safetensors")
    loaded = Loader().detector("embedded", tmp_path / "prompts.safetensors", "part").read([part(5)])[0]
    assert loaded.score == pytest.approx(fitted.detector.read([part(5)])[0].score, abs=1e-5)


def test_a_single_good_part_leaves_none_to_measure_on(tmp_path):
    good = folder(tmp_path / "good", [part(0)])
    assert fitted_prompts(picture_set(sorted(good.iterdir()), []), "part", 1, 0, Loader(), lambda n: None) is None


def test_prompts_fitted_on_painted_defects_are_taken_on_real_ones_alone(shown, fitted):
    perfect = replace(fitted, bad=np.ones(1, np.float32), scores=np.zeros(3, np.float32))
    blind = replace(fitted, bad=np.zeros(1, np.float32), scores=np.full(3, 0.5, np.float32), fitted=False)
    found = [measured(one, Fraction(1, 4)) for one in (perfect, blind)]
    assert best(found, painted=True) is found[1]
    assert best(found, painted=False) is found[0]
    painted = replace(shown, bad=[replace(one, painted_on=0) for one in shown.bad])
    assert any("flattered by painted ones" in one for one in notes(found, found[1], painted))
    assert not any("flattered by painted ones" in one for one in notes(found, found[0], shown))


def test_a_station_with_such_prompts_is_not_compared_on_the_parts_that_it_was_fitted_on(shown, fitted, tmp_path):
    save_checkpoint(fitted.checkpoint, tmp_path / "cam1.safetensors")
    section = {"name": "cam1", "source": {"folder": "in"}, "detector": {"checkpoint": "cam1.safetensors"}}
    config = StationConfig.model_validate(section, context={"folder": tmp_path})
    good = {one.sha256: path for one, path in zip(shown.good, shown.paths, strict=True)}
    there = Present(config, {}, config.detector.header(), good, [])
    assert not there.compared
    assert "give --time again" in " ".join(there.cautions())


@pytest.mark.parametrize("text", ["0", "-1", "x", "inf", "nan"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(Exception, match="is no number of minutes"):
        minutes(text)
