"""The view that says in a sentence what each word of the page means."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.rendering import Templates


class GlossaryView:
    """Answers for /glossary; views link to its entries as /glossary#ENTRY."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def routes(self, guard: Guard) -> list[Route]:
        """Return the address of the view. guard: stands before it."""
        return [guard.get("/glossary", self.glossary)]

    def glossary(self, visit: Visit) -> Response:
        """Show all entries."""
        return self._templates.answer("glossary.html", visit)
