"""The page as an ASGI application: which address leads to which view, and what is said when one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import time, tzinfo
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge_agent.errors import EdgeAgentError
from edge_agent.journal.labels import Labels
from edge_agent.journal.reader import JournalReader
from edge_agent.journal.review import JournalReview
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.safety import Safety
from edge_agent.page.access.sessions import Sessions, Visit
from edge_agent.page.agent_state import AgentState
from edge_agent.page.changes import Changes
from edge_agent.page.configuring.config_file import ConfigFile
from edge_agent.page.configuring.drafts import Drafts
from edge_agent.page.configuring.masks import MaskViews
from edge_agent.page.configuring.set_up import SetUpViews
from edge_agent.page.deciding.candidates import Candidates
from edge_agent.page.deciding.history import ChangesViews
from edge_agent.page.deciding.learn import LearnViews
from edge_agent.page.deciding.threshold import ThresholdViews
from edge_agent.page.glossary import GlossaryView
from edge_agent.page.live import LiveViews, Tiles
from edge_agent.page.pictures import Pictures
from edge_agent.page.rendering import Templates
from edge_agent.page.report import NumbersViews
from edge_agent.page.review import ReviewViews
from edge_agent.settings.page import SHIFTS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """The agent beside the page.

    stations: their names. outbox: takes what the agent is to send. receivers: of acknowledgements. agent: asks the agent how it
    is; returns None where that cannot be known. config: its config.yaml; None where the page may not change it.
    """

    stations: Sequence[str]
    outbox: JournalReader
    receivers: tuple[str, ...]
    agent: Callable[[], AgentState | None]
    config: ConfigFile | None = None


def application(
    journal: JournalReview,
    labels: Labels,
    pictures: Pictures,
    sessions: Sessions,
    changes: Changes,
    *,
    hosts: Collection[str] = (),
    zone: tzinfo | None = None,
    line: Line | None = None,
    shifts: Sequence[time] = SHIFTS,
) -> Starlette:
    """Return the page.

    Args:
        journal: what is shown.
        labels: what people say of it.
        pictures: makes its pictures.
        sessions: tells who asks.
        changes: keeps who has changed what.
        hosts: names under which browsers may ask for it, beside those of this machine itself; default none.
        zone: in which times are shown and read; None (default) for this machine's.
        line: the agent beside the page; None (default) only looks back.
        shifts: when one begins.
    """
    templates = Templates(zone, has_line=line is not None)
    guard = Guard(sessions, templates)

    def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return guard.refusal(request, error.status_code, error.detail)
        log.error("page: %s", error)
        return guard.refusal(request, 503, str(error))

    def start(visit: Visit) -> Response:
        return RedirectResponse("/line" if line else "/review")

    live: list[Route] = []
    if line is not None:
        tiles = Tiles(journal, line.stations, line.agent, zone)
        live = LiveViews(tiles, journal, line.outbox, templates, sessions, changes, line.receivers).routes(guard)
    if line is not None and line.config is not None:
        live += MaskViews(journal, pictures, line.config, changes, templates).routes(guard)
        candidates = Candidates(line.config.given, line.config.data_dir() / "learning")
        live += LearnViews(labels, line.config, candidates, changes, templates).routes(guard)
        drafts = Drafts(line.config.data_dir() / "set-up", line.config.folder)
        live += SetUpViews(drafts, line.config, changes, templates).routes(guard)
    return Starlette(
        routes=[
            guard.get("/", start),
            *ReviewViews(journal, labels, pictures, changes, templates, zone, line.receivers if line else ()).routes(
                guard
            ),
            *NumbersViews(journal, templates, zone, shifts).routes(guard),
            *ThresholdViews(journal, line.config if line else None, changes, templates).routes(guard),
            *ChangesViews(changes, templates).routes(guard),
            *GlossaryView(templates).routes(guard),
            *live,
            *guard.sign_in_routes(),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Safety, hosts=hosts)],
        exception_handlers={HTTPException: failed, EdgeAgentError: failed},
    )
