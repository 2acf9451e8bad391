"""The sink that lets old evidence and old rows of the journal go while new inspections come in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone

from edge_agent.core import Evidence, Inspection

EVERY_S = 60.0
MOST_DAYS = 700_000  # dates go no further back


class Retention:
    """A core.Sink that writes nothing, but deletes.

    sweep: deletes pictures that are too old or too many and returns their URIs (sinks/images.py). forget_files: takes
    those URIs out of the journal. forget_before: deletes some of the journal's inspections before a moment and returns
    how many; keep_days: from when on they are too old.
    """

    def __init__(
        self,
        sweep: Callable[[datetime], list[str]],
        forget_files: Callable[[Iterable[str]], None],
        forget_before: Callable[[datetime], int],
        keep_days: float,
    ) -> None:
        self._sweep, self._forget_files, self._forget_before = sweep, forget_files, forget_before
        self._keep_days = keep_days
        self._next = 0.0  # monotonic seconds; the first inspection sweeps

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Sweep, unless that was done within the last minute."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        now = datetime.now(timezone.utc)
        if removed := self._sweep(now):
            self._forget_files(removed)
        if self._forget_before(now - timedelta(days=min(self._keep_days, MOST_DAYS))):
            self._next = 0.0  # a part of them went: the next inspection goes on with it

    def close(self) -> None:
        """Nothing is held open."""
