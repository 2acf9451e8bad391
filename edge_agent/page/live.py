"""The line as it is now: a tile for each station, sent again every second, and its standing alarm, which can be acknowledged."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from edge_agent.core import Evaluation
from edge_agent.errors import EdgeAgentError
from edge_agent.journal.reader import JournalReader
from edge_agent.journal.review import JournalReview, Mark, StandingAlarm
from edge_agent.journal.rows import RecordedInspection
from edge_agent.mqtt.messages import acknowledged_message, acknowledgement_id
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Sessions, Visit
from edge_agent.page.agent_state import AgentState
from edge_agent.page.asked import inspection_id
from edge_agent.page.changes import Change, Changes
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

EVERY_S = 1.0  # between two looks at the journal, however many people look
ALL_S = 60.0  # between two at all stations, as retention deletes pictures
CHECKED_S = 10.0  # between two looks whether who looks may still do so
OLD = timedelta(minutes=5)
VIEWERS = 50  # at the same time


@dataclass(frozen=True, slots=True)
class Tile:
    """A station as it is now.

    newest: None if nothing was inspected yet. alarm: None if none stands. blind: why it gives no verdicts now, None if it does
    or nobody knows. is_known: whether the agent says how it is. parts, not_ok: since midnight. drifted: what of its pictures is
    not as calibrated. waiting: pictures to be inspected, None if nobody knows. unsent: messages of all stations.
    """

    station: str
    newest: RecordedInspection | None
    alarm: StandingAlarm | None
    blind: str | None
    is_known: bool
    parts: int
    not_ok: int
    drifted: tuple[str, ...] = ()
    waiting: int | None = None
    unsent: int = 0

    @property
    def state(self) -> str:
        """Return what the tile is to look like: alarm, blind, bad, good or none."""
        if self.alarm is not None:
            return "alarm"
        if self.blind is not None:
            return "blind"
        if self.newest is None or (not self.is_known and self.is_old):
            return "none"
        return {Evaluation.OK: "good", Evaluation.NOT_OK: "bad"}.get(self.newest.verdict.evaluation, "blind")

    @property
    def is_old(self) -> bool:
        """Return whether the newest inspection was recorded so long ago that the agent may have ended since."""
        return self.newest is not None and datetime.now(timezone.utc) - self.newest.inspected_at > OLD


class Tiles:
    """Looks at the journal and the agent at most once in EVERY_S, whoever asks. Thread-safe."""

    def __init__(
        self,
        journal: JournalReview,
        stations: Sequence[str],
        agent: Callable[[], AgentState | None],
        zone: tzinfo | None,
    ) -> None:
        """Look at nothing yet.

        Args:
            journal: of the agent.
            stations: as the configuration names them.
            agent: asks the agent how it is; returns None where that cannot be known.
            zone: whose midnight begins a day; None for this machine's.
        """
        self._journal, self._stations, self._agent, self._zone = journal, stations, agent, zone
        self._lock = threading.Lock()
        self._tiles: dict[str, Tile] = {}
        self._mark: Mark | None = None
        self._midnight = datetime.min.replace(tzinfo=timezone.utc)
        self._looked_at = self._read_all_at = float("-inf")

    def now(self) -> list[Tile]:
        """Return the tiles, at most EVERY_S old, alarms first. Raises JournalError."""
        with self._lock:
            if time.monotonic() - self._looked_at >= 0.9 * EVERY_S:
                self._look(self._agent())
                self._looked_at = time.monotonic()
            return sorted(self._tiles.values(), key=lambda tile: tile.alarm is None)

    def _look(self, agent: AgentState | None) -> None:
        """Read the stations again of which something was recorded; all of them in a new day, and now and then."""
        mark, midnight = self._journal.mark(), self._last_midnight()
        changed = set(self._stations)
        if self._mark is not None and midnight == self._midnight and time.monotonic() - self._read_all_at < ALL_S:
            changed = self._journal.changed_stations(self._mark) if mark != self._mark else set()
        else:
            self._read_all_at = time.monotonic()
        for station in self._stations:
            if station in changed:
                self._tiles[station] = self._tile(station, midnight)
            self._tiles[station] = _with_agent(self._tiles[station], agent)
        self._mark, self._midnight = mark, midnight

    def _last_midnight(self) -> datetime:
        now = datetime.now(timezone.utc).astimezone(self._zone)
        return now.replace(hour=0, minute=0, second=0, microsecond=0)

    def _tile(self, station: str, midnight: datetime) -> Tile:
        parts, not_ok = self._journal.counts(station, midnight)
        newest = self._journal.newest(station)
        alarm = self._journal.standing_alarm(station, acknowledgement_id)
        return Tile(station, newest, alarm, None, False, parts, not_ok)


def _with_agent(tile: Tile, agent: AgentState | None) -> Tile:
    """Return a tile with what the agent says of its station; None for nothing."""
    if agent is None:
        return replace(tile, blind=None, is_known=False, drifted=(), waiting=None, unsent=0)
    name = tile.station
    return replace(
        tile,
        blind=agent.trouble or agent.away.get(name),
        is_known=True,
        drifted=agent.drifted.get(name, ()),
        waiting=None if agent.waiting is None else agent.waiting.get(name, 0),
        unsent=agent.unsent,
    )


class LiveViews:
    """Answers for /line, its events, and the acknowledgement of an alarm."""

    def __init__(
        self,
        tiles: Tiles,
        journal: JournalReview,
        outbox: JournalReader,
        templates: Templates,
        sessions: Sessions,
        changes: Changes,
        receivers: tuple[str, ...],
    ) -> None:
        """Take what the views are made of.

        Args:
            tiles: what is shown.
            journal: knows which alarms stand.
            outbox: takes acknowledgements, which the agent sends.
            templates: renders the views.
            sessions: tells who asks.
            changes: keeps who has acknowledged what.
            receivers: of acknowledgements, as in Message.receivers.
        """
        self._tiles, self._journal, self._outbox = tiles, journal, outbox
        self._templates, self._sessions = templates, sessions
        self._changes, self._receivers = changes, receivers
        self._viewers = 0

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        return [
            guard.get("/line", self.line),
            Route("/line/events", self.events),
            guard.post("/line/acknowledge", self.acknowledge),
        ]

    def line(self, visit: Visit) -> Response:
        """Show all stations."""
        return self._templates.answer("line.html", visit, tiles=self._tiles.now())

    def acknowledge(self, visit: Visit) -> Response:
        """Say that an alarm was seen. It stands until a good part clears it."""
        station, id_ = visit.form.get("station", ""), inspection_id(visit.form.get("alarm", ""))
        alarm = self._journal.standing_alarm(station, acknowledgement_id)
        if alarm is None or alarm.raised.id != id_:
            raise HTTPException(409, "This alarm does not stand any longer.")
        who = visit.person.name if visit.person else ""
        message = acknowledged_message(id_, station, who, datetime.now(timezone.utc), self._receivers)
        if not alarm.acknowledged_by:
            change = Change(
                who, "acknowledgement", id_, {"acknowledged": None}, {"acknowledged": who, "station": station}
            )
            with self._changes.recording(change):
                if not self._outbox.queue(message, id_):
                    raise HTTPException(409, "Somebody else has acknowledged this alarm meanwhile.")
            log.info("page: %s acknowledges the alarm %s of %s", who, id_, station)
        return RedirectResponse("/line", 303)

    async def events(self, request: Request) -> Response:
        """Send the tiles every second, as server-sent events, for as long as somebody looks who may."""
        visit = await run_in_threadpool(self._sessions.visit, request)
        if visit.person is None:
            raise HTTPException(401, "Sign in first.")
        if self._viewers >= VIEWERS:
            raise HTTPException(503, "Too many people look at the line already.")
        return StreamingResponse(
            self._stream(visit), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def _stream(self, visit: Visit) -> AsyncIterator[str]:
        self._viewers += 1
        checked, sent = time.monotonic(), dict[str, str]()
        try:
            while True:
                if time.monotonic() - checked > CHECKED_S:
                    checked = time.monotonic()
                    if (await run_in_threadpool(self._sessions.visit, visit.request)).person is None:
                        return
                try:
                    shown = await run_in_threadpool(self._rendered, visit)
                except EdgeAgentError as error:  # what is shown grows old, and says so
                    log.warning("page: %s", error)
                else:
                    changed = {station: html for station, html in shown.items() if sent.get(station) != html}
                    sent = shown
                    yield f"data: {json.dumps({'order': list(shown), 'tiles': changed})}\n\n"
                await asyncio.sleep(EVERY_S)
        finally:
            self._viewers -= 1

    def _rendered(self, visit: Visit) -> dict[str, str]:
        return {
            tile.station: self._templates.part("tiles.html", "tile", visit, tile, visit) for tile in self._tiles.now()
        }
