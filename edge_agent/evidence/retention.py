"""Deletes evidence and rows of the journal that are too old or too many, a part at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import Protocol

from edge_agent.errors import JournalError
from edge_agent.io.clock import CautiousClock
from edge_agent.journal.purge import PurgeStep

log = logging.getLogger(__name__)

EVERY_S = 60.0
MOST_DAYS = 700_000  # dates go no further back
PART = 500  # rows that go at once: the line waits for them
ROW_BYTES = (
    4096  # more than an inspection takes, so that no more of them go than the excess before it is measured again
)


class Rows(Protocol):
    """The part of the journal that shrinks."""

    def clear_uris(self, uris: Iterable[str]) -> None: ...
    def purge_before(self, moment: datetime, limit: int) -> PurgeStep: ...
    def purge_oldest(self, limit: int) -> PurgeStep: ...
    def size(self) -> int: ...


class Retention:
    """Deletes by age and by size; run() is a periodic task, so that an idle line deletes by age, too.

    sweep: deletes pictures that are too old or too many and returns their URIs (evidence/store.py). take_removed: returns those
    that went between two sweeps. journal: loses those URIs, the inspections older than keep_days, and as many more as make
    it larger than keep_gb (1e9 bytes).
    """

    def __init__(
        self,
        sweep: Callable[[datetime], list[str]],
        journal: Rows,
        *,
        keep_days: float,
        keep_gb: float,
        take_removed: Callable[[], list[str]] = list,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._sweep, self._take_removed, self._journal = sweep, take_removed, journal
        self._keep_days, self._keep_bytes = keep_days, keep_gb * 1e9
        self._next = 0.0  # monotonic seconds; the first run sweeps
        self._clock = clock or CautiousClock()
        self._removed: list[str] = []  # URIs that the journal has still to lose
        self._has_complained = False

    def run(self) -> bool:
        """Delete a part, and return whether more is left to delete.

        Sweeps once a minute. Between two sweeps it only tells the journal which pictures made way for newer ones.
        """
        if time.monotonic() < self._next:
            self._removed += self._take_removed()
            self._clear_removed()
            return False
        self._next = time.monotonic() + EVERY_S
        now = self._clock()
        self._removed += self._sweep(now)
        self._clear_removed()
        days = min(self._keep_days, MOST_DAYS)
        if self._journal.purge_before(now - timedelta(days=days), PART).more or self._purge_excess():
            self._next = 0.0  # the next run goes on
        return self._next == 0.0

    def close(self) -> None:
        """Tell the journal what it has still to lose: nobody knows it after the end."""
        self._removed += self._take_removed()
        try:
            self._clear_removed()
        except JournalError as error:
            log.warning("the journal goes on naming %d pictures that are deleted (%s)", len(self._removed), error)

    def _clear_removed(self) -> None:
        if self._removed:
            self._journal.clear_uris(self._removed)
            self._removed = []

    def _purge_excess(self) -> bool:
        """Delete a part of the rows that are too many, and say whether to go on; tell it once when none may go."""
        size = self._journal.size()
        excess = size - self._keep_bytes
        if excess <= 0:
            return False
        gone = self._journal.purge_oldest(min(PART, ceil(excess / ROW_BYTES)))
        if not gone.more and not self._has_complained:
            self._has_complained = True
            log.warning(
                "the journal holds %.3g GB, more than database.keep_gb (%.3g), and no inspection is left that may go: "
                "what remains is the ledger of inspected files, and rows whose messages wait for the broker; "
                "raise keep_gb, or begin a new journal",
                size / 1e9,
                self._keep_bytes / 1e9,
            )
        return gone.more
