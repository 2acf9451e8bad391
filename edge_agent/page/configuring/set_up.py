"""The view in which a station is set up: where its pictures come from, good parts, a try, and into config.yaml."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from urllib.parse import urlencode

import cv2
import numpy as np
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from edge_agent.config.edit import with_item
from edge_agent.errors import ConfigError, EdgeAgentError, PictureError
from edge_agent.evidence.overlay import scaled
from edge_agent.io import pictures
from edge_agent.page.access.accounts import Role
from edge_agent.page.access.guard import Guard
from edge_agent.page.access.sessions import Visit
from edge_agent.page.changes import Change, Changes
from edge_agent.page.configuring.config_file import ConfigFile, HeldConfig, reload_agent
from edge_agent.page.configuring.drafts import (
    ENOUGH,
    MEGAPIXELS,
    MOST,
    MOST_BYTES,
    PART,
    Draft,
    Drafts,
    Refused,
    added_station,
)
from edge_agent.page.configuring.live_camera import LiveCamera
from edge_agent.page.configuring.trial import Trials, missing_packages, table_of
from edge_agent.page.rendering import Templates
from edge_agent.page.texts import later
from edge_agent.sources.camera.config import CameraConfig

log = logging.getLogger(__name__)

SHOWN = 640  # pixels of the longer side of what is shown
THERE = later("The configuration has a station of this name already.")
BUSY = later("Another station is being tried: wait for it.")
LACKS = later("The trainer is not installed: pip install 'edge-agent[trainer]', and start the page again.")
CANNOT_ADD = later(
    "The stations in config.yaml are written in a way that none can be added by itself: write it by hand."
)
NO_PARTS = later("Take or choose good parts first.")


class SetUpViews:
    """Answers for /set-up and all below."""

    def __init__(self, drafts: Drafts, config: ConfigFile, changes: Changes, templates: Templates) -> None:
        """Take what the views are made of.

        Args:
            drafts: stations that are being set up.
            config: where they go in the end.
            changes: keeps who has added one.
            templates: renders the view.
        """
        self._drafts, self._config, self._changes, self._templates = drafts, config, changes, templates
        self._camera, self._trials = LiveCamera(), Trials()

    def routes(self, guard: Guard) -> list[Route]:
        """Return the addresses of the views. guard: stands before them."""
        engineer = Role.ENGINEER
        return [
            guard.get("/set-up", self.set_up, engineer),
            guard.get("/set-up/{name}/live.jpg", self.live, engineer),
            guard.get("/set-up/{name}/part/{part}", self.part, engineer),
            guard.get("/set-up/{name}/progress", self.progress, engineer),
            guard.post("/set-up", self.begin, engineer),
            guard.post("/set-up/{name}/take", self.take, engineer),
            guard.upload("/set-up/{name}/parts", self.upload, engineer, MOST_BYTES),
            guard.post("/set-up/{name}/remove", self.remove, engineer),
            guard.post("/set-up/{name}/try", self.try_, engineer),
            guard.post("/set-up/{name}/stop", self.stop, engineer),
            guard.post("/set-up/{name}/discard", self.discard, engineer),
            guard.post("/set-up/{name}/go", self.go, engineer),
        ]

    def set_up(self, visit: Visit) -> Response:
        """Show the stations that are being set up, or one of them."""
        name = visit.request.query_params.get("station")
        return self._answered(visit, 200, "", self._draft(name) if name else None)

    def begin(self, visit: Visit) -> Response:
        """Begin with a station: its name, what it shows, and where its pictures come from."""
        form = {key: value.strip() for key, value in visit.form.items()}
        kind = "camera" if form.get("kind") == "camera" else "folder"
        source = {kind: form.get(kind, "")}
        if kind == "camera" and form.get("fps"):
            source["fps"] = form["fps"]
        try:
            if self._config.read().number(form.get("name", "")) is not None:
                raise Refused(THERE)
            draft = self._drafts.make(form.get("name", ""), form.get("class_name") or "object", source)
        except Refused as error:
            return self._answered(visit, 400, str(error), None)
        log.info("page: %s sets up the station %s", _who(visit), draft.name)
        return _to(draft.name)

    def live(self, visit: Visit) -> Response:
        """Give the newest picture of the camera of a station that is set up."""
        try:
            return _jpeg(self._camera_picture(self._asked(visit)))
        except PictureError as error:
            raise HTTPException(503, str(error)) from error

    def part(self, visit: Visit) -> Response:
        """Give a small picture of a good part."""
        draft, name = self._asked(visit), visit.request.path_params["part"]
        if not PART.fullmatch(name) or name not in draft.parts:
            raise HTTPException(404)
        return _jpeg(pictures.decode(draft.good / name, max_megapixels=MEGAPIXELS))

    def take(self, visit: Visit) -> Response:
        """Keep the camera's picture, or the newest ones of the folder, as good parts."""
        draft = self._asked(visit)
        try:
            source = draft.checked_source(self._base)
            if isinstance(source, CameraConfig):
                self._drafts.keep_pixels(draft, self._camera_picture(draft))
            else:
                self._drafts.copy_newest(
                    draft, Path(draft_folder(draft, self._base)), max(1, ENOUGH - len(draft.parts))
                )
        except (Refused, PictureError) as error:
            return self._answered(visit, 400, str(error), draft)
        return _to(draft.name)

    def upload(self, visit: Visit, content: bytes) -> Response:
        """Keep a file as a good part."""
        draft, name = self._asked(visit), visit.request.query_params.get("name", "picture")
        try:
            self._drafts.keep(draft, content, pictures.printable(name)[:100])
        except (Refused, PictureError) as error:
            return JSONResponse({"notice": str(error)}, 400)
        return JSONResponse({"parts": len(draft.parts) + 1})

    def remove(self, visit: Visit) -> Response:
        """Forget a good part."""
        draft = self._asked(visit)
        self._drafts.remove_part(draft, visit.form.get("part", ""))
        return _to(draft.name)

    def try_(self, visit: Visit) -> Response:
        """Start `trainer station` with the good parts."""
        draft = self._asked(visit)
        said = LACKS if missing_packages() else "" if draft.parts else NO_PARTS
        if not said and not self._trials.start(draft):
            said = BUSY
        return self._answered(visit, 409, said, draft) if said else _to(draft.name)

    def stop(self, visit: Visit) -> Response:
        """Interrupt the try."""
        draft = self._asked(visit)
        self._trials.stop(draft.name)
        return _to(draft.name)

    def progress(self, visit: Visit) -> Response:
        """Tell how far the try is."""
        trial = self._trials.of(self._asked(visit).name)
        return JSONResponse(
            {"runs": trial.runs, "seconds": trial.seconds, "said": trial.said} if trial else {"runs": False}
        )

    def discard(self, visit: Visit) -> Response:
        """Forget all of it."""
        draft = self._asked(visit)
        self._trials.forget(draft.name)
        self._camera.close()
        self._drafts.discard(draft)
        return RedirectResponse("/set-up", 303)

    def go(self, visit: Visit) -> Response:
        """Add the station to config.yaml, and have the agent read it."""
        draft = self._asked(visit)
        try:
            if draft.table() is None:
                raise Refused(NO_PARTS)
            added = added_station(draft)
            held = self._config.read()
            with self._changes.recording(Change(_who(visit), "stations", draft.name, after=added)):
                planned = self._config.replace(held.sha256, lambda now: _with_station(now, draft.name, added))
        except (Refused, ConfigError) as error:
            return self._answered(visit, 400, str(error), draft)
        except EdgeAgentError as error:
            return self._answered(visit, 503, str(error), draft)
        self._trials.forget(draft.name)
        self._drafts.done(draft)
        log.info("page: %s adds the station %s to config.yaml", _who(visit), draft.name)
        return self._answered(visit, 200, reload_agent(held.config, planned), None)

    @property
    def _base(self) -> Path:
        return self._drafts.base

    def _asked(self, visit: Visit) -> Draft:
        return self._draft(visit.request.path_params["name"])

    def _draft(self, name: str) -> Draft:
        found = self._drafts.find(name)
        if found is None:
            raise HTTPException(404, "No such station is being set up.")
        return found

    def _camera_picture(self, draft: Draft) -> np.ndarray:
        source = draft.checked_source(self._base)
        if not isinstance(source, CameraConfig):
            raise PictureError("this station has no camera")
        key = f"{draft.name} {hashlib.sha256(repr(sorted(draft.source.items())).encode()).hexdigest()[:12]}"
        return self._camera.picture(key, source, MEGAPIXELS)

    def _answered(self, visit: Visit, code: int, notice: str, draft: Draft | None) -> Response:
        draft = self._drafts.find(draft.name) if draft else None
        return self._templates.answer(
            "set_up.html",
            visit,
            code,
            notice=notice,
            drafts=[] if draft else self._drafts.all(),
            draft=draft,
            trial=self._trials.of(draft.name) if draft else None,
            table=None if draft is None or (tried := draft.table()) is None else table_of(tried),
            lacks=bool(missing_packages()),
            enough=ENOUGH,
            most=MOST,
            form=visit.form,
        )


def draft_folder(draft: Draft, base: Path) -> Path:
    """Return the folder that a draft's pictures come from. base: where a relative path starts."""
    return base / Path(draft.source["folder"]).expanduser()


def _with_station(held: HeldConfig, name: str, added: dict[str, str]) -> str:
    if held.number(name) is not None:
        raise Refused(THERE)
    text = with_item(held.text, ("stations",), added)
    if text is None:
        raise Refused(CANNOT_ADD)
    return text


def _jpeg(pixels: np.ndarray) -> Response:
    high, wide = pixels.shape[:2]
    share = min(1.0, SHOWN / max(high, wide))
    small = scaled(pixels, (max(1, round(high * share)), max(1, round(wide * share))))
    done, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise HTTPException(500)
    return Response(content.tobytes(), media_type="image/jpeg")


def _to(name: str) -> Response:
    return RedirectResponse(f"/set-up?{urlencode({'station': name})}", 303)


def _who(visit: Visit) -> str:
    return visit.person.name if visit.person else ""
