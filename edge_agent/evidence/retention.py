"""Deletes evidence and journal rows that are too old or exceed the size limit, in small steps."""

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
MAX_DAYS = 700_000  # a datetime cannot go back further
STEP_ROWS = 500  # rows deleted in one transaction, for which the line waits
# More than an inspection takes, so that one step does not delete more than the excess before it is measured again.
ROW_BYTES = 4096


class Rows(Protocol):
    """The methods of the journal that retention needs; see Journal."""

    def clear_uris(self, uris: Iterable[str]) -> None: ...
    def to_learn(self, since: datetime) -> list[str]: ...
    def purge_before(self, moment: datetime, limit: int, labelled_since: datetime) -> PurgeStep:
        """See Journal."""
        ...

    def purge_oldest(self, limit: int, labelled_since: datetime) -> PurgeStep: ...
    def size(self) -> int: ...


class Retention:
    """Deletes by age and by size; run() is a periodic task, so that an idle line deletes by age, too."""

    def __init__(
        self,
        sweep: Callable[[datetime], list[str]],
        journal: Rows,
        *,
        keep_days: float,
        keep_gb: float,
        take_removed: Callable[[], list[str]] = list,
        keep_labelled_days: float = 0.0,
        hold: Callable[[Iterable[str]], None] = lambda ids: None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Connect the picture store and the journal.

        Args:
            sweep: deletes pictures that are too old or exceed the size limit, and returns their URIs
                (EvidenceStore.sweep).
            journal: where the URIs of deleted pictures are cleared and inspections are deleted.
            keep_days: inspections older than this are deleted.
            keep_gb: when the journal is larger than this (1e9 bytes each), the oldest inspections are deleted.
            take_removed: returns the URIs of pictures deleted between two sweeps (EvidenceStore.take_removed); default
                none.
            keep_labelled_days: inspections with a label stay for so long after it was said, unless it is learnt before;
                default 0.
            hold: told, before each sweep, the ids of inspections whose pictures stay for a label (EvidenceStore.hold);
                default nothing.
            clock: returns the current time, aware; default a CautiousClock.
        """
        self._sweep, self._take_removed, self._journal = sweep, take_removed, journal
        self._keep_days, self._keep_bytes = keep_days, keep_gb * 1e9
        self._next = 0.0  # monotonic seconds; the first run sweeps
        self._keep_labelled_days, self._hold = keep_labelled_days, hold
        self._clock = clock or CautiousClock()
        self._removed: list[str] = []  # URIs not yet cleared in the journal
        self._has_warned = False

    def run(self) -> bool:
        """Delete one step, and return whether more is left to delete.

        Sweep once a minute; between two sweeps only clear the URIs of pictures that were deleted to make room.
        """
        if time.monotonic() < self._next:
            self._removed += self._take_removed()
            self._clear_removed()
            return False
        self._next = time.monotonic() + EVERY_S
        now = self._clock()
        labelled_since = _ago(now, self._keep_labelled_days)
        self._hold(self._journal.to_learn(labelled_since))
        self._removed += self._sweep(now)
        self._clear_removed()
        old = self._journal.purge_before(_ago(now, self._keep_days), STEP_ROWS, labelled_since)
        if old.more or self._purge_excess(labelled_since):
            self._next = 0.0  # the next run continues
        return self._next == 0.0

    def close(self) -> None:
        """Clear the URIs of deleted pictures that are still in the journal; after this the list is lost."""
        self._removed += self._take_removed()
        try:
            self._clear_removed()
        except JournalError as error:
            log.warning("the journal goes on naming %d pictures that are deleted (%s)", len(self._removed), error)

    def _clear_removed(self) -> None:
        if self._removed:
            self._journal.clear_uris(self._removed)
            self._removed = []

    def _purge_excess(self, labelled_since: datetime) -> bool:
        """Delete one step of the rows beyond the size limit, and return whether to go on; warn once when none may be deleted."""
        size = self._journal.size()
        excess = size - self._keep_bytes
        if excess <= 0:
            return False
        step = self._journal.purge_oldest(min(STEP_ROWS, ceil(excess / ROW_BYTES)), labelled_since)
        if not step.more and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the journal holds %.3g GB, more than database.keep_gb (%.3g), and no inspection is left that may go: "
                "what remains is the ledger of inspected files, and rows whose messages wait for the broker or whose labels "
                "are to be learnt; "
                "raise keep_gb, or begin a new journal",
                size / 1e9,
                self._keep_bytes / 1e9,
            )
        return step.more


def _ago(now: datetime, days: float) -> datetime:
    return now - timedelta(days=min(days, MAX_DAYS))
