"""Finds contradictions in a config, and what works but may not be meant; each with its key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from edge_agent.backbones.families import catalog, family_of
from edge_agent.backbones.weights.digests import measure
from edge_agent.backbones.weights.store import fetch_remedy, search_folders
from edge_agent.config.config import Config
from edge_agent.config.polygons import area
from edge_agent.config.station import StationConfig
from edge_agent.detectors.header import require_backbone
from edge_agent.detectors.systems import absence_of_prompts
from edge_agent.errors import CheckpointError, ConfigError
from edge_agent.settings.section import Loc
from edge_agent.settings.sinks import MQTT, OPCUA, SinkSection
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


def _check_requests_have_a_sink(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations whose pictures are to be requested by what is not configured, such as a broker."""
    for i, station in enumerate(config.stations):
        key = station.source.requested_by
        if key and key not in config.sinks():
            wants = {MQTT: "a broker: add a section mqtt: {host: ...}", OPCUA: "a server: add a section opcua: {...}"}
            yield ("stations", i, "source", "trigger"), f"{key} wants {wants[key]}"


def _check_own_sinks_do_not_clash(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations whose own sinks, such as PLCs, get in the way of those of a station before."""
    before: list[tuple[int, str, SinkSection]] = []
    for i, station in enumerate(config.stations):
        for kind, section in station.source.own_sinks().items():
            for first, other_kind, other in before:
                if kind == other_kind and (clash := section.clash(other)):
                    loc, text = clash
                    yield (
                        ("stations", i, "source", "trigger", kind, *loc),
                        f"{text} of stations[{first}]: give each its own",
                    )
            before.append((i, kind, section))


def _check_masks_leave_area(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations whose masks leave nothing of the picture to inspect."""
    for i, station in enumerate(config.stations):
        if station.ignore:
            from edge_agent.line.mask import MASK_SIDE, keep_mask

            try:
                keep_mask(station.include, station.ignore, MASK_SIDE)
            except ConfigError as error:
                yield ("stations", i, "ignore"), str(error)


def _check_defects_can_count(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations that call every picture good, as no defect can be large enough, or too little is inspected."""
    for i, station in enumerate(config.stations):
        share = _inspected_share(station)
        if 0 < share < LEAST_SHARE:
            text = (
                f"leaves {share:.4%} of the picture to inspect, which is too little to see anything in: make it larger"
            )
            yield ("stations", i, "include"), text
        elif 0 < share <= station.min_area:
            text = f"is {station.min_area:g}, but {share:.3g} of the picture is inspected: no defect would ever count"
            yield ("stations", i, "min_area"), text


def _inspected_share(station: StationConfig) -> float:
    """Return which share of the picture include and ignore leave, in [0, 1]; 0 where they leave nothing."""
    if not station.include and not station.ignore:
        return 1.0
    from edge_agent.line.mask import MASK_SIDE, keep_mask

    try:
        kept = keep_mask(station.include, station.ignore, MASK_SIDE)
    except ConfigError:
        return 0.0
    drawn = 1.0 if kept is None else float(kept.mean())
    # On the mask an outline covers whole pixels, so that the tiniest polygon covers a few.
    return min(drawn, sum(map(area, station.include))) if station.include else drawn


def _check_prompts_fit(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield checkpoints and calibrations that were made for another model than the station's, as far as digests tell."""
    folders = search_folders(config.agent.data_dir)
    for i, station in enumerate(config.stations):
        detector = station.detector
        try:
            prompts, header = detector.prompts(folders), detector.header(folders)
            digest = family_of(detector.model).digest(detector.model, folders)
            if header and prompts:
                require_backbone(header, prompts, detector.model, digest or _digest_by_name(header, detector.model))
        except CheckpointError as error:
            yield ("stations", i, "detector", "checkpoint"), str(error)
            continue
        made = station.calibration
        if made is None:
            continue
        read_at = detector.image_size or (header["image_size"] if header else made.image_size)
        prompts_sha256 = measure(prompts)["sha256"] if prompts else made.checkpoint_sha256
        try:
            made.require_fit(digest or made.model_sha256, prompts_sha256, read_at, detector.windows, detector.squares)
        except ConfigError as error:
            yield ("stations", i, "calibration"), str(error)


def _digest_by_name(header: Mapping[str, Any], model: str) -> str:
    """Return a digest for a model that is not on this machine: the checkpoint's, unless that is for another known model."""
    known = {header["backbone"], model} <= catalog().keys()
    return "not fetched" if known and header["backbone"] != model else str(header["backbone_sha256"])


def unreadable_folders(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield folders that this user may not list. No error for the agent, which waits until it may."""
    for _, loc, folder in _watched(config):
        try:
            os.scandir(folder.path).close()
        except FileNotFoundError:
            pass
        except OSError as error:
            remedy = f"let user {os.geteuid()} read and enter it, or correct the path"
            yield loc, f"{folder.path} cannot be read ({error.strerror}): {remedy}"


def squeezed_pictures(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield stations that squeeze elongated pictures into a square, as far as the first few in their folders tell."""
    from edge_agent.inference.squares import is_elongated
    from edge_agent.io.pictures import size_by_header
    from edge_agent.sources.names import Names

    for i, _, folder in _watched(config):
        detector, made = config.stations[i].detector, config.stations[i].calibration
        reads_squares = detector.squares if detector.squares is not None else made is None or made.squares
        if reads_squares or not folder.holds_pictures:
            continue
        for path in islice(Names(recursive=folder.recursive).files(os.fspath(folder.path), []), LOOKED_AT):
            size = size_by_header(path)
            if size and is_elongated(size):
                text = (
                    f"{os.path.basename(path)!r} has {size[0]} x {size[1]} pixels and is squeezed into a square, which hides "
                    "small defects: set squares: true, and calibrate again"
                )
                yield ("stations", i, "detector"), text
                break


CHECKS = (  # of a config that is valid section by section
    _check_own_pictures_not_watched,
    _check_trigger_folders_not_shared,
    _check_requests_have_a_sink,
    _check_own_sinks_do_not_clash,
    _check_masks_leave_area,
    _check_defects_can_count,
    _check_prompts_fit,
)
LOOKED_AT = 20  # pictures in a folder whose headers are read
LEAST_SHARE = 1e-4  # of the picture: a hundredth of it along each side, far less than one patch of a detector


def warnings(config: Config) -> Iterator[tuple[Loc, str]]:
    """Yield what works, or will, but may not be meant."""
    first = _first_watchers(config)
    for i, loc, folder in _watched(config):
        if first[folder.path] != i:
            yield loc, f"{folder.path} is watched by stations[{first[folder.path]}] too: both inspect it"
    for i, station in enumerate(config.stations):
        yield from ((("stations", i, *loc), text) for loc, text in _station_warnings(station))
        is_answered = station.source.verdict_within_s is not None
        if station.source.requested_by == MQTT and config.mqtt and not config.mqtt.results and not is_answered:
            text = "gets only the alarms: set mqtt.results: true to have every verdict published"
            yield ("stations", i, "source", "trigger"), text
    for i, station in enumerate(config.stations):
        model = station.detector.model
        folders = search_folders(config.agent.data_dir)
        if family_of(model).is_absent(model, folders):
            yield ("stations", i, "detector", "model"), f"{model} is not on this machine: {fetch_remedy(model)}"
        elif station.detector.takes_published_prompts() and station.detector.prompts(folders) is None:
            yield ("stations", i, "detector", "model"), absence_of_prompts(model)
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
    threshold = station.effective_threshold()
    place = "calibration" if made else "threshold"
    if threshold >= 1:
        yield (place,), "is 1, the highest score there is: hardly any defect will be NotOK"
    elif threshold <= 0:
        yield (place,), "is 0, which every score reaches: every picture will be NotOK"
    if station.chosen_threshold() is not None:
        return
    if station.detector.method:
        text = "nobody has measured a threshold for it, so 0.5 is taken: set threshold or calibration"
        yield ("detector", "method"), text
    elif station.detector.takes_published_prompts():
        text = "nobody has measured a threshold for published prompts, so 0.5 is taken: set threshold or calibration"
        yield ("detector", "model"), text
    elif station.detector.windows > 1:
        text = "raises scores, and the checkpoint's threshold was chosen without windows: set threshold or calibration"
        yield ("detector", "windows"), text
