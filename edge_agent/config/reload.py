"""Decides which changes of the configuration take effect while the agent runs, and which need a restart; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from edge_agent.config.config import Config
from edge_agent.config.detector import DetectorConfig
from edge_agent.config.station import StationConfig

LONGEST = 80  # characters of a value in the log
FIXED = "source"  # key of a station that needs a restart


@dataclass(frozen=True, slots=True)
class Change:
    """A change of configuration.

    config: in effect from now on. changed: keys that take effect now. waiting: keys that do not. values: the old and the new
    value of each key that has both, as text.
    """

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]
    values: Mapping[str, tuple[str, str]]

    def shown(self, key: str) -> str:
        """Return a key with its old and its new value, for logs."""
        return f"{key} {' -> '.join(self.values[key])}" if key in self.values else key


def change(running: Config, new: Config) -> Change:
    """Return how far a new configuration can take effect without a restart.

    A station whose detector changes keeps all its settings until then, as thresholds belong to their detector. Another
    checkpoint on the same model takes effect now: it loads in a moment, which a model does not.
    """
    values = {key: pair for key, pair in _differing(running, new).items() if not key.startswith("stations")}
    waiting = list(values)
    wanted = {station.name: station for station in new.stations}
    waiting += [f"stations: {name} is new" for name in wanted if name not in {one.name for one in running.stations}]
    stations, changed = [], []
    for station in running.stations:
        after = wanted.get(station.name)
        if after is None:
            waiting.append(f"stations: {station.name} is gone")
        else:
            found = _differing(station, after)
            own = [f"{station.name}.{key}" for key in found]
            values |= zip(own, found.values(), strict=True)
            held = [key for key in own if key.split(".")[1] == FIXED or not _follows(station.detector, after.detector)]
            waiting += held
            changed += [key for key in own if key not in held]
        stations.append(_with_rules_of(station, after))
    return Change(running.model_copy(update={"stations": tuple(stations)}), tuple(changed), tuple(waiting), values)


def _with_rules_of(station: StationConfig, after: StationConfig | None) -> StationConfig:
    if after is None or not _follows(station.detector, after.detector):
        return station
    return after.model_copy(update={FIXED: station.source})


def _follows(running: DetectorConfig, new: DetectorConfig) -> bool:
    """Return whether a detector can be had in place of another at once: nothing but its checkpoint is another."""
    if running.checkpoint is None or new.checkpoint is None:
        return running == new
    return running.model_copy(update={"checkpoint": new.checkpoint}) == new


def _differing(one: BaseModel, other: BaseModel) -> dict[str, tuple[str, str]]:
    """Return the keys in which two sections differ, those of nested sections as SECTION.KEY, with both values as text."""
    keys: dict[str, tuple[str, str]] = {}
    for name in type(one).model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and type(before) is type(after):
            keys |= {f"{name}.{key}": pair for key, pair in _differing(before, after).items()}
        else:
            keys[name] = (_text(before), _text(after))
    return keys


def _text(value: object) -> str:
    if isinstance(value, BaseModel):  # a section that is given up for another kind of it, or for none
        return ", ".join(f"{key}: {_text(each)}" for key, each in value if key in value.model_fields_set) or "defaults"
    text = "none" if value in (None, ()) else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
