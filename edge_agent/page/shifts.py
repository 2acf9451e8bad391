"""Numbers by shift: how a period is cut at the hours at which shifts begin, and what is added up from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta, timezone, tzinfo
from itertools import pairwise

from edge_agent.journal.review import JournalReview, Selection, StationNumbers


@dataclass(frozen=True, slots=True)
class ShiftNumbers:
    """What a station did in a shift, or in the part of it that lies in the period. begin, end: aware; the end is not in it."""

    begin: datetime
    end: datetime
    numbers: StationNumbers


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a kind of defect was said. share, up_to_here: of all kinds; of it and the more frequent ones; in [0, 1]."""

    name: str
    count: int
    share: float
    up_to_here: float


def spans(
    since: datetime, until: datetime, shifts: Sequence[time], zone: tzinfo | None
) -> list[tuple[datetime, datetime]]:
    """Return the shifts of a period, the first and the last cut to it.

    Args:
        since: aware.
        until: aware, after since.
        shifts: when one begins; the night's goes on until the first one of the next day.
        zone: of these times; None for this machine's.
    """
    first, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    wall = [datetime.combine(day, begin) for day in days for begin in shifts]
    begins = {(one.replace(tzinfo=zone) if zone else one.astimezone()).astimezone(timezone.utc) for one in wall}
    cuts = [since, *sorted(one for one in begins if since < one < until), until]
    return list(pairwise(cuts))


def by_shift(
    journal: JournalReview, chosen: Selection, until: datetime, shifts: Sequence[time], zone: tzinfo | None
) -> list[ShiftNumbers]:
    """Count what the stations of a selection did in each shift; reads every inspection of its time.

    Args:
        journal: what is counted.
        chosen: the period and the station; since is given.
        until: the end of the period.
        shifts: see spans().
        zone: see spans().

    Returns:
        The shifts in which something was inspected, in their order, with the stations by name.
    """
    assert chosen.since is not None
    found = []
    for begin, end in spans(chosen.since, until, shifts, zone):
        of_shift = replace(chosen, since=begin, until=end)
        found += [ShiftNumbers(begin, end, one) for one in journal.numbers(of_shift)]
    return found


def by_station(rows: Sequence[ShiftNumbers]) -> list[StationNumbers]:
    """Add up the shifts of each station."""
    found: dict[str, StationNumbers] = {}
    for one in (row.numbers for row in rows):
        before = found.get(one.station)
        found[one.station] = one if before is None else _sum(before, one)
    return [found[name] for name in sorted(found)]


def kinds(numbers: Sequence[StationNumbers]) -> list[Kind]:
    """Return the kinds of defects of all stations, the most frequent first."""
    counts = Counter[str]()
    for one in numbers:
        counts.update(dict(one.kinds))
    total, so_far, found = counts.total(), 0, []
    for name, count in counts.most_common():
        so_far += count
        found.append(Kind(name, count, count / total, so_far / total))
    return found


def _sum(one: StationNumbers, other: StationNumbers) -> StationNumbers:
    return StationNumbers(
        one.station,
        one.parts + other.parts,
        one.not_ok + other.not_ok,
        one.undecided + other.undecided,
        one.false_alarms + other.false_alarms,
        one.confirmed + other.confirmed,
        one.missed + other.missed,
        (Counter(dict(one.kinds)) + Counter(dict(other.kinds))).most_common(),
    )
