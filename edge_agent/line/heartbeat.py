"""Heartbeats of a thread, recorded by it and read by others: whether it moves at all, and how long its steps take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 30.0
DATABASE_S = 120.0  # a database server behind a dead network may take so long to become an error


class Stage:
    """One thread of the line. It says again and again that it lives; idling counts, as long as it says so.

    patience_s: how long it may then be silent. took: by the name of a step, how often it was made and the seconds of
    all together.
    """

    def __init__(self, name: str, patience_s: float = PATIENCE_S) -> None:
        self.name, self.patience_s = name, patience_s
        self.thread_id: int | None = None
        self.took: dict[str, tuple[int, float]] = {}
        self._beat_at = 0.0
        self._until = float("inf")  # monotonic seconds; a thread that has not begun, or has ended, is never late

    def beat(self, within_s: float = 0.0) -> None:
        """Record a heartbeat. within_s: extra seconds before it counts as hung."""
        self.thread_id = threading.get_ident()
        self._beat_at = time.monotonic()
        self._until = self._beat_at + self.patience_s + within_s

    @contextmanager
    def step(self, name: str, within_s: float = 0.0) -> Iterator[None]:
        """A piece of work with a beat before and after it; how long it took is added up."""
        self.beat(within_s)
        begun = time.perf_counter()
        yield
        times, seconds = self.took.get(name, (0, 0.0))
        self.took[name] = times + 1, seconds + time.perf_counter() - begun
        self.beat()

    def rest(self) -> None:
        """I have ended in good order."""
        self._until = float("inf")

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 for a thread that has not begun, or has ended."""
        return 0.0 if self._until == float("inf") else time.monotonic() - self._beat_at

    @property
    def hangs(self) -> bool:
        """Whether it has been silent for longer than it may."""
        return time.monotonic() > self._until


class WatchedStop(threading.Event):
    """The stop event of a source's thread: looking at it is that thread's heartbeat.

    A source has to look at it again and again anyway, so that none needs to know of heartbeats.
    """

    def __init__(self, stop: threading.Event, stage: Stage) -> None:
        """Wrap `stop`. stage: gets a heartbeat at each look."""
        super().__init__()
        self._stop, self._stage = stop, stage

    def is_set(self) -> bool:
        """Return whether to stop."""
        self._stage.beat(DATABASE_S)  # between two looks a source may ask the database
        return self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether to stop, after waiting for it up to `timeout` seconds."""
        self._stage.beat(DATABASE_S + (timeout or 0.0))
        return self._stop.wait(timeout)

    def set(self) -> None:
        """Stop, and everything else with it."""
        self._stop.set()
