"""Ids of inspections: UUIDs of version 7 that sort by time and follow the clock, even one that was set back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from uuid6 import UUID

SET_BACK_MS = 60_000  # a clock that is behind the newest id by more than this was set back


class Ids:
    """Gives ids that sort in the order of the calls, until the clock is set back. Call from one thread.

    uuid6.uuid7 would go on from the time before, so that after an hour in a wrong year all evidence would lie in that year.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """clock_ns: gives nanoseconds since 1970."""
        self._clock_ns, self._last_ms = clock_ns, 0

    def __call__(self) -> str:
        """Return the next id."""
        now_ms = self._clock_ns() // 10**6
        self._last_ms = now_ms if now_ms < self._last_ms - SET_BACK_MS else max(now_ms, self._last_ms + 1)
        return str(UUID(int=self._last_ms << 80 | secrets.randbits(76), version=7))


new_id = Ids()
