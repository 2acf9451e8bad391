"""The page as an ASGI application: which address leads to which view, and what is said when one fails."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import tzinfo
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge_agent.errors import EdgeAgentError
from edge_agent.journal.review import JournalReview
from edge_agent.page.pictures import Pictures
from edge_agent.page.rendering import Templates
from edge_agent.page.review import ReviewViews
from edge_agent.page.safety import Safety

log = logging.getLogger(__name__)


def application(
    journal: JournalReview, pictures: Pictures, *, hosts: Collection[str] = (), zone: tzinfo | None = None
) -> Starlette:
    """Return the page.

    Args:
        journal: what is shown.
        pictures: makes its pictures.
        hosts: names under which browsers may ask for it, beside those of this machine itself; default none.
        zone: in which times are shown and read; None (default) for this machine's.
    """
    templates = Templates(zone)

    def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 503
        said = error.detail if isinstance(error, HTTPException) else str(error)
        if not isinstance(error, HTTPException):
            log.error("page: %s", error)
        return templates.answer("error.html", status, code=status, said=said)

    def start(request: Request) -> Response:
        return RedirectResponse("/review")

    return Starlette(
        routes=[
            Route("/", start),
            *ReviewViews(journal, pictures, templates, zone).routes(),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Safety, hosts=hosts)],
        exception_handlers={HTTPException: failed, EdgeAgentError: failed},
    )
