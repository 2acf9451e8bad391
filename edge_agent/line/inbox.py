"""Frames that wait for the detector: of a live station the newest alone, of a stored one every one in order.

A frame that was asked for by a trigger gets its verdict, live or not; if more of them come than the detector can take,
it is the one that it came too late for.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import replace
from threading import Condition

import numpy as np

from edge_agent.core import Frame

SUPERSEDED, STOPPING = "superseded", "stopping"


class Inbox:
    """Filled by source threads, emptied by the detector's thread.

    captured: frames by station; dropped: by station and reason, superseded (a newer one of a live station came) or
    stopping. Always captured = taken + dropped + waiting.
    """

    def __init__(self, capacity: int = 8, stations: int = 1) -> None:
        """capacity: stored frames of one station that may wait before its source has to. stations: how many there are."""
        self._capacity, self._stations = capacity, stations
        self._changed = Condition()
        self._waiting: OrderedDict[str, deque[Frame]] = OrderedDict()  # the station served longest ago comes first
        self._since: dict[str, float] = {}  # from when on a station has had a frame waiting (monotonic seconds)
        self._closed = False
        self.captured: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()

    def put(self, frame: Frame, *, live: bool) -> bool:
        """Hand in a frame. live: it replaces one that still waits; else the call waits for room. False once closed.

        A live one with a trigger does neither: it waits its turn, and if `capacity` frames do already, without pixels.
        """
        with self._changed:
            queue = self._waiting.setdefault(frame.station, deque())
            if not live:
                self._changed.wait_for(lambda: self._closed or len(queue) < self._capacity)
            if not queue:
                self._since[frame.station] = time.monotonic()
            self.captured[frame.station] += live or not self._closed  # a stored one comes again at the next start
            if self._closed:
                self.dropped[frame.station, STOPPING] += live
                return False
            if live and frame.trigger_id is None and queue:
                self.dropped[frame.station, SUPERSEDED] += len(queue)
                queue.clear()
            elif live and len(queue) >= self._capacity and frame.fault is None:
                fault = "triggers come faster than the detector can read pictures: send fewer, or get a faster machine"
                frame = replace(frame, pixels=np.zeros((0, 0, 3), np.uint8), fault=fault)
            queue.append(frame)
            self._changed.notify_all()
            return True

    def take(self, most: int, timeout_s: float, max_wait_s: float = 0.0) -> list[Frame]:
        """Take frames, in turns from all stations; empty when none came in time.

        Args:
            most: frames at most.
            timeout_s: seconds to wait for the first.
            max_wait_s: seconds that a station's frame may have waited for those of other stations before it goes without them.
                A second frame of a station is not waited for, and waiting while others were read counts.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or any(self._waiting.values()), timeout_s):
                return []
            while not self._closed and sum(map(len, self._waiting.values())) < most:
                since = [self._since[name] for name, queue in self._waiting.items() if queue]
                left = min(since) + max_wait_s - time.monotonic()
                if len(since) >= self._stations or left <= 0:
                    break
                self._changed.wait(left)
            frames: list[Frame] = []
            while len(frames) < most and (
                station := next((name for name, queue in self._waiting.items() if queue), None)
            ):
                frames.append(self._waiting[station].popleft())
                self._waiting.move_to_end(station)
            self._changed.notify_all()
            return frames

    def close(self) -> None:
        """No more frames come in; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Closed, and nothing waits."""
        with self._changed:
            return self._closed and not any(self._waiting.values())
