"""What a request asks for, as its address says it; what makes no sense is refused with a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import get_args
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from edge_agent.journal.review import Position, Selection, Which

ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # of an inspection
EPOCH = datetime.fromtimestamp(0, timezone.utc)
_WHICH: Mapping[str, Which] = {which: which for which in get_args(Which)}


def inspection_id(text: str) -> str:
    """Return the id of an inspection. Raises HTTPException (404) if it is none."""
    if not re.fullmatch(ID, text, re.ASCII):
        raise HTTPException(404)
    return text


def selection(query: Mapping[str, str], zone: tzinfo | None) -> Selection:
    """Return which inspections are asked for: station, since, until and show of an address.

    Args:
        query: of the address.
        zone: of moments that name none; None for this machine's.

    Raises:
        HTTPException: (400) one of them is none.
    """
    which = _WHICH.get(query.get("show") or "look")
    if which is None:
        raise HTTPException(400, f"show is one of {', '.join(_WHICH)}")
    since, until = (_moment(query.get(key, ""), zone) for key in ("since", "until"))
    if since is not None and until is not None and until <= since:
        raise HTTPException(400, "The end of the period is not after its beginning.")
    return Selection(query.get("station") or None, since, until, which)


def position(text: str | None) -> Position | None:
    """Return where a page begins, as written by address(). Raises HTTPException (400) if it is no such text."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,17})\.(\d{1,18})", text, re.ASCII)
    if not found:
        raise HTTPException(400, "This address is not whole: go back to the review and choose again.")
    try:
        moment = EPOCH + timedelta(microseconds=int(found[1]))
    except OverflowError:
        raise HTTPException(400, "This address is not whole: go back to the review and choose again.") from None
    return Position(moment, int(found[2]))


@dataclass(frozen=True, slots=True)
class Addresses:
    """Writes the addresses of views of a selection, for templates."""

    chosen: Selection

    def query(self, **changes: object) -> str:
        """Return the part of an address from the ? on, with changes to the selection; empty for the usual one."""
        one = replace(self.chosen, **changes)  # type: ignore[arg-type]
        given = {
            "station": one.station,
            "since": None if one.since is None else _utc(one.since),
            "until": None if one.until is None else _utc(one.until),
            "show": None if one.which == "look" else one.which,
        }
        text = urlencode({key: value for key, value in given.items() if value is not None})
        return f"?{text}" if text else ""

    def behind(self, place: Position) -> str:
        """Return the same for the page that begins behind a position."""
        microseconds = (place.taken_at - EPOCH) // timedelta(microseconds=1)
        query = self.query()
        return f"{query or '?'}{'&' if query else ''}older={microseconds}.{place.number}"


def _moment(text: str, zone: tzinfo | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
        return (found.replace(tzinfo=zone) if found.tzinfo is None and zone else found).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise HTTPException(400, "A moment is written as 2026-11-20T06:00.") from None


def _utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
