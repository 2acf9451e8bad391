"""The sink that lets old evidence go while new inspections come in, and tells the journal which pictures are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from edge_agent.core import Evidence, Inspection

EVERY_S = 60.0


class Retention:
    """A core.Sink that writes nothing. sweep: deletes what is too old or too much and returns its URIs (sinks/images.py)."""

    def __init__(self, sweep: Callable[[datetime], list[str]], forget: Callable[[Iterable[str]], None]) -> None:
        self._sweep, self._forget = sweep, forget
        self._next = 0.0  # monotonic seconds; the first inspection sweeps

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Sweep, unless that was done within the last minute."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        if removed := self._sweep(datetime.now(timezone.utc)):
            self._forget(removed)

    def close(self) -> None:
        """Nothing is held open."""
