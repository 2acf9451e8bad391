"""What happened in a period: numbers by station as a view and as CSV, and a report as one printable page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.errors import PictureError
from edge_agent.journal.export import disarmed
from edge_agent.journal.labels import Labels
from edge_agent.journal.review import JournalReview, Selection, StationNumbers
from edge_agent.journal.rows import RecordedInspection
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.asked import Addresses, selection
from edge_agent.page.pictures import Pictures
from edge_agent.page.rendering import Templates

LONGEST = timedelta(days=32)  # of a period that the view counts: it reads every inspection of it
MOST = 500  # pictures in a report
TITLES = {
    "look": "Worth a look",
    "not_ok": "Not OK",
    "false_alarm": "False alarms",
    "missed": "Missed defects",
    "all": "All parts",
}
COLUMNS = ("station", "parts", "not_ok", "undecided", "false_alarms", "confirmed", "missed", "kinds")


class NumbersViews:
    """Answers for /numbers and /numbers.csv."""

    def __init__(self, journal: JournalReview, templates: Templates, zone: tzinfo | None) -> None:
        """Take what the views are made of.

        Args:
            journal: what is counted.
            templates: renders the view.
            zone: whose midnight begins a day; None for this machine's.
        """
        self._journal, self._templates, self._zone = journal, templates, zone

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        return [guard.get("/numbers", self.numbers), guard.get("/numbers.csv", self.as_csv)]

    def numbers(self, visit: Visit) -> Response:
        """Show the numbers of a period, today's if none is given."""
        chosen = self._chosen(visit)
        numbers = self._journal.numbers(chosen)
        return self._templates.answer("numbers.html", visit, numbers=numbers, chosen=chosen, at=Addresses(chosen))

    def as_csv(self, visit: Visit) -> Response:
        """Give the same as CSV."""
        content = numbers_csv(self._journal.numbers(self._chosen(visit)))
        headers = {"content-disposition": 'attachment; filename="numbers.csv"'}
        return Response(content, media_type="text/csv; charset=utf-8", headers=headers)

    def _chosen(self, visit: Visit) -> Selection:
        asked = selection(visit.request.query_params, self._zone)
        midnight = datetime.now(timezone.utc).astimezone(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        since = asked.since or (asked.until or midnight + timedelta(days=1)) - timedelta(days=1)
        if (asked.until or datetime.now(timezone.utc)) - since > LONGEST:
            raise HTTPException(400, f"Choose {LONGEST.days} days at most; edge-agent report takes longer ones.")
        return Selection(asked.station, since, asked.until, asked.which)


def numbers_csv(numbers: Sequence[StationNumbers]) -> str:
    """Return numbers as CSV, a line for each station; what spreadsheets would take for a formula is disarmed."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in numbers:
        kinds = "; ".join(f"{kind} {count}" for kind, count in one.kinds)
        counts = (one.parts, one.not_ok, one.undecided, one.false_alarms, one.confirmed, one.missed)
        table.writerow([disarmed(one.station), *counts, disarmed(kinds)])
    return written.getvalue()


def report_page(
    journal: JournalReview, labels: Labels, pictures: Pictures, chosen: Selection, zone: tzinfo | None = None
) -> str:
    """Return a report as one HTML page with its pictures in it, which can be printed and sent.

    Args:
        journal: what it is about.
        labels: what people said.
        pictures: makes the small pictures.
        chosen: the period and the station, and which inspections are shown; since is given.
        zone: in which times are shown; None (default) for this machine's.
    """
    page = journal.page(chosen, MOST)
    said = labels.latest(one.id for one in page.inspections)
    shown = [(one, _embedded(pictures, one), said.get(one.id)) for one in page.inspections]
    style = (Path(__file__).parent / "static" / "page.css").read_text("utf-8")
    return Templates(zone, has_line=False).text(
        "report.html",
        numbers=journal.numbers(chosen),
        chosen=chosen,
        until=chosen.until or datetime.now(timezone.utc),
        shown=shown,
        is_cut=page.older is not None,
        title=TITLES[chosen.which],
        style=Markup(style),  # our own file
    )


def report_rows(journal: JournalReview, labels: Labels, chosen: Selection) -> Iterator[Sequence[RecordedInspection]]:
    """Yield all inspections of a selection with what was said of them, the newest first, some at a time.

    Args:
        journal: what is read.
        labels: what people said.
        chosen: which inspections.
    """
    older = None
    while True:
        page = journal.page(chosen, MOST, older)
        said = labels.latest(one.id for one in page.inspections)
        yield [replace(one, label=said.get(one.id)) for one in page.inspections]
        if (older := page.older) is None:
            return


def _embedded(pictures: Pictures, one: RecordedInspection) -> str | None:
    try:
        return f"data:image/jpeg;base64,{base64.b64encode(pictures.jpeg(one, 'thumbnail')).decode()}"
    except PictureError:
        return None
