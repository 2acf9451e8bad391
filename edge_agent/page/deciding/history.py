"""The view of all changes: who has changed what, when, and what it was before."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.page.access.accounts import Role
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.changes import Change, Changes, State
from edge_agent.page.rendering import Templates

SHOWN = 200
KINDS: Sequence[str] = ("label", "acknowledgement", "threshold", "learning", "masks", "stations", "account")


class ChangesViews:
    """Answers for /changes."""

    def __init__(self, changes: Changes, templates: Templates) -> None:
        """changes: what is shown. templates: renders the view."""
        self._changes, self._templates = changes, templates

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the view. guard: stands before it."""
        return [guard.get("/changes", self.changes, Role.ENGINEER)]

    def changes(self, visit: Visit) -> Response:
        """Show the last changes, all or those of one kind, or about one thing."""
        query = visit.request.query_params
        what, about = query.get("what") or None, query.get("about") or None
        if what is not None and what not in KINDS:
            raise HTTPException(400, "There is no such kind of change.")
        found = self._changes.newest(SHOWN, what, about)
        return self._templates.answer(
            "changes.html",
            visit,
            what=what,
            about=about,
            kinds=KINDS,
            changes=[(one, _differing(one)) for one in found],
            is_cut=len(found) == SHOWN,
        )


def _differing(change: Change) -> list[tuple[str, object, object]]:
    """Return what is otherwise than before: its name, and both values."""
    keys = dict.fromkeys((*change.before, *change.after))
    pairs = [(key, _value(change.before, key), _value(change.after, key)) for key in keys]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _value(state: State, key: str) -> object:
    value = state.get(key)
    return "-" if value is None else value
