"""Warns of a station that can decide nothing: many NotDecidable in a row say that something is broken, not one part."""

from __future__ import annotations

import logging
from collections import Counter

from edge_agent.core import Evaluation, Evidence, Inspection

log = logging.getLogger(__name__)

FIRST = 5  # in a row, after which it is said; then again each time that the row is twice as long


class UndecidedRows:
    """An observer of the line. lengths: by station, how many of its last inspections were NotDecidable, without a break."""

    def __init__(self) -> None:
        self.lengths: Counter[str] = Counter()
        self._told_at: dict[str, int] = {}

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Note an inspection; log when a row is long, and when it is over."""
        station, verdict = inspection.frame.station, inspection.verdict
        if verdict.evaluation is not Evaluation.NOT_DECIDABLE:
            if self._told_at.pop(station, 0):
                log.warning("station %s: decides again, after %d NotDecidable in a row", station, self.lengths[station])
            self.lengths[station] = 0
            return
        self.lengths[station] += 1
        if self.lengths[station] >= max(FIRST, 2 * self._told_at.get(station, 0)):
            self._told_at[station] = self.lengths[station]
            log.warning(
                "station %s: the last %d pictures were NotDecidable, the newest because %s",
                station, self.lengths[station], verdict.reason,
            )  # fmt: skip
