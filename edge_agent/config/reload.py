"""Decides which changes of the configuration take effect while the agent runs, and which need a restart; pure."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from edge_agent.config.config import Config
from edge_agent.config.station import StationConfig

FIXED = ("source", "detector")  # keys of a station that need a restart; the others are how it judges


@dataclass(frozen=True, slots=True)
class Change:
    """A change of configuration. config: in effect from now on. changed: keys that take effect now. waiting: that do not."""

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def change(running: Config, new: Config) -> Change:
    """Return how far a new configuration can take effect without a restart.

    A station whose detector changes keeps all its settings until then, as thresholds belong to their detector.
    """
    waiting = [key for key in _differing(running, new) if not key.startswith("stations")]
    wanted = {station.name: station for station in new.stations}
    waiting += [f"stations: {name} is new" for name in wanted if name not in {one.name for one in running.stations}]
    stations, changed = [], []
    for station in running.stations:
        after = wanted.get(station.name)
        if after is None:
            waiting.append(f"stations: {station.name} is gone")
        else:
            own = [f"{station.name}.{key}" for key in _differing(station, after)]
            held = [key for key in own if key.split(".")[1] in FIXED or station.detector != after.detector]
            waiting += held
            changed += [key for key in own if key not in held]
        stations.append(_with_rules_of(station, after))
    return Change(running.model_copy(update={"stations": tuple(stations)}), tuple(changed), tuple(waiting))


def _with_rules_of(station: StationConfig, after: StationConfig | None) -> StationConfig:
    if after is None or station.detector != after.detector:
        return station
    return after.model_copy(update={key: getattr(station, key) for key in FIXED})


def _differing(one: BaseModel, other: BaseModel) -> list[str]:
    """Return the keys in which two sections differ; those of nested sections as SECTION.KEY."""
    keys = []
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and type(before) is type(after):
            keys += [f"{name}.{key}" for key in _differing(before, after)]
        else:
            keys.append(name)
    return keys
