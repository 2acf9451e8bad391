"""Gives what a camera sees: the newest picture at a rate, or one for each trigger; what captures it is in capture.py."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timezone
from threading import Event

import numpy as np

from edge_agent.core import Frame, PictureRequest, SourceCounts, SourceStatus, Triggers
from edge_agent.sources.camera.capture import Capture, Shot
from edge_agent.sources.camera.trigger_files import LOOK_S

log = logging.getLogger(__name__)

TICK_S = 0.1  # how often a stop is looked for


class CameraSource:
    """A core.Source of one camera, for as long as the agent runs: a camera that is lost is tried again and again.

    Without triggers it gives the newest picture, at the rate of the capture. With them it gives exactly one frame for
    each: of the first picture that came after it and belongs to no other trigger, or with a fault that says why there
    was none within `patience_s`. part_id and trigger_id are the trigger's.
    """

    live = True

    def __init__(
        self,
        station: str,
        capture: Capture,
        triggers: Triggers | None = None,
        *,
        patience_s: float = 2.0,
        delay_s: float = 0.0,
    ) -> None:
        """delay_s: the picture is taken so long after the trigger, and then patience_s begins."""
        self.station = station
        self._capture, self._triggers = capture, triggers
        self._patience_s, self._delay_s = patience_s, delay_s
        self._waiting: deque[PictureRequest] = deque()
        self._seq = 0

    def counts(self) -> SourceCounts:
        """Count pictures, and attempts to open the camera, losses of it and kills of hung processes. From any thread."""
        counts = self._capture.counts
        events = {"attempts": counts.attempts, "losses": counts.losses, "kills": counts.kills}
        return SourceCounts(counts.captured, counts.dropped, events)

    def status(self) -> SourceStatus:
        """Report whether the camera gives pictures now. Call from any thread."""
        trouble = self._capture.trouble
        return SourceStatus(trouble is None, trouble)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames until `stop` is set, or a video has come to its end."""
        try:
            while not stop.is_set():
                self._capture.wait(TICK_S if self._triggers is None else LOOK_S)
                if self._triggers is not None:
                    yield from self._answers(self._triggers)
                elif shot := self._capture.take():
                    yield self._frame(shot)
                if self._capture.ended and self._triggers is None:
                    return
        finally:
            self._capture.close()
            counts = self._capture.counts
            dropped = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items()) or "none"
            log.info(
                "station %s: of %d pictures captured %d were given to the detector; dropped: %s",
                self.station, counts.captured, counts.given, dropped,
            )  # fmt: skip

    def _answers(self, triggers: Triggers) -> Iterator[Frame]:
        """Frames for those who wait, the first of them first."""
        for request in triggers.requests():
            if request.fault:
                yield self._fault(request, request.fault)
            else:
                self._waiting.append(request)
        now = time.monotonic()
        if self._waiting and now >= self._waiting[0].at + self._delay_s:
            if shot := self._capture.take(self._waiting[0].at + self._delay_s, "untriggered"):
                yield self._frame(shot, self._waiting.popleft())
        else:
            self._capture.skip("untriggered")
        while self._waiting and now > self._waiting[0].at + self._delay_s + self._patience_s:
            why = self._capture.trouble or "gave none"
            yield self._fault(
                self._waiting.popleft(), f"no picture within {self._patience_s:g} s of the trigger: the camera {why}"
            )

    def _frame(self, shot: Shot, request: PictureRequest | None = None) -> Frame:
        return self._numbered(shot.taken_at, shot.pixels, request, None)

    def _fault(self, request: PictureRequest, why: str) -> Frame:
        return self._numbered(datetime.now(timezone.utc), np.zeros((0, 0, 3), np.uint8), request, why)

    def _numbered(
        self, taken_at: datetime, pixels: np.ndarray, request: PictureRequest | None, fault: str | None
    ) -> Frame:
        self._seq += 1
        return Frame(
            self.station,
            self._seq - 1,
            taken_at,
            pixels,
            part_id=request.part_id if request else None,
            trigger_id=request.trigger_id if request else None,
            file=request.file if request else None,
            fault=fault,
        )
