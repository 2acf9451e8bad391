"""Before and after: what a corrected bank would say of the pictures that are kept, and what stands against it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from edge_agent.core import Evaluation, Reading
from edge_agent.errors import PictureError
from edge_agent.journal.rows import LabelValue
from edge_agent.learn.corrections import KeptPicture
from edge_agent.line.inspect import Station
from edge_agent.line.judge import judge

LAST = 1000  # kept pictures that are read before and after
NAMED = 10  # pictures that a sentence names


@dataclass(frozen=True, slots=True)
class Compared:
    """One picture, read with both banks.

    before, after: whether it is NotOK. evidence: it is one of the last that were kept. lost: it is a defect that would be found
    by what the first bank knows of other parts, and not by what the second one does.
    """

    picture: KeptPicture
    score_before: float
    score_after: float
    before: bool
    after: bool
    evidence: bool
    lost: bool = False

    @property
    def said(self) -> LabelValue | None:
        """What a person says of it."""
        return self.picture.label.value if self.picture.label else None

    @property
    def flipped(self) -> bool:
        """Whether its verdict would be another one."""
        return self.before != self.after

    @property
    def line(self) -> str:
        """It in words: its name, both scores, and what was said."""
        words = {True: "NotOK", False: "OK"}
        return (
            f"{self.picture.name}: {words[self.before]} {self.score_before:.3f} -> {words[self.after]} {self.score_after:.3f}"
            + (f", said to be {self.said.value}" if self.said else "")
        )


def compare(
    pictures: Sequence[tuple[KeptPicture, bool]],
    before: Station,
    after: Station,
    decode: Callable[[KeptPicture], np.ndarray],
    unaided: Callable[[KeptPicture], tuple[Station, Station]],
    report: Callable[[int], object] = lambda count: None,
    batch: int = 8,
) -> list[Compared]:
    """Read pictures with both banks and judge them by the station's rules.

    Args:
        pictures: each with whether it is one of the last that were kept.
        before: the station as it is.
        after: the same with the corrected bank.
        decode: gives the pixels of a picture.
        unaided: gives both stations without what they have learnt from this picture. A defect is read with them besides: that
            it is known by its own patches says nothing of the next one like it.
        report: called with the number of pictures that were read; default nothing.
        batch: pictures that are read at once; default 8.
    """
    found: list[Compared] = []
    for start in range(0, len(pictures), batch):
        chunk, pixels = [], []
        for one in pictures[start : start + batch]:
            try:
                pixels.append(decode(one[0]))
            except PictureError:  # retention was here
                continue
            chunk.append(one)
        if not chunk:
            continue
        read = [station.detector.read(pixels, [station.keep] * len(pixels)) for station in (before, after)]
        for (picture, evidence), shown, first, second in zip(chunk, pixels, *read, strict=True):
            was, is_now = _is_not_ok(first, shown, before), _is_not_ok(second, shown, after)
            lost = False
            if picture.label and picture.label.value is LabelValue.DEFECT:
                was_unaided, is_unaided = (
                    _is_not_ok(one.detector.read([shown], [one.keep])[0], shown, one) for one in unaided(picture)
                )
                lost = (was and not is_now) or (was_unaided and not is_unaided)
            found.append(Compared(picture, float(first.score), float(second.score), was, is_now, evidence, lost))
        report(len(chunk))
    return found


def _is_not_ok(reading: Reading, shown: np.ndarray, station: Station) -> bool:
    return judge(reading, station.rules, shown.shape).evaluation is Evaluation.NOT_OK


def objections(
    compared: Sequence[Compared],
    blinded: Sequence[str],
    withdrawn: Collection[str],
    *,
    flips: float,
    false_alarm_rate: float | None,
) -> Iterator[str]:
    """Yield what stands against a corrected bank, a sentence each, with the pictures; nothing where it may be used.

    Args:
        compared: the labelled pictures, and the last that were kept.
        blinded: inspections of defects that would be lost, as their learnt patches say.
        withdrawn: inspections of which something was said that is taken back.
        flips: largest share of the last pictures that may get another verdict, besides those of which something is said.
        false_alarm_rate: that the station's calibration promises; None without one.
    """
    lost = [one for one in compared if one.lost]
    if lost:
        yield f"{_count(len(lost), 'defect')} would no longer be found: {_named(lost)}"
    gone = sorted(set(blinded) - {one.picture.inspection.id for one in compared})
    if gone:
        yield f"{_count(len(gone), 'defect')} whose pictures are gone would no longer be found: {', '.join(gone[:NAMED])}"
    rejected = [one for one in compared if one.said is LabelValue.GOOD and not one.before and one.after]
    if rejected:
        yield f"{_count(len(rejected), 'good part')} would become false alarms: {_named(rejected)}"
    last = [one for one in compared if one.evidence]
    unsaid = [one for one in last if one.said is None and one.picture.inspection.id not in withdrawn]
    ok = [one for one in unsaid if not one.before]
    alarms = [one for one in ok if one.after]
    if false_alarm_rate is not None and len(alarms) > floor(false_alarm_rate * len(ok)):
        yield (
            f"{len(alarms)} of {len(ok)} pictures that are OK would become NotOK, while the calibration promises"
            f" {100 * false_alarm_rate:.3g} % of false alarms: say of each whether it is a defect: {_named(alarms)}"
        )
    flipped = [one for one in unsaid if one.flipped]
    allowed = max(1, floor(flips * len(last))) if flips else 0
    if len(flipped) > allowed:
        yield (
            f"{len(flipped)} of the last {len(last)} kept pictures would get another verdict, at most {allowed} may (learn: flips);"
            f" say of each what it is: {_named(flipped)}"
        )


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _named(found: Sequence[Compared]) -> str:
    names = "; ".join(one.line for one in found[:NAMED])
    return f"{names}; and {len(found) - NAMED} more" if len(found) > NAMED else names
