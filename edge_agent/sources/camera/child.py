"""The process that captures one camera: it writes the newest picture to the slot, and events to standard output.

OpenCV's read() may never return, and an open camera may never be released; then the agent kills this process and starts
another. So it is small, imports neither torch nor the config, and keeps no state. It reads from standard input the slot's
descriptor and the Settings, then ["open", address, seconds that may take] and ["trigger", number]; it exits at the end of
input. It writes ["ready"], ["opened", width, height, fps], ["picture"], ["lost", why] and ["ended"]. Each is
a line of JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

import cv2
import google_crc32c
import numpy as np

from edge_agent.sources.camera.opening import Lost, opened, rate_of
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import FROZEN, Pace, Settings
from edge_agent.sources.camera.slot import Slot, State
from edge_agent.sources.camera.triggers.software import SoftwareTriggers

if TYPE_CHECKING:
    from edge_agent.sources.camera.http_stream import Video

MIN_SIDE = 16  # as in pictures.py, which is slow to import
LOOK_S = 0.25  # how often a picture is decoded though none is due, to detect a frozen camera
REOPEN_S = 30.0  # how often a frozen camera is opened again; it may recover without that
AT_ONCE_S = 0.002  # a picture of a stream of files that comes within this has waited: its decoding lags behind
LAG_S = 0.5  # for how long such pictures are dropped at a time
BACKLOG_S = 2.0  # for how long after opening or a stall pictures that come without delay count as buffered
STALL_S, STALL_TIMES = 0.4, 3.0  # a pause so long, and so many times the usual one, is a stall of the connection
USUAL_OF = 9  # pauses whose median is the usual one

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class _Ended(Exception):
    """The video is over."""


def main() -> None:
    """Serve until the end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the agent's children too, but the agent ends them itself
        signal.signal(number, signal.SIG_IGN)
    reports = os.dup(1)
    os.dup2(2, 1)  # libraries may print: their output must not be read as reports
    fd, keys = json.loads(sys.stdin.readline())
    settings = Settings(**keys)
    requests: SimpleQueue[tuple[str, float]] = SimpleQueue()
    triggers = SoftwareTriggers()

    def serve() -> None:
        try:
            _serve(settings, Slot(fd), reports, requests, triggers)
        except BaseException:  # a bug: exit, so that the agent notices it
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=serve, daemon=True).start()
    for line in sys.stdin:
        kind, *what = json.loads(line)
        if kind == "trigger":
            triggers.requested.put(what[0])
        else:
            requests.put((what[0], what[1]))
    os._exit(0)  # the other thread may hang


def _serve(
    settings: Settings,
    slot: Slot,
    reports: int,
    requests: SimpleQueue[tuple[str, float]],
    triggers: SoftwareTriggers,
) -> None:
    """Serve requests to open the camera.

    Args:
        settings: how the camera is captured.
        slot: shared memory for the newest picture.
        reports: file descriptor that reports are written to.
        requests: the address to open, and the seconds that may take.
        triggers: the numbers of software triggers.
    """

    def report(*what: object) -> None:
        os.write(reports, json.dumps(what).encode() + b"\n")

    if settings.backend == "ffmpeg":
        options = f"rtsp_transport;{settings.transport}|flags;low_delay"
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)
    if settings.is_http:  # now, as it is slow to import, and how fast the camera opens is measured
        import edge_agent.sources.camera.http_stream
    if settings.backend == "genicam":
        import edge_agent.sources.camera.genicam.camera  # noqa: F401
    cv2.setNumThreads(1)
    capture = CameraReader(settings, slot, reports, triggers)
    report("ready")
    while True:
        address, timeout_s = requests.get()
        try:
            with opened(address, settings, timeout_s, triggers, capture.note_alive) as (video, pace):
                report(
                    "opened",
                    int(video.get(cv2.CAP_PROP_FRAME_WIDTH)),
                    int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)),
                    rate_of(video) or 0.0,
                )
                capture.run(video, pace)
        except _Ended:
            report("ended")
        except (Lost, Unreachable, cv2.error) as error:
            report("lost", str(error))


class CameraReader:
    """Reads an open camera; keeps the counts and the checksums of pictures from one opening to the next."""

    def __init__(self, settings: Settings, slot: Slot, reports: int, triggers: SoftwareTriggers | None = None) -> None:
        """Prepare to read a camera.

        Args:
            settings: how the camera is captured.
            slot: shared memory for the newest picture.
            reports: file descriptor that reports are written to.
            triggers: of a camera that is triggered by software.
        """
        self.state = State()
        self.triggers = triggers or SoftwareTriggers()
        self._settings, self._slot, self._reports = settings, slot, reports
        self._seen: OrderedDict[int, float] = OrderedDict()  # checksums of pictures, and when they last came
        self._due_at = self._looked_at = self._new_at = self._opened_at = 0.0

    def run(self, video: Video, pace: Pace = Pace.DECODED) -> None:
        """Read pictures until none comes. Raises Lost, _Ended or Unreachable.

        Args:
            video: the open camera.
            pace: how its pictures come.
        """
        if not self.state.frozen:  # a camera that was restarted may show the same picture as before
            self._seen.clear()
        interval, fresh_at = 1.0 / (rate_of(video) or 25.0), 0.0
        self.state.at = self._opened_at = started = time.monotonic()
        is_sent = not self._settings.is_video and self._settings.backend == "ffmpeg" and pace is not Pace.POLLED
        backlog, backlog_from = is_sent, started
        gaps: deque[float] = deque(maxlen=USUAL_OF)  # between pictures
        played = 0
        while True:
            if self._settings.is_video:
                time.sleep(max(0.0, started + played * interval - time.monotonic()))
            called = time.monotonic()
            if not video.grab():
                self._end(video, played)
                played, started = 0, time.monotonic()
                continue
            now = time.monotonic()
            gap, self.state.at = now - self.state.at, now
            played += 1
            self.state.captured += 1
            if is_sent and len(gaps) == USUAL_OF and gap > max(STALL_S, STALL_TIMES * statistics.median(gaps)):
                backlog, backlog_from = True, now  # this one and those behind it were held up on their way
            else:
                backlog = backlog and now - called < interval / 4 and now - backlog_from < BACKLOG_S
            gaps.append(gap)
            if pace is not Pace.SENT or now - called > AT_ONCE_S:
                fresh_at = now
            has_waited = backlog or 0 < now - fresh_at < LAG_S
            self._take(video, now, due=pace is Pace.POLLED or now >= self._due_at, backlog=has_waited)

    def note_alive(self) -> None:
        """Note that a camera that waits for a trigger answers."""
        self.state.at = time.monotonic()
        self._slot.write(self.state)

    def _end(self, video: Video, played: int) -> None:
        """Handle the end of the stream: start again, or raise."""
        if not self._settings.is_video:
            raise Lost("the stream ended")
        if not played:
            raise Lost("holds no picture that can be decoded")
        if not self._settings.repeat:
            raise _Ended
        if not video.set(cv2.CAP_PROP_POS_FRAMES, 0):
            raise Lost("cannot be played from its beginning again")

    def _take(self, video: Video, now: float, *, due: bool, backlog: bool) -> None:
        """Publish the grabbed picture, or count why it is dropped.

        Args:
            video: the camera.
            now: when the picture came; time.monotonic().
            due: whether the rate asks for it.
            backlog: whether it has waited in the network.
        """
        state, period = self.state, 1.0 / self._settings.fps if self._settings.fps else 0.0
        pixels = None
        if backlog:
            state.stale += 1
        elif not due and now - self._looked_at < LOOK_S:
            state.not_due += 1
        else:
            self._looked_at = now
            try:
                read, picture = video.retrieve()
                pixels = _rgb(picture, self._settings) if read and picture is not None else None
            except BaseException:  # it ends the capture, but the picture was captured
                state.unreadable += 1
                self._slot.write(state)
                raise
            if pixels is None:
                state.unreadable += 1
            else:
                if self._is_new(pixels, now):
                    self._new_at = now
                state.frozen = int(now - self._new_at > self._settings.freeze_s)
                if state.frozen:
                    state.repeated += 1
                    pixels = None
                elif not due:
                    state.not_due += 1
                    pixels = None
                else:
                    state.published += 1
                    state.taken_at, state.taken_ns = now, time.time_ns()
                    state.height, state.width = pixels.shape[:2]
                    state.trigger = self.triggers.answered
                    # From the due time, so that the mean rate is exact; after a pause, from now.
                    self._due_at = now + period if self._due_at + period <= now else self._due_at + period
        self._slot.write(state, pixels)
        if state.frozen and now - self._opened_at > REOPEN_S:
            raise Lost(FROZEN)
        if (
            pixels is not None and select.select((), (self._reports,), (), 0)[1]
        ):  # the pipe is full: it has unread reports already
            os.write(self._reports, b'["picture"]\n')

    def _is_new(self, pixels: np.ndarray, now: float) -> bool:
        """Return whether this exact picture was not seen recently.

        A frozen encoder alternates between key frames and differences, so that neighbours are not equal. While it is
        frozen no checksum is forgotten, even if it is opened again.
        """
        if self._settings.is_video:
            return True
        checksum = google_crc32c.value(pixels)
        new = checksum not in self._seen
        self._seen[checksum] = now
        self._seen.move_to_end(checksum)
        while new and now - next(iter(self._seen.values())) > self._settings.freeze_s:
            self._seen.popitem(last=False)
        return new


def _rgb(picture: np.ndarray, settings: Settings) -> np.ndarray:
    """Return OpenCV's picture as (H, W, 3) uint8 RGB, rotated and cropped. Raises Lost if it cannot be inspected."""
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise Lost(f"gives samples of {picture.dtype}: have it send 8 bits, by its fourcc or by videoconvert")
    if settings.rotate:
        picture = cv2.rotate(picture, _TURNS[settings.rotate])
    height, width = picture.shape[:2]
    if height * width > settings.max_megapixels * 1e6:
        raise Lost(f"gives {width} x {height}, beyond limits.max_megapixels: lower its resolution, or raise the limit")
    if settings.roi:
        x, y, w, h = settings.roi
        picture = picture[round(y * height) : round((y + h) * height), round(x * width) : round((x + w) * width)]
    if min(picture.shape[:2]) < MIN_SIDE:
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise Lost(f"leaves {size} pixels to inspect, too few: enlarge roi, or raise its resolution")
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    return cv2.cvtColor(picture, {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels])


if __name__ == "__main__":
    main()
