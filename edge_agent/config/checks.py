"""Finds contradictions in a config, and what works but may not be meant; each with its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent.config.config import Config
from edge_agent.config.station import StationConfig
from edge_agent.errors import ConfigError
from edge_agent.settings.section import Loc
from edge_agent.settings.sources import WatchedFolder


def contradictions(data: Any) -> Iterator[tuple[Loc, str]]:
    """Yield what does not go together, found in raw data so that it is reported along with all other errors."""
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


def _watched(config: Config) -> Iterator[tuple[int, Loc, WatchedFolder]]:
    """Yield the folders that stations watch: the station's index, the place of the key, the folder."""
    for i, station in enumerate(config.stations):
        for folder in station.source.folders():
            yield i, ("stations", i, "source", *folder.loc), folder


def _first_watchers(config: Config) -> Mapping[Path, int]:
    """Map each watched folder to the first station that watches it."""
    first: dict[Path, int] = {}
    for i, _, folder in _watched(config):
        first.setdefault(folder.path, i)
    return first


def _check_own_pictures_not_watched(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations that would inspect what the agent itself writes."""
    written = config.evidence.folder
    for _, loc, folder in _watched(config):
        around = folder.recursive and folder.path in written.parents
        if folder.holds_pictures and (written in (folder.path, *folder.path.parents) or around):
            yield loc, f"would inspect the agent's own pictures in {written}: take another, or change evidence.folder"


def _check_trigger_folders_not_shared(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield trigger folders of two stations: the one that sees a file first would take it from the other."""
    first: dict[Path, int] = {}
    for i, loc, folder in _watched(config):
        if not folder.holds_pictures and first.setdefault(folder.path, i) != i:
            text = f"is the trigger folder of stations[{first[folder.path]}] already: give each its own"
            yield loc, text


def _check_commands_have_broker(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations that take commands without a broker to receive them from."""
    for i, station in enumerate(config.stations):
        if station.source.takes_commands and config.mqtt is None:
            yield ("stations", i, "source", "trigger"), "mqtt wants a broker: add a section mqtt: {host: ...}"


def _check_masks_leave_area(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations whose masks leave nothing of the picture to inspect."""
    for i, station in enumerate(config.stations):
        if station.ignore:
            from edge_agent.line.mask import MASK_SIDE, keep_mask

            try:
                keep_mask(station.include, station.ignore, MASK_SIDE)
            except ConfigError as error:
                yield ("stations", i, "ignore"), str(error)


CHECKS = (  # of a config that is valid section by section
    _check_own_pictures_not_watched,
    _check_trigger_folders_not_shared,
    _check_commands_have_broker,
    _check_masks_leave_area,
)


def warnings(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield what works, or will, but may not be meant."""
    first = _first_watchers(config)
    for i, loc, folder in _watched(config):
        if first[folder.path] != i:
            yield loc, f"{folder.path} is watched by stations[{first[folder.path]}] too: both inspect it"
    for i, station in enumerate(config.stations):
        yield from ((("stations", i, *loc), text) for loc, text in _station_warnings(station))
        if station.source.takes_commands and config.mqtt and not config.mqtt.results:
            text = "gets only the alarms: set mqtt.results: true to have every verdict published"
            yield ("stations", i, "source", "trigger"), text
    for key, sink in config.sinks().items():
        yield from (((key, *loc), text) for loc, text in sink.warnings())
    if config.database.password:
        yield from ((("database", "password", *loc), text) for loc, text in config.database.password.warnings())


def _station_warnings(station: StationConfig) -> Iterator[tuple[Loc, str]]:
    """Yield what may not be meant of one station, each with its key within the station's section."""
    yield from ((("source", *loc), text) for loc, text in station.source.warnings())
    made = station.calibration
    changed = made.differences(station.detector.class_name, station.include, station.ignore) if made else []
    if changed:
        text = (
            f"was made with another {' and '.join(changed)}, so its false-alarm rate no longer holds: calibrate again"
        )
        yield ("calibration",), text
    if station.chosen_threshold() is not None:
        return
    if station.detector.method:
        text = "nobody has measured a threshold for it, so 0.5 is taken: set threshold or calibration"
        yield ("detector", "method"), text
    elif station.detector.windows > 1:
        text = "raises scores, and the checkpoint's threshold was chosen without windows: set threshold or calibration"
        yield ("detector", "windows"), text
