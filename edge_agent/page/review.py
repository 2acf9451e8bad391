"""The views that look through inspections and label them: the grid of a station and time, one inspection, its pictures."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from edge_agent.core import Message
from edge_agent.errors import EdgeAgentError, LabelRefused, PictureError
from edge_agent.journal.labels import Labels, Statement
from edge_agent.journal.review import JournalReview, Selection
from edge_agent.journal.rows import Label, LabelValue, RecordedInspection
from edge_agent.mqtt.messages import labelled_message
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.asked import Addresses, inspection_id, position, selection
from edge_agent.page.changes import Change, Changes, label_state
from edge_agent.page.pictures import KINDS, Pictures
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

A_PAGE = 60  # inspections
KEEP_S = 3600  # how long a browser may show a picture again without asking


class ReviewViews:
    """Answers for /review, /inspection/ID and /picture/ID/KIND.jpg."""

    def __init__(
        self,
        journal: JournalReview,
        labels: Labels,
        pictures: Pictures,
        changes: Changes,
        templates: Templates,
        zone: tzinfo | None = None,
        receivers: tuple[str, ...] = (),
    ) -> None:
        """Take what the views are made of.

        Args:
            journal: what is looked through.
            labels: what was said of it.
            pictures: makes the pictures.
            changes: keeps who has said what.
            templates: renders the views.
            zone: of the days and hours that are offered; None (default) for this machine's.
            receivers: of what people say, as in Message.receivers; default none.
        """
        self._journal, self._labels, self._pictures, self._changes = journal, labels, pictures, changes
        self._templates, self._zone, self._receivers = templates, zone, receivers

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        return [
            guard.get("/review", self.grid),
            guard.get("/inspection/{id}", self.one),
            guard.post("/inspection/{id}", self.say),
            guard.get("/picture/{id}/{kind}.jpg", self.picture),
        ]

    def grid(self, visit: Visit) -> Response:
        """Show the inspections of a selection as a grid, the newest first."""
        request = visit.request
        chosen = selection(request.query_params, self._zone)
        place = position(request.query_params.get("older"))
        stations = self._journal.stations()
        if chosen.station is not None and chosen.station not in stations:
            raise HTTPException(404, "The journal knows no such station.")
        page = self._journal.page(chosen, A_PAGE, place)
        return self._templates.answer(
            "review.html",
            visit,
            page=page,
            said=self._labels.latest(one.id for one in page.inspections),
            chosen=chosen,
            at=Addresses(chosen),
            stations=stations,
            hours=self._hours(chosen),
            is_first=place is None,
        )

    def one(self, visit: Visit) -> Response:
        """Show one inspection: its pictures, why it was judged so, what was said of it, and its neighbours in the selection."""
        return self._shown(visit, 200, "")

    def say(self, visit: Visit) -> Response:
        """Label an inspection, unless somebody else has meanwhile: then show what, so that both words are known."""
        inspection = self._found(visit.request)
        holds = self._labels.latest([inspection.id]).get(inspection.id)
        if visit.form.get("seen", "") != (str(holds.number) if holds else ""):
            return self._answered(
                visit, 409, "Somebody else said something of this part meanwhile. Say yours again if it still holds."
            )
        wanted, who = statement(inspection.id, visit.form), visit.person.name if visit.person else ""
        before, after = label_state(holds), label_state(wanted)
        try:
            with self._changes.recording(Change(who, "label", inspection.id, before, after, reason=wanted.note or "")):
                said = self._labels.say(wanted, who, telling=self._telling if self._receivers else None)
        except LabelRefused as error:
            return self._answered(visit, 400, str(error))
        except EdgeAgentError as error:  # a full disk, a locked journal: what was typed stays
            return self._answered(visit, 503, str(error))
        log.info("page: %s says %s of inspection %s", said.who, said.value.value, inspection.id)
        if _wants_json(visit):
            word = self._templates.part("parts.html", "word", visit, said)
            return JSONResponse({"word": word, "who": said.who, "seen": seen_after(said)})
        return RedirectResponse(f"{visit.request.url.path}{_query(visit)}", 303)

    def _telling(self, label: Label, part_id: str | None) -> Message:
        return labelled_message(label, part_id, self._receivers)

    def _answered(self, visit: Visit, code: int, notice: str) -> Response:
        return JSONResponse({"notice": notice}, code) if _wants_json(visit) else self._shown(visit, code, notice)

    def _shown(self, visit: Visit, code: int, notice: str) -> Response:
        inspection = self._found(visit.request)
        chosen = selection(visit.request.query_params, self._zone)
        older, newer = self._journal.neighbours(inspection.id, chosen)
        history = self._labels.history(inspection.id)
        return self._templates.answer(
            "inspection.html",
            visit,
            code,
            one=inspection,
            chosen=chosen,
            at=Addresses(chosen),
            older=older,
            newer=newer,
            history=history,
            holds=history[-1] if history and history[-1].value is not LabelValue.NONE else None,
            kinds=self._labels.kinds(inspection.station),
            notice=notice,
            typed=visit.form,
        )

    def picture(self, visit: Visit) -> Response:
        """Give a picture of an inspection."""
        request = visit.request
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


def statement(inspection: str, form: Mapping[str, str]) -> Statement:
    """Return what a form says of an inspection. Raises HTTPException (400) if it says nothing that can be.

    inspection: its id. form: value, kind, box as x,y,width,height in pixels, and note; kind and box count for a defect alone.
    """
    try:
        value = LabelValue(form.get("value", ""))
    except ValueError:
        raise HTTPException(400, "Say good, defect, unsure or none.") from None
    kind, box = (form.get("kind"), form.get("box")) if value is LabelValue.DEFECT else (None, None)
    return Statement(inspection, value, kind or None, _box(box) if box else None, form.get("note") or None)


def seen_after(label: Label) -> str:
    """Return what the next form says was seen: the number of the label that holds, or nothing after it was undone."""
    return "" if label.value is LabelValue.NONE else str(label.number)


def _box(text: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text, re.ASCII)
    if not found:
        raise HTTPException(400, "A box is four whole numbers: x, y, width, height.")
    x, y, width, height = map(int, found.groups())
    return x, y, width, height


def _wants_json(visit: Visit) -> bool:
    return visit.request.headers.get("accept", "") == "application/json"


def _query(visit: Visit) -> str:
    return f"?{visit.request.url.query}" if visit.request.url.query else ""
