"""The views that look through inspections: the grid of a station and time, one inspection, and its pictures."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.errors import PictureError
from edge_agent.journal.review import JournalReview, Selection
from edge_agent.journal.rows import RecordedInspection
from edge_agent.page.asked import Addresses, inspection_id, position, selection
from edge_agent.page.pictures import KINDS, Pictures
from edge_agent.page.rendering import Templates

A_PAGE = 60  # inspections
KEEP_S = 3600  # how long a browser may show a picture again without asking


class ReviewViews:
    """Answers for /review, /inspection/ID and /picture/ID/KIND.jpg."""

    def __init__(
        self, journal: JournalReview, pictures: Pictures, templates: Templates, zone: tzinfo | None = None
    ) -> None:
        """Take what the views are made of.

        Args:
            journal: what is looked through.
            pictures: makes the pictures.
            templates: renders the views.
            zone: of the days and hours that are offered; None (default) for this machine's.
        """
        self._journal, self._pictures, self._templates, self._zone = journal, pictures, templates, zone

    def routes(self) -> list[Route]:
        """Return the addresses of the views."""
        return [
            Route("/review", self.grid, name="review"),
            Route("/inspection/{id}", self.one, name="inspection"),
            Route("/picture/{id}/{kind}.jpg", self.picture, name="picture"),
        ]

    def grid(self, request: Request) -> Response:
        """Show the inspections of a selection as a grid, the newest first."""
        chosen = selection(request.query_params, self._zone)
        place = position(request.query_params.get("older"))
        stations = self._journal.stations()
        if chosen.station is not None and chosen.station not in stations:
            raise HTTPException(404, "The journal knows no such station.")
        page = self._journal.page(chosen, A_PAGE, place)
        return self._templates.answer(
            "review.html",
            page=page,
            chosen=chosen,
            at=Addresses(chosen),
            stations=stations,
            hours=self._hours(chosen),
            is_first=place is None,
        )

    def one(self, request: Request) -> Response:
        """Show one inspection: its pictures, why it was judged so, and its neighbours in the selection."""
        inspection = self._found(request)
        chosen = selection(request.query_params, self._zone)
        older, newer = self._journal.neighbours(inspection.id, chosen)
        return self._templates.answer(
            "inspection.html", one=inspection, chosen=chosen, at=Addresses(chosen), older=older, newer=newer
        )

    def picture(self, request: Request) -> Response:
        """Give a picture of an inspection."""
        kind = next((one for one in KINDS if one == request.path_params["kind"]), None)
        if kind is None:
            raise HTTPException(404)
        try:
            content = self._pictures.jpeg(self._found(request), kind)
        except PictureError as error:
            raise HTTPException(404, str(error)) from error
        return Response(content, media_type="image/jpeg", headers={"cache-control": f"private, max-age={KEEP_S}"})

    def _found(self, request: Request) -> RecordedInspection:
        inspection = self._journal.inspection(inspection_id(request.path_params["id"]))
        if inspection is None:
            raise HTTPException(404, "The journal has no such inspection, or no longer.")
        return inspection

    def _hours(self, chosen: Selection) -> list[tuple[datetime, datetime]]:
        """Return the hours of the day that is looked at; of today where no day is chosen."""
        day = (chosen.since or datetime.now().astimezone(self._zone)).astimezone(self._zone)
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        return [(midnight + timedelta(hours=hour), midnight + timedelta(hours=hour + 1)) for hour in range(24)]
