"""Frames that wait for the detector: of a live station only the newest, of a stored one every one in order."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from threading import Condition

from edge_agent.core import Frame


class Inbox:
    """Filled by source threads, emptied by the detector's thread.

    captured, dropped: frames by station. Always captured = taken + dropped + waiting.
    """

    def __init__(self, capacity: int = 8) -> None:
        """capacity: stored frames of one station that may wait before its source has to."""
        self._capacity = capacity
        self._changed = Condition()
        self._waiting: OrderedDict[str, deque[Frame]] = OrderedDict()  # the station served longest ago comes first
        self._closed = False
        self.captured: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def put(self, frame: Frame, *, live: bool) -> bool:
        """Hand in a frame. live: it replaces one that still waits; else the call waits for room. False once closed."""
        with self._changed:
            queue = self._waiting.setdefault(frame.station, deque())
            if not live:
                self._changed.wait_for(lambda: self._closed or len(queue) < self._capacity)
            if self._closed:
                return False
            if live and queue:
                self.dropped[frame.station] += len(queue)
                queue.clear()
            queue.append(frame)
            self.captured[frame.station] += 1
            self._changed.notify_all()
            return True

    def take(self, most: int, timeout_s: float, gather_s: float = 0.0) -> list[Frame]:
        """Up to `most` frames, in turns from all stations; empty when none came within timeout_s.

        gather_s: after the first frame, how long to wait for a fuller batch.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or any(self._waiting.values()), timeout_s):
                return []
            deadline = time.monotonic() + gather_s
            while not self._closed and sum(map(len, self._waiting.values())) < most:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
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
