"""What does not go together in a config, and what works but may not be meant; each with the keys it is about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.config.config import Config
from edge_agent.config.places import Loc
from edge_agent.config.station import StationConfig
from edge_agent.errors import ConfigError
from edge_agent.settings.password import PasswordConfig
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.folder.config import FolderConfig


def contradictions(data: Any) -> Iterator[tuple[Loc, str]]:
    """What does not go together, found in raw data so that it is told along with all other errors."""
    stations = data.get("stations") if isinstance(data, dict) else None
    names: dict[str, int] = {}
    for i, station in enumerate(stations if isinstance(stations, list) else []):
        if not isinstance(station, dict):
            continue
        if station.get("threshold") is not None and station.get("calibration") is not None:
            yield ("stations", i, "calibration"), "threshold and calibration exclude each other: remove one"
        name = station.get("name")
        if isinstance(name, str):
            first = names.setdefault(name.casefold(), i)
            if first != i:
                yield ("stations", i, "name"), f"{name!r} is the name of stations[{first}] already: take another"


def _loops(config: Config) -> Iterator[tuple[Loc, str]]:
    """A station must not inspect what the agent itself writes."""
    written = config.evidence.folder
    for i, station in enumerate(config.stations):
        if not isinstance(station.source, FolderConfig):
            continue
        watched, recursive = station.source.folder, station.source.recursive
        if written == watched or written in watched.parents or (recursive and watched in written.parents):
            text = f"would inspect the agent's own pictures in {written}: take another, or change evidence.folder"
            yield ("stations", i, "source", "folder"), text


def _shared(config: Config) -> Iterator[tuple[Loc, str]]:
    """A trigger is for one station: whoever saw it first would take it from the other."""
    folders: dict[Path, int] = {}
    for i, station in enumerate(config.stations):
        if isinstance(station.source, CameraConfig) and station.source.trigger and station.source.trigger.folder:
            first = folders.setdefault(station.source.trigger.folder, i)
            if first != i:
                text = f"is the trigger folder of stations[{first}] already: give each its own"
                yield ("stations", i, "source", "trigger", "folder"), text


def _unheard(config: Config) -> Iterator[tuple[Loc, str]]:
    """Commands come over a broker."""
    for i, station in enumerate(config.stations):
        if takes_commands(station) and config.mqtt is None:
            yield ("stations", i, "source", "trigger"), "mqtt wants a broker: add a section mqtt: {host: ...}"


def takes_commands(station: StationConfig) -> bool:
    """Whether MQTT commands ask for this station's pictures."""
    source = station.source
    return isinstance(source, CameraConfig) and source.trigger is not None and source.trigger.mqtt


def _blind(config: Config) -> Iterator[tuple[Loc, str]]:
    """A station must have something of its pictures left to inspect."""
    for i, station in enumerate(config.stations):
        if station.ignore:
            from edge_agent.line.mask import MASK_SIDE, keep_mask

            try:
                keep_mask(station.include, station.ignore, MASK_SIDE)
            except ConfigError as error:
                yield ("stations", i, "ignore"), str(error)


def doubts(config: Config) -> Iterator[tuple[Loc, str]]:
    watched: dict[Path, int] = {}
    for i, station in enumerate(config.stations):
        source: Loc = ("stations", i, "source")
        if isinstance(station.source, CameraConfig):
            yield from (((*source, *loc), text) for loc, text in _doubts_of_password(station.source.password))
            folder = station.source.trigger.folder if station.source.trigger else None
            place: Loc = (*source, "trigger", "folder")
        else:
            folder, place = station.source.folder, (*source, "folder")
        first = watched.setdefault(folder, i) if folder else i
        if first != i:
            yield place, f"{folder} is watched by stations[{first}] too: both inspect it"
        if folder and not os.path.exists(folder):
            yield place, f"{folder} does not exist yet; the station waits for it"
        made = station.calibration
        changed = made.differences(station.detector.class_name, station.include, station.ignore) if made else []
        if changed:
            text = f"was made with another {' and '.join(changed)}, so what it promises holds no more: calibrate again"
            yield ("stations", i, "calibration"), text
        if station.detector.method and station.chosen_threshold() is None:
            text = "nobody has measured a threshold for it, so 0.5 is taken: set threshold or calibration"
            yield ("stations", i, "detector", "method"), text
        if station.detector.windows > 1 and station.chosen_threshold() is None and not station.detector.method:
            text = "raises scores, and the checkpoint's threshold was chosen without: set threshold or calibration"
            yield ("stations", i, "detector", "windows"), text
        if takes_commands(station) and config.mqtt and not config.mqtt.results:
            text = "is told of alarms alone: set mqtt.results: true to have every verdict published"
            yield (*source, "trigger"), text
    mqtt = config.mqtt
    if mqtt and mqtt.password and not mqtt.tls and mqtt.host not in ("localhost", "127.0.0.1", "::1"):
        yield ("mqtt", "password"), "goes over the network unencrypted: add tls: {}, if the broker can"
    for key, section in (("mqtt", mqtt), ("database", config.database)):
        yield from (((key, *loc), text) for loc, text in _doubts_of_password(section.password if section else None))


def _doubts_of_password(password: PasswordConfig | None) -> Iterator[tuple[Loc, str]]:
    if password and password.missing():
        yield ("password",), str(password.missing())
    if password and password.file and password.file.stat().st_mode & 0o004:
        yield ("password", "file"), f"everyone may read {password.file}: chmod 600"


CHECKS = (_loops, _shared, _unheard, _blind)  # of a config that is valid section by section
