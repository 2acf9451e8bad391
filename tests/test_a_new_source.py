"""A source is one class of config and one member of the union: one that is added from outside works in every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import reduce
from operator import or_
from pathlib import Path
from threading import Event
from typing import ClassVar

import numpy as np
import pytest

from edge_agent.config.config import Config
from edge_agent.config.load import load_config
from edge_agent.config.station import StationConfig
from edge_agent.core import Frame, SourceCounts, SourceStatus
from edge_agent.errors import ConfigError
from edge_agent.line.calibration import read_calibration
from edge_agent.settings.finding import Finding
from edge_agent.settings.sources import SourceSection
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.folder.config import FolderConfig
from tests.agent import Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.test_health import get, samples
from tests.walk import Walk
from trainer.cli import main as trainer


class NullConfig(SourceSection):
    """So many grey pictures, and then nothing more."""

    key: ClassVar[str] = "null_pictures"

    null_pictures: int

    def build(self, station, ledger, *, max_megapixels, triggers):
        return NullSource(station, self.null_pictures)

    def describe(self):
        return f"{self.null_pictures} pictures of nothing"

    def check(self, station, *, max_megapixels):
        yield Finding("source", "ok", f"{station}: there is nothing, as there should be")

    def warnings(self):
        if self.null_pictures > 2:
            yield ("null_pictures",), "is more than anybody needs"


class NullSource:
    """Gives grey pictures of 48 x 64."""

    live = False

    def __init__(self, station: str, pictures: int) -> None:
        self.station, self._pictures, self._given = station, pictures, 0

    def frames(self, stop: Event) -> Iterator[Frame]:
        while self._given < self._pictures:
            self._given += 1
            yield Frame(self.station, self._given - 1, datetime.now(timezone.utc), np.full((48, 64, 3), 128, np.uint8))
        stop.wait()

    def counts(self) -> SourceCounts:
        return SourceCounts(self._given, events={"voids": 7})

    def status(self) -> SourceStatus:
        return SourceStatus(self._given == 0, "has nothing more" if self._given else None)


SOURCES = (FolderConfig, CameraConfig)


def unite(*members: type[SourceSection]) -> None:
    """Make these the kinds of source that a station may have, as the members of SourceConfig are."""
    StationConfig.model_fields["source"].annotation = reduce(or_, members)
    StationConfig.model_rebuild(force=True)
    Config.model_rebuild(force=True)


def add() -> None:
    unite(*SOURCES, NullConfig)


@pytest.fixture
def walk(tmp_path, capsys) -> Iterator[Walk]:
    add()
    walk = Walk(tmp_path, "tipsomaly/embedded", {}, capsys)
    walk.config = write_config(tmp_path, station(source={"null_pictures": 2}), health={"port": walk.port})
    yield walk
    unite(*SOURCES)


def test_check_describes_it_and_passes_on_its_warnings(walk):
    told = walk.check()
    assert "watches   2 pictures of nothing" in told
    assert not [line for line in told.splitlines() if line.startswith("warning") and "source" in line]
    write_config(walk.folder, station(source={"null_pictures": 3}))
    assert "stations[0].source.null_pictures: is more than anybody needs" in walk.check()


def test_a_mistake_in_it_has_its_place_and_what_is_known(walk):
    for source, told in (
        ({"null_picture": 2}, "stations[0].source.null_picture: unknown key; did you mean 'null_pictures'?"),
        ({"null_pictures": "two"}, "stations[0].source.null_pictures: is 'two'; wants a whole number"),
        ({"null_pictures": 2, "fps": 3}, "stations[0].source.fps: unknown key; known here: null_pictures"),
    ):
        with pytest.raises(ConfigError) as error:
            load_config(write_config(walk.folder, station(source=source)))
        assert told in str(error.value)


def test_doctor_asks_it(walk):
    lines = walk.said("doctor", "--config", str(walk.config), "--json").splitlines()
    (own,) = [one for one in map(json.loads, lines) if one["name"] == "source"]
    assert own == {"name": "source", "state": "ok", "text": "cam1: there is nothing, as there should be"}


def test_the_daemon_inspects_its_pictures_and_metrics_tell_its_counts_and_status(walk):
    with Daemon(walk.config, before=add) as daemon:
        wait_until(lambda: len(daemon.rows) == 2, "both are in the journal")
        wait_until(lambda: samples(get(walk.port, "/metrics")[1]).get(("score_count", "cam1")) == 2, "both are counted")
        counted = samples(get(walk.port, "/metrics")[1])
        daemon.stop()
    assert counted["frames_captured_total", "cam1"] == 2
    assert counted["source_events_total", "cam1", "voids"] == 7
    assert counted["source_up", "cam1"] == 0
    assert not any(value for name, value in counted.items() if name[0] == "collector_failures_total")


def test_stored_pictures_are_replayed_as_those_of_its_station(walk):
    assert "1 NotOK" in walk.replay()


def test_its_station_is_calibrated(walk):
    good, made = walk.folder / "good", walk.folder / "calibration.json"
    for number in range(9):
        part(good / f"{number}.png", number)
    command = ["calibrate", "--config", str(walk.config), "--good", str(good), "--false-alarm-rate", "0.2"]
    walk.said(*command, "--out", str(made), program=trainer)
    assert read_calibration(Path(made)).good_pictures == 9


def test_once_it_is_gone_the_config_knows_it_no_more(walk):
    unite(*SOURCES)
    with pytest.raises(ConfigError, match=r"source\.null_pictures: unknown key; known here: folder"):
        load_config(walk.config)
