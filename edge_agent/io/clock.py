"""The time of day for whoever deletes by it: a clock that leaps forward is believed only after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

log = logging.getLogger(__name__)

LEAP = timedelta(days=1)
DOUBT_S = 3600.0  # time enough to set it right again
# No agent is older. An earlier time was given by a clock that was not set, so it says nothing of how old a thing is.
EARLIEST = datetime(2024, 1, 1, tzinfo=timezone.utc)


class CautiousClock:
    """Gives the time, UTC. After a leap of more than a day forward it goes on for an hour as if there had been none.

    What a wrong year would delete does not come back when the year is set right.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        tick: Callable[[], float] = time.monotonic,
        last_known: datetime | None = None,
    ) -> None:
        """Begin with the time of the clock, which is in doubt, too, if it is long after `last_known`.

        Args:
            wall: gives the time of the clock, aware.
            tick: gives seconds that no setting of the clock changes.
            last_known: a time that has been, such as that of the last inspection before this start; default None.
        """
        self._wall, self._tick = wall, tick
        self._believed, self._at = wall(), tick()
        self._doubted_at: float | None = None
        if last_known is not None and self._believed - last_known > LEAP:
            log.info(
                "the last inspection was on %s and the clock says %s: nothing is deleted for its age during the next hour",
                f"{last_known:%Y-%m-%d %H:%M}", f"{self._believed:%Y-%m-%d %H:%M}",
            )  # fmt: skip
            self._believed, self._doubted_at = last_known, self._at

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
