"""The view of a station's threshold: what another one would have done, and saving it with a name and a reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge_agent.config.station import StationConfig
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.journal.review import JournalReview
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
from edge_agent.page.deciding.outcome import bars, bounds, outcome
from edge_agent.page.deciding.saving import Note, calibrations, in_use, mark_of, promises, save
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

LAST = 1000  # parts
EARLIER = 20  # thresholds that are shown
LONGEST_NAME, LONGEST_REASON = 64, 500  # characters


class ThresholdViews:
    """Answers for /threshold."""

    def __init__(
        self, journal: JournalReview, config: ConfigFile | None, changes: Changes, templates: Templates
    ) -> None:
        """Take what the view is made of.

        Args:
            journal: has the scores.
            config: what is changed; None where the page may not change it.
            changes: keeps who has set which threshold.
            templates: renders the view.
        """
        self._journal, self._config, self._changes, self._templates = journal, config, changes, templates

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        save = [guard.post("/threshold", self.save, Role.ENGINEER)] if self._config else []
        return [guard.get("/threshold", self.threshold), *save]

    def threshold(self, visit: Visit) -> Response:
        """Show the scores of a station, and what a threshold would have done."""
        query = visit.request.query_params
        return self._answered(visit, 200, OUTCOMES.get(query.get("saved", ""), ""), query, None)

    def save(self, visit: Visit) -> Response:
        """Have a station judge by another threshold, unless somebody else has saved one meanwhile: then show theirs."""
        assert self._config is not None
        form = visit.form
        held = self._config.read()
        one = _station(held, form.get("station", ""))
        if one is None:
            raise HTTPException(404, "The configuration has no such station.")
        note = Note(
            visit.person.name if visit.person else "", form.get("name", "").strip(), form.get("reason", "").strip()
        )
        threshold = _exact(form, _fraction(form.get("threshold"), one.effective_threshold()))
        if form.get("seen") != mark_of(one):
            return self._answered(
                visit,
                409,
                "Somebody else has saved a threshold meanwhile: it is shown below. Save yours again if it still holds.",
                form,
                held,
            )
        if not (0 < len(note.name) <= LONGEST_NAME and 0 < len(note.reason) <= LONGEST_REASON):
            return self._answered(
                visit, 400, "Give a name of at most 64 characters, and a reason of at most 500.", form, held
            )
        if threshold == one.effective_threshold():
            return self._answered(visit, 400, "This threshold is in use already: nothing was changed.", form, held)
        after = {**in_use(one), "threshold": threshold}
        change = Change(note.who, "threshold", one.name, in_use(one), after, note.name, note.reason)
        try:
            with self._changes.recording(change):
                planned = save(self._config, held, one.name, threshold, note)
        except ConfigChanged as error:
            return self._answered(visit, 409, str(error), form, None)
        except ConfigError as error:
            return self._answered(visit, 400, str(error), form, None)
        except EdgeAgentError as error:
            return self._answered(visit, 503, str(error), form, None)
        log.info("page: %s sets the threshold of %s to %g: %s", note.who, one.name, threshold, note.reason)
        said = reload_agent(held.config, planned)
        outcome = next(key for key, sentence in OUTCOMES.items() if sentence == said)
        return RedirectResponse(f"/threshold?{urlencode({'station': one.name, 'saved': outcome})}", 303)

    def _answered(
        self, visit: Visit, code: int, notice: str, asked_for: Mapping[str, str], held: HeldConfig | None
    ) -> Response:
        """Show the view.

        Args:
            visit: what was asked, and by whom.
            code: of HTTP.
            notice: a sentence above the form; empty for none.
            asked_for: station, threshold, exact, name and reason, as far as they were given.
            held: the configuration, where it was read already; None: read it.
        """
        stations = self._journal.stations()
        station = asked_for.get("station") or next(iter(stations), "")
        if station not in stations:
            raise HTTPException(404, "The journal knows no such station.")
        scores = self._journal.scores(station, LAST)
        if self._config is not None and held is None:
            held = self._config.read()
        one = _station(held, station) if held else None
        promised = (
            promises(calibrations(self._config, held, station)) if self._config is not None and held and one else []
        )
        now = one.effective_threshold() if one else scores.threshold
        asked = _exact(asked_for, _fraction(asked_for.get("threshold"), now))
        earlier = self._changes.newest(EARLIER, "threshold", station) if one and visit.may(Role.ENGINEER) else []
        return self._templates.answer(
            "threshold.html",
            visit,
            code,
            notice=notice,
            station=station,
            stations=stations,
            scores=scores,
            now=outcome(scores, now),
            asked=outcome(scores, asked),
            bars=bars(scores),
            bounds=bounds(len(scores.good)),
            promised=promised,
            may_save=one is not None and visit.may(Role.ENGINEER),
            seen=mark_of(one) if one else "",
            name=asked_for.get("name", ""),
            reason=asked_for.get("reason", ""),
            calibration=one.calibration if one else None,
            earlier=earlier,
        )


def _station(held: HeldConfig, name: str) -> StationConfig | None:
    number = held.number(name)
    return None if number is None else held.config.stations[number]


def _exact(given: Mapping[str, str], threshold: float) -> float:
    """Return the threshold that the form began with, where its field, which shows three digits, was not changed."""
    exact = _fraction(given.get("exact"), threshold)
    return exact if f"{exact:.3f}" == f"{threshold:.3f}" else threshold


def _fraction(text: str | None, otherwise: float) -> float:
    if not text:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise HTTPException(400, "A threshold is a number from 0 to 1.")
    return value
