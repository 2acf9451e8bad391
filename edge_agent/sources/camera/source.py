"""The frames of a camera: the newest picture at a rate, or one for each trigger; capture.py captures them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timezone
from threading import Event

import numpy as np

from edge_agent.core import Frame, PictureRequest, SourceCounts, SourceStatus, Triggers
from edge_agent.sources.camera.capture import Capture, CapturedPicture
from edge_agent.sources.camera.triggers.files import LOOK_S

log = logging.getLogger(__name__)

TICK_S = 0.1  # how often the stop event is checked


class CameraSource:
    """A core.Source of one camera that does not end: a camera that is lost is opened again.

    Without triggers it yields the newest picture, at the rate of the capture. With triggers it yields exactly one frame
    for each: of the first picture after it that belongs to no other trigger, or with a fault that says why there was none
    within `timeout_s`. part_id and trigger_id are the trigger's.
    """

    live = True

    def __init__(
        self,
        station: str,
        capture: Capture,
        triggers: Triggers | None = None,
        *,
        timeout_s: float = 2.0,
        delay_s: float = 0.0,
        software: bool = False,
    ) -> None:
        """Set up; the camera is opened by frames().

        Args:
            station: name of the station.
            capture: the camera.
            triggers: requests for pictures; None takes pictures at the rate of the capture.
            timeout_s: seconds to wait for a picture for a trigger.
            delay_s: seconds from the trigger until its picture is taken; timeout_s starts after them.
            software: each request fires a software trigger of the camera.
        """
        self.station = station
        self._capture, self._triggers = capture, triggers
        self._timeout_s, self._delay_s = timeout_s, delay_s
        self._software = software
        self._fired: int | None = None  # the number of the software trigger for the first request that waits
        self._waiting: deque[PictureRequest] = deque()
        self._seq = 0

    def counts(self) -> SourceCounts:
        """Count pictures, attempts to open the camera, its losses and kills of hung processes. Call from any thread."""
        counts = self._capture.counts
        events = {"attempts": counts.attempts, "losses": counts.losses, "kills": counts.kills}
        return SourceCounts(counts.captured, counts.dropped, events)

    def status(self) -> SourceStatus:
        """Report whether the camera gives pictures now. Call from any thread."""
        problem = self._capture.problem
        return SourceStatus(problem is None, problem)

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames until `stop` is set, or a video has ended."""
        try:
            while not stop.is_set():
                self._capture.wait(TICK_S if self._triggers is None else LOOK_S)
                if self._triggers is not None:
                    yield from self._triggered_frames(self._triggers)
                elif picture := self._capture.take():
                    yield self._frame(picture)
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

    def _triggered_frames(self, triggers: Triggers) -> Iterator[Frame]:
        """Yield the frames that are due for the requests, in order."""
        for request in triggers.requests():
            if request.fault:
                yield self._fault(request, request.fault)
            else:
                self._waiting.append(request)
        now = time.monotonic()
        if self._waiting and now >= self._waiting[0].at + self._delay_s:
            if picture := self._taken(self._waiting[0].at + self._delay_s):
                self._fired = None
                yield self._frame(picture, self._waiting.popleft())
        else:
            self._capture.skip("untriggered")
        while self._waiting and now > self._waiting[0].at + self._delay_s + self._timeout_s:
            why = self._capture.problem or "gave none"
            self._fired = None
            yield self._fault(
                self._waiting.popleft(), f"no picture within {self._timeout_s:g} s of the trigger: the camera {why}"
            )

    def _taken(self, not_before: float) -> CapturedPicture | None:
        """Return the picture for the first request that waits, if it is there. not_before: time.monotonic()."""
        if not self._software:
            return self._capture.take(not_before, "untriggered")
        if self._fired is None:
            self._fired = self._capture.trigger()
        if self._fired is None:
            self._capture.skip("untriggered")
            return None
        return self._capture.take(not_before, "untriggered", self._fired)

    def _frame(self, picture: CapturedPicture, request: PictureRequest | None = None) -> Frame:
        return self._numbered(picture.taken_at, picture.pixels, request, None)

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
