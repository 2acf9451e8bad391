"""The view of learning: what the corrections of a station would change, and then use it, leave it, or go back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge_agent.config.reload import change
from edge_agent.config.station import StationConfig
from edge_agent.detectors.header import read_header
from edge_agent.errors import CheckpointError, EdgeAgentError
from edge_agent.journal.labels import Labels
from edge_agent.learn.corrections import LEARNT_FROM, is_learnt
from edge_agent.page.access.accounts import Role
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.changes import Changes, learning
from edge_agent.page.configuring.config_file import (
    AT_START,
    BY_HAND,
    RESTART,
    TOLD,
    ConfigFile,
    HeldConfig,
    reload_agent,
)
from edge_agent.page.deciding.candidates import Candidates
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

METHOD = "patchcore"  # whose banks learn
EARLIER = 20  # changes that are shown
OUTCOMES: Mapping[str, str] = {"told": TOLD, "start": AT_START, "hand": BY_HAND, "restart": RESTART}


@dataclass(frozen=True, slots=True)
class Bank:
    """A bank of good parts. name: of its file. corrections: that it has learnt, as its header has them."""

    name: str
    corrections: Mapping[str, Mapping[str, Any]]


class LearnViews:
    """Answers for /learn."""

    def __init__(
        self, labels: Labels, config: ConfigFile, candidates: Candidates, changes: Changes, templates: Templates
    ) -> None:
        """Take what the view is made of.

        Args:
            labels: what people have said.
            config: says which bank a station looks with.
            candidates: makes banks that have learnt.
            changes: keeps who has had which bank used.
            templates: renders the view.
        """
        self._labels, self._config, self._candidates = labels, config, candidates
        self._changes, self._templates = changes, templates

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the view. guard: stands before it."""
        return [
            guard.get("/learn", self.learn, Role.ENGINEER),
            guard.post("/learn/make", self.make, Role.ENGINEER),
            guard.post("/learn/leave", self.leave, Role.ENGINEER),
            guard.post("/learn/use", self.use, Role.ENGINEER),
            guard.post("/learn/back", self.back, Role.ENGINEER),
        ]

    def learn(self, visit: Visit) -> Response:
        """Show what a station can learn, what that would change, and what it has learnt."""
        query = visit.request.query_params
        held = self._config.read()
        station = _station(held, query.get("station") or held.config.stations[0].name)
        return self._answered(visit, 200, OUTCOMES.get(query.get("saved", ""), ""), held, station)

    def make(self, visit: Visit) -> Response:
        """Begin to make a bank that has learnt."""
        held = self._config.read()
        station = _station(held, visit.form.get("station", ""))
        if not self._candidates.start(station.name, _who(visit)):
            return self._answered(
                visit, 409, "One is being made already, maybe of another station: wait for it.", held, station
            )
        return RedirectResponse(f"/learn?{urlencode({'station': station.name})}", 303)

    def leave(self, visit: Visit) -> Response:
        """Forget what was made, or stop making it: the station is as it was."""
        station = _station(self._config.read(), visit.form.get("station", ""))
        self._candidates.leave(station.name)
        return RedirectResponse(f"/learn?{urlencode({'station': station.name})}", 303)

    def use(self, visit: Visit) -> Response:
        """Have the station look with what was made, if nothing stands against it."""
        held = self._config.read()
        station = _station(held, visit.form.get("station", ""))
        found = self._candidates.of(station.name)
        if found is None or found.made is None or found.made["sha256"] != visit.form.get("made"):
            return self._answered(
                visit, 409, "What you have seen is no longer there: have it made and compared again.", held, station
            )
        if found.made["objections"] or not found.made["changes"]:
            return self._answered(visit, 409, "It may not be used, as something stands against it.", held, station)
        candidate = found
        digest = str(found.made["sha256"])[:12]
        return self._done(visit, held, station, digest, lambda: self._candidates.use(candidate, self._labels))

    def back(self, visit: Visit) -> Response:
        """Have the station look with an earlier bank."""
        held = self._config.read()
        station, which = _station(held, visit.form.get("station", "")), visit.form.get("bank", "")
        present, earlier = _banks(station)
        if present is None or visit.form.get("seen") != present.name or which not in [one.name for one in earlier]:
            return self._answered(
                visit, 409, "Somebody else has changed the bank meanwhile: look at it again.", held, station
            )
        return self._done(visit, held, station, which, lambda: self._candidates.back(station.name, which))

    def _done(
        self, visit: Visit, held: HeldConfig, station: StationConfig, after: str, act: Callable[[], Path]
    ) -> Response:
        """Have the station look with another bank, and the agent read its configuration again.

        Args:
            visit: what was asked, and by whom.
            held: the configuration as it was.
            station: as it was.
            after: the bank, for the log.
            act: does it.
        """
        before = station.detector.checkpoint.name if station.detector.checkpoint else ""
        try:
            with self._changes.recording(learning(_who(visit), station.name, before, after)):
                file = act()
        except EdgeAgentError as error:
            return self._answered(visit, 503, str(error), held, station)
        log.info("page: %s has %s look with %s in place of %s", _who(visit), station.name, file.name, before)
        said = reload_agent(held.config, change(held.config, self._config.read().config))
        outcome = next(key for key, sentence in OUTCOMES.items() if sentence == said)
        return RedirectResponse(f"/learn?{urlencode({'station': station.name, 'saved': outcome})}", 303)

    def _answered(self, visit: Visit, code: int, notice: str, held: HeldConfig, station: StationConfig) -> Response:
        present, earlier = _banks(station)
        return self._templates.answer(
            "learn.html",
            visit,
            code,
            notice=notice,
            station=station.name,
            stations=[one.name for one in held.config.stations],
            candidate=self._candidates.of(station.name),
            present=present,
            earlier=earlier,
            waiting=self._waiting(station.name, present) if present else 0,
            changes=self._changes.newest(EARLIER, "learning", station.name),
        )

    def _waiting(self, station: str, present: Bank) -> int:
        """Return how many labels a station's bank has not learnt."""
        return sum(
            label.value in LEARNT_FROM and not is_learnt(present.corrections.get(label.inspection), label)
            for label in self._labels.labelled(station)
        )


def _station(held: HeldConfig, name: str) -> StationConfig:
    number = held.number(name)
    if number is None:
        raise HTTPException(404, "The configuration has no such station.")
    return held.config.stations[number]


def _who(visit: Visit) -> str:
    return visit.person.name if visit.person else ""


def _banks(station: StationConfig) -> tuple[Bank | None, list[Bank]]:
    """Return the bank that a station looks with, None if it has none that learns, and the others beside it, the newest first."""
    path = station.detector.checkpoint
    present = None if path is None else _bank(path, None)
    if path is None or present is None:
        return None, []
    try:
        others = sorted(path.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime, reverse=True)
    except OSError:  # one is gone again
        others = []
    backbone = read_header(path)["backbone"]
    found = [_bank(one, backbone) for one in others if one.name != path.name]
    return present, [one for one in found if one is not None]


def _bank(path: Path, backbone: str | None) -> Bank | None:
    """Return a bank, None where the file is none, or one of another backbone than this."""
    try:
        header = read_header(path)
    except CheckpointError:
        return None
    if header["method"] != METHOD or backbone not in (None, header["backbone"]):
        return None
    return Bank(path.name, {str(one["inspection"]): one for one in header.get("corrections", ())})
