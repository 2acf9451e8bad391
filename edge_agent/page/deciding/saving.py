"""Puts another threshold into config.yaml: as a new calibration beside the present one, or as its line `threshold`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.config.edit import with_key, with_values
from edge_agent.config.places import parse
from edge_agent.config.reload import Change
from edge_agent.config.station import StationConfig
from edge_agent.errors import ConfigError
from edge_agent.io.files import write_durably, write_errors
from edge_agent.line.calibration import Calibration, read_calibration
from edge_agent.page.configuring.config_file import ConfigFile, HeldConfig

_CALIBRATION, _CHECKPOINT = "-calibration.json", ".safetensors"


@dataclass(frozen=True, slots=True)
class Note:
    """Who sets a threshold, what it is to be called, and why."""

    who: str
    name: str
    reason: str


def in_use(station: StationConfig) -> Mapping[str, object]:
    """Return the threshold of a station, for the log of changes. calibration: its id; None for a line of config.yaml."""
    calibration = station.calibration
    return {"threshold": station.effective_threshold(), "calibration": calibration.id if calibration else None}


def mark_of(station: StationConfig) -> str:
    """Return what a form says was seen: it changes whenever somebody saves another threshold."""
    return ":".join(str(one) for one in in_use(station).values())


def calibrations(config: ConfigFile, held: HeldConfig, station: str) -> Sequence[Calibration]:
    """Return the calibrations of the checkpoint that a station uses, as far as they are beside its own.

    Args:
        config: the file.
        held: it as it is.
        station: name of the station, which is in it.
    """
    own = held.config.station(station).calibration
    path = _path(config, held, station)
    if own is None or path is None:
        return ()
    found = []
    for each in sorted(path.parent.glob("*.json")):
        try:
            found.append(read_calibration(each))
        except ConfigError:  # another file
            continue
    return [one for one in found if one.checkpoint_sha256 == own.checkpoint_sha256]


def promises(known: Sequence[Calibration]) -> list[tuple[float, float]]:
    """Return thresholds, the lowest first, and the share of good parts that each promises not to exceed, at 95 %.

    known: calibrations of one checkpoint. What one promises holds for every higher threshold, too.
    """
    found: list[tuple[float, float]] = []
    for one in sorted(known, key=lambda one: one.threshold):
        if one.false_alarm_interval is None:
            continue
        promised = one.false_alarm_interval[1]
        if not found or promised < found[-1][1]:
            found.append((one.threshold, promised))
    return found


def save(config: ConfigFile, seen: HeldConfig, station: str, threshold: float, note: Note) -> Change:
    """Have a station judge by another threshold from the next reload on.

    Args:
        config: the file.
        seen: it as it was looked at.
        station: name of the station, which is in it.
        threshold: in [0, 1].
        note: goes into a new calibration.

    Returns:
        What of it takes effect at a reload, and what waits for a restart.

    Raises:
        ConfigError: the agent would refuse it, or the station's lines cannot be changed alone.
        EdgeAgentError: somebody else has changed the file, or a file cannot be written. All files are as they were.
    """
    written: list[Path] = []
    try:
        return config.replace(seen.sha256, lambda held: _edited(config, held, station, threshold, note, written))
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _edited(
    config: ConfigFile, held: HeldConfig, station: str, threshold: float, note: Note, written: list[Path]
) -> str:
    """Return the new text of config.yaml; a calibration that it names is written, and added to `written`."""
    number, path = held.number(station), _path(config, held, station)
    assert number is not None
    own = held.config.stations[number].calibration
    if own is None or path is None:
        edited = with_key(held.text, ("stations", number), "threshold", repr(threshold))
    else:
        made = _calibration(own, threshold, note, calibrations(config, held, station))
        new = _next(path)
        at = ("stations", number, "calibration")
        named = str(parse(held.text).data["stations"][number]["calibration"])
        edited = with_values(held.text, {at: f"{named[: len(named) - len(path.name)]}{new.name}"})
        if edited is not None:
            written.append(new)
            with write_errors(
                new, f"free some space, or let user {os.geteuid()} write there; the threshold is as it was"
            ):
                write_durably(new, made)
    if edited is None:
        raise ConfigError(
            f"station {station} shares its lines in config.yaml with others, so they cannot be changed alone: write its threshold"
            " by hand"
        )
    return edited


def _path(config: ConfigFile, held: HeldConfig, station: str) -> Path | None:
    written = parse(held.text).data["stations"][held.number(station)].get("calibration")
    return None if written is None else config.folder / Path(written).expanduser()


def _next(path: Path) -> Path:
    """Return the next free name beside a calibration: cam1-4-calibration.json, where cam1-3 is the last bank or calibration."""
    ending = _CALIBRATION if path.name.endswith(_CALIBRATION) else path.suffix
    base = re.sub(r"-\d+$", "", path.name.removesuffix(ending))
    made = re.compile(rf"{re.escape(base)}(?:-(\d+))?(?:{re.escape(ending)}|{re.escape(_CHECKPOINT)})")
    numbers = [int(found[1] or 1) for one in path.parent.iterdir() if (found := made.fullmatch(one.name))]
    return path.with_name(f"{base}-{max(numbers, default=1) + 1}{ending}")


def _calibration(own: Calibration, threshold: float, note: Note, known: Sequence[Calibration]) -> bytes:
    """Return a calibration with another threshold, which promises no more than was measured.

    Args:
        own: the present one.
        threshold: the other one.
        note: who sets it.
        known: calibrations of the same checkpoint.
    """
    rate, interval = _promised(threshold, own, known)
    now = datetime.now(timezone.utc)
    key = hashlib.sha256(f"{own.id} {threshold!r} {now.isoformat()}".encode()).hexdigest()[:6]
    made = own.model_copy(
        update={
            "id": f"c-{now:%Y%m%d}-{key}",
            "threshold": threshold,
            "false_alarm_rate": rate,
            "false_alarm_interval": interval,
            "created": now,
            "set_by": note.who,
            "name": note.name,
            "reason": note.reason,
        }
    )
    return made.model_dump_json(by_alias=True, indent=1, exclude_none=True).encode() + b"\n"


def _promised(
    threshold: float, own: Calibration, known: Sequence[Calibration]
) -> tuple[float, tuple[float, float] | None]:
    """Return the lowest rate of false alarms that was measured at a threshold or below, with its interval.

    Below all that was measured it is as many as lay above it of the good pictures, and there is no interval.
    """
    measured = [one for one in (own, *known) if one.threshold <= threshold]
    if not measured:
        below = [int(percent) for percent, score in (own.score_quantiles or {}).items() if score < threshold]
        return max(own.false_alarm_rate, 1 - max(below, default=0) / 100), None
    best = min(measured, key=lambda one: (one.false_alarm_rate, one.threshold != threshold))
    interval = best.false_alarm_interval
    if interval is not None and best.threshold < threshold:
        interval = (0.0, interval[1])
    return best.false_alarm_rate, interval
