"""The time of day for whoever deletes by it: a clock that leaps forward is believed only after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

log = logging.getLogger(__name__)

LEAP = timedelta(days=1)
DOUBT_S = 3600.0  # time enough to set it right again


class CautiousClock:
    """Gives the time, UTC. After a leap of more than a day forward it goes on for an hour as if there had been none.

    What a wrong year would delete does not come back when the year is set right. wall, tick: the clock, and seconds that
    no setting of it changes.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._tick = wall, tick
        self._believed, self._at = wall(), tick()
        self._doubted_at: float | None = None

    def __call__(self) -> datetime:
        now, tick = self._wall(), self._tick()
        expected = self._believed + timedelta(seconds=tick - self._at)
        if now - expected <= LEAP:
            self._doubted_at = None
        elif self._doubted_at is None:
            self._doubted_at = tick
            log.warning(
                "the clock leapt from %s to %s: nothing is deleted for its age during the next hour; is it right?",
                f"{expected:%Y-%m-%d %H:%M}", f"{now:%Y-%m-%d %H:%M}",
            )  # fmt: skip
        if self._doubted_at is not None and tick - self._doubted_at < DOUBT_S:
            now = expected
        else:
            self._doubted_at = None
        self._believed, self._at = now, tick
        return now
