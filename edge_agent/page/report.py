"""What happened in a period: numbers by station as a view and as CSV, and a report as one printable page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone, tzinfo
from pathlib import Path

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.errors import PictureError
from edge_agent.journal.export import disarmed
from edge_agent.journal.labels import Labels
from edge_agent.journal.review import JournalReview, Selection
from edge_agent.journal.rows import RecordedInspection
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.asked import Addresses, selection
from edge_agent.page.pictures import Pictures
from edge_agent.page.rendering import Templates
from edge_agent.page.shifts import ShiftNumbers, by_shift, by_station, kinds, spans
from edge_agent.page.texts import ENGLISH, later
from edge_agent.settings.page import SHIFTS

LONGEST = timedelta(days=32)  # of a period that the view counts: it reads every inspection of it
MOST = 500  # pictures in a report
TITLES = {
    "look": later("Worth a look"),
    "not_ok": later("Not OK"),
    "false_alarm": later("False alarms"),
    "missed": later("Missed defects"),
    "all": later("All parts"),
}
COLUMNS = (
    "begin",
    "end",
    "station",
    "parts",
    "not_ok",
    "undecided",
    "false_alarms",
    "confirmed",
    "missed",
    "kinds",
)


class NumbersViews:
    """Answers for /numbers and /numbers.csv."""

    def __init__(
        self,
        journal: JournalReview,
        templates: Templates,
        zone: tzinfo | None,
        shifts: Sequence[time] = SHIFTS,
    ) -> None:
        """Take what the views are made of.

        Args:
            journal: what is counted.
            templates: renders the view.
            zone: whose midnight begins a day; None for this machine's.
            shifts: when one begins.
        """
        self._journal, self._templates, self._zone, self._shifts = journal, templates, zone, shifts

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        return [guard.get("/numbers", self.numbers), guard.get("/numbers.csv", self.as_csv)]

    def numbers(self, visit: Visit) -> Response:
        """Show the numbers of a period, today's if none is given."""
        chosen, rows = self._counted(visit)
        numbers = by_station(rows)
        return self._templates.answer(
            "numbers.html",
            visit,
            chosen=chosen,
            at=Addresses(chosen),
            periods=self._periods(),
            rows=rows,
            numbers=numbers,
            pareto=kinds(numbers),
        )

    def as_csv(self, visit: Visit) -> Response:
        """Give the same as CSV."""
        content = numbers_csv(self._counted(visit)[1], self._zone)
        headers = {"content-disposition": 'attachment; filename="numbers.csv"'}
        return Response(content, media_type="text/csv; charset=utf-8", headers=headers)

    def _counted(self, visit: Visit) -> tuple[Selection, list[ShiftNumbers]]:
        asked = selection(visit.request.query_params, self._zone)
        since = asked.since or (asked.until or self._midnight() + timedelta(days=1)) - timedelta(days=1)
        until = asked.until or datetime.now(timezone.utc)
        if until - since > LONGEST:
            raise HTTPException(400, "Choose 32 days at most; edge-agent report takes longer ones.")
        chosen = Selection(asked.station, since, asked.until, asked.which)
        return chosen, by_shift(self._journal, chosen, max(until, since), self._shifts, self._zone)

    def _midnight(self) -> datetime:
        return datetime.now(timezone.utc).astimezone(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)

    def _periods(self) -> list[tuple[str, datetime, datetime | None]]:
        """Return periods that are offered, by their names, in English: the shift that runs, the one before, and so on."""
        now, midnight = datetime.now(timezone.utc), self._midnight()
        begun = spans(now - timedelta(days=2), now, self._shifts, self._zone)
        yesterday = midnight - timedelta(days=1)
        return [
            (later("this shift"), begun[-1][0], None),
            (later("last shift"), *begun[-2]),
            (later("today"), midnight, None),
            (later("yesterday"), yesterday, midnight),
            (later("7 days"), midnight - timedelta(days=6), None),
        ]


def numbers_csv(rows: Sequence[ShiftNumbers], zone: tzinfo | None = None) -> str:
    """Return numbers as CSV, a line for each shift and station; what spreadsheets would take for a formula is disarmed.

    rows: as by_shift() counts them. zone: of the times; None (default) for this machine's.
    """
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        one = row.numbers
        said = "; ".join(f"{kind} {count}" for kind, count in one.kinds)
        moments = [moment.astimezone(zone).isoformat(timespec="seconds") for moment in (row.begin, row.end)]
        counts = (one.parts, one.not_ok, one.undecided, one.false_alarms, one.confirmed, one.missed)
        table.writerow([*moments, disarmed(one.station), *counts, disarmed(said)])
    return written.getvalue()


def report_page(
    journal: JournalReview,
    labels: Labels,
    pictures: Pictures,
    chosen: Selection,
    rows: Sequence[ShiftNumbers],
    zone: tzinfo | None = None,
    language: str = ENGLISH,
) -> str:
    """Return a report as one HTML page with its pictures in it, which can be printed and sent.

    Args:
        journal: what it is about.
        labels: what people said.
        pictures: makes the small pictures.
        chosen: the period and the station, and which inspections are shown; since is given.
        rows: the numbers of that.
        zone: in which times are shown; None (default) for this machine's.
        language: one of languages(); default English.
    """
    page, numbers = journal.page(chosen, MOST), by_station(rows)
    said = labels.latest(one.id for one in page.inspections)
    shown = [(one, _embedded(pictures, one), said.get(one.id)) for one in page.inspections]
    style = (Path(__file__).parent / "static" / "page.css").read_text("utf-8")
    return Templates(zone, has_line=False).text(
        "report.html",
        language,
        chosen=chosen,
        until=chosen.until or datetime.now(timezone.utc),
        shown=shown,
        is_cut=page.older is not None,
        title=TITLES[chosen.which],
        style=Markup(style),  # our own file
        rows=rows,
        numbers=numbers,
        pareto=kinds(numbers),
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
