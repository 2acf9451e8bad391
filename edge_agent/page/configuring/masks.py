"""The view in which masks are drawn: what of a station's picture is inspected, and what is left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge_agent.config.edit import with_key
from edge_agent.config.polygons import Point
from edge_agent.errors import ConfigError, EdgeAgentError, PictureError
from edge_agent.journal.review import JournalReview, Selection
from edge_agent.journal.rows import RecordedInspection
from edge_agent.page.access.accounts import Role
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.changes import Change, Changes
from edge_agent.page.configuring.config_file import (
    OUTCOMES,
    ConfigChanged,
    ConfigFile,
    HeldConfig,
    reload_agent,
)
from edge_agent.page.pictures import Kind, Pictures
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

Shapes = Sequence[Sequence[Point]]
KEYS = ("include", "ignore")
SHOWN = 8  # of the last pictures
LOOKED_AT = 50  # inspections among which pictures are looked for


class MaskViews:
    """Answers for /masks."""

    def __init__(
        self, journal: JournalReview, pictures: Pictures, config: ConfigFile, changes: Changes, templates: Templates
    ) -> None:
        """Take what the view is made of.

        Args:
            journal: has the newest pictures.
            pictures: makes them.
            config: what is changed.
            changes: keeps who has changed it.
            templates: renders the view.
        """
        self._journal, self._pictures, self._config = journal, pictures, config
        self._changes, self._templates = changes, templates

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the view. guard: stands before it."""
        return [
            guard.get("/masks", self.masks, Role.ENGINEER),
            guard.post("/masks", self.save, Role.ENGINEER),
        ]

    def masks(self, visit: Visit) -> Response:
        """Show the masks of a station on its newest picture."""
        query = visit.request.query_params
        held = self._config.read()
        station = query.get("station") or held.config.stations[0].name
        number = held.number(station)
        if number is None:
            raise HTTPException(404, "The configuration has no such station.")
        one = held.config.stations[number]
        written = {"include": written_shapes(one.include), "ignore": written_shapes(one.ignore)}
        return self._answered(visit, 200, OUTCOMES.get(query.get("saved", ""), ""), held, station, written)

    def save(self, visit: Visit) -> Response:
        """Write masks into config.yaml, and have the agent read it."""
        station, seen = visit.form.get("station", ""), visit.form.get("seen", "")
        written = {key: visit.form.get(key, "") for key in KEYS}
        held = self._config.read()
        if held.number(station) is None:
            raise HTTPException(404, "The configuration has no such station.")
        try:
            wanted = {key: read_shapes(text) for key, text in written.items()}
        except ValueError:
            return self._answered(
                visit,
                400,
                "A shape is a line such as 0.1,0.1 0.9,0.1 0.5,0.9: its corners, each two numbers from 0 to 1.",
                held,
                station,
                written,
            )
        who = visit.person.name if visit.person else ""
        one = held.config.station(station)
        before = {"include": as_yaml(one.include), "ignore": as_yaml(one.ignore)}
        after = {key: as_yaml(shapes) for key, shapes in wanted.items()}
        try:
            with self._changes.recording(Change(who, "masks", station, before, after)):
                planned = self._config.replace(seen, lambda now: edited(now, station, wanted))
        except ConfigChanged as error:
            return self._answered(visit, 409, str(error), held, station, written)
        except ConfigError as error:
            return self._answered(visit, 400, str(error), held, station, written)
        except EdgeAgentError as error:
            return self._answered(visit, 503, str(error), held, station, written)
        log.info("page: %s changes config.yaml: %s", who, ", ".join(map(planned.shown, planned.changed)) or "nothing")
        said = reload_agent(held.config, planned)
        outcome = next(key for key, sentence in OUTCOMES.items() if sentence == said)
        return RedirectResponse(f"/masks?{urlencode({'station': station, 'saved': outcome})}", 303)

    def _answered(
        self, visit: Visit, code: int, notice: str, held: HeldConfig, station: str, written: dict[str, str]
    ) -> Response:
        try:
            shapes: dict[str, Shapes] = {key: read_shapes(text) for key, text in written.items()}
        except ValueError:
            shapes = dict.fromkeys(KEYS, ())
        return self._templates.answer(
            "masks.html",
            visit,
            code,
            notice=notice,
            seen=held.sha256,
            station=station,
            stations=[one.name for one in held.config.stations],
            newest=next(self._shown(station, "original"), None),
            last=list(islice(self._shown(station, "thumbnail"), SHOWN)),
            written=written,
            shapes=shapes,
            yaml={key: as_yaml(shapes[key]) for key in KEYS},
        )

    def _shown(self, station: str, kind: Kind) -> Iterator[RecordedInspection]:
        """Yield the inspections of a station whose picture can be shown, the newest first."""
        for one in self._journal.page(Selection(station, which="all"), LOOKED_AT).inspections:
            try:
                self._pictures.jpeg(one, kind)
            except PictureError:
                continue
            yield one


def read_shapes(text: str) -> Shapes:
    """Return the polygons of a text, a line each: `0.1,0.1 0.9,0.1 0.5,0.9`. Raises ValueError if it is none."""
    return [[_point(corner) for corner in line.split()] for line in text.splitlines() if line.strip()]


def written_shapes(shapes: Shapes) -> str:
    """Return polygons as read_shapes() reads them."""
    return "\n".join(" ".join(f"{_number(x)},{_number(y)}" for x, y in shape) for shape in shapes)


def as_yaml(shapes: Shapes) -> str:
    """Return polygons as config.yaml has them, in one line."""
    return f"[{', '.join('[' + ', '.join(f'[{_number(x)}, {_number(y)}]' for x, y in one) + ']' for one in shapes)}]"


def edited(held: HeldConfig, station: str, wanted: dict[str, Shapes]) -> str:
    """Return the text of config.yaml with these polygons; keys that stay the same are not touched.

    Args:
        held: the file as it is.
        station: whose polygons they are.
        wanted: by key.

    Raises:
        ConfigError: the station is written in a way that cannot be changed alone.
    """
    number = held.number(station)
    assert number is not None
    one, text = held.config.stations[number], held.text
    for key, present in (("include", one.include), ("ignore", one.ignore)):
        if written_shapes(present) == written_shapes(wanted[key]):
            continue
        changed = with_key(text, ("stations", number), key, as_yaml(wanted[key]))
        if changed is None:
            raise ConfigError(
                f"station {station} shares its lines in config.yaml with others, so they cannot be changed alone: write them"
                " by hand, as shown below"
            )
        text = changed
    return text


def _point(corner: str) -> Point:
    x, y = (float(value) for value in corner.split(","))
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(corner)
    return x, y


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
