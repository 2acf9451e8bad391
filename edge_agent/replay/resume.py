"""What earlier runs of a replay have inspected, so that the same command continues where it stopped.

replay.json lies beside the journal. It holds the rules that each station's pictures are judged by, and after which row of
the journal that started. Only a replay by the same rules continues; another one needs --again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from edge_agent.core import Evaluation, Verdict
from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import write_durably
from edge_agent.journal.rows import Outcome
from edge_agent.line.inspect import Station
from edge_agent.line.judge import AlarmState, Rules, debounce

FORMAT = "edge-agent/replay/1"
REMEDY = "name another --out, or inspect everything again with --again, which adds to what is there"


class Outcomes(Protocol):
    """The part of the journal that resuming a replay needs."""

    def last_number(self, station: str | None = None) -> int: ...
    def outcomes(self, station: str, after: int) -> Iterator[Outcome]: ...


@dataclass(slots=True)
class Progress:
    """What earlier runs have inspected. counts: verdicts. alarms: the debounce state after the last of them, by station."""

    counts: Counter[Evaluation] = field(default_factory=Counter)
    alarms: dict[str, AlarmState] = field(default_factory=dict)
    _taken_at: dict[str, datetime] = field(default_factory=dict)

    def add(self, outcome: Outcome, station: str, rules: Rules) -> None:
        """Add one inspection; call in the order of recording.

        Args:
            outcome: the inspection.
            station: its station.
            rules: by which its alarm was debounced.
        """
        self.counts[outcome.evaluation] += 1
        verdict = Verdict(outcome.evaluation)
        self.alarms[station], _ = debounce(self.alarms.get(station, AlarmState()), verdict, outcome.score or 0.0, rules)
        if outcome.origin is not None:
            self._taken_at[outcome.origin] = outcome.taken_at

    def has_inspected(self, origin: str, taken_at: datetime | None) -> bool:
        """Return whether the picture at `origin` was inspected. taken_at: its time; None: of any time."""
        known = self._taken_at.get(origin)
        return known is not None and taken_at in (None, known)


def judging_rules(station: Station, class_name: str) -> dict[str, object]:
    """Return all that a station's verdicts depend on, as JSON: names, digests of models and config, thresholds."""
    return {"class_name": class_name, **asdict(station.trace), **asdict(station.rules)}


def start_after(out: Path, journal: Outcomes, station: str, rules: Mapping[str, object], *, again: bool) -> int:
    """Return after which row of the journal the station's replay started: an earlier one by the same rules, or this one.

    Args:
        out: folder of the replay.
        journal: the journal in it, open for writing, so that no other replay can start meanwhile.
        station: name of the station.
        rules: its judging_rules().
        again: start anew, whatever is there.

    Raises:
        EdgeAgentError: if inspections of the station were judged by other rules.
    """
    path = out / "replay.json"
    stations = _read(path)
    found = stations.get(station)
    last = journal.last_number(station)
    if not again and last > (found["after"] if found else 0):
        if found is None:
            raise EdgeAgentError(
                f"{out} holds inspections of station {station}, and not what they were judged by: {REMEDY}"
            )
        if changed := _changed(found["judged_by"], rules):
            raise EdgeAgentError(f"{out} was started with other settings, and cannot hold both ({changed}): {REMEDY}")
        return int(found["after"])
    after = journal.last_number()
    stations[station] = {"after": after, "judged_by": dict(rules)}
    try:
        write_durably(path, json.dumps({"format": FORMAT, "stations": stations}, indent=2).encode() + b"\n")
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error
    return after


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        return dict(content["stations"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeAgentError(
            f"{path}: damaged, or of another version ({error}): name another --out, or move the file away and say --again"
        ) from error


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return what differs, such as "threshold 0.5, now 0.6"; empty if nothing does."""
    names = [*before, *(name for name in now if name not in before)]
    differ = [name for name in names if before.get(name) != now.get(name)]
    return "; ".join(f"{name} {_short(before.get(name))}, now {_short(now.get(name))}" for name in differ)


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
