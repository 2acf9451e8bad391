"""What a calibration promises, in lines of plain words."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from edge_agent.line.calibration import Calibration
from trainer.calibrate.calibration import left_out, percent
from trainer.calibrate.conformal import false_alarm_interval, is_tied, threshold_rank
from trainer.calibrate.readings import Readings


def summary(calibration: Calibration, readings: Readings, rate: Fraction) -> Iterator[str]:
    """Describe a calibration.

    Args:
        calibration: the one that was made.
        readings: the good pictures' readings that it was made from.
        rate: the false-alarm rate that was asked for.
    """
    n, m = readings.n, threshold_rank(readings.n, rate)
    low, high = map(percent, false_alarm_interval(n, m))
    not_ok = int((readings.scores >= calibration.threshold).sum())
    outlined = int((readings.peaks >= (calibration.map_threshold or 1)).sum())
    yield f"calibrated on {n} good pictures{left_out(readings)}"
    yield f"threshold      {calibration.threshold:.4f}; {not_ok} of them reach it and would be NotOK"
    yield f"map threshold  {calibration.map_threshold:.4f}; {outlined} of them reach it somewhere and would be outlined there"
    yield (
        f"promise        the next good part like these is called NotOK with a chance of at most {m} in {n + 1},"
        f" {percent(Fraction(m, n + 1))}; asked for: {percent(rate)}"
    )
    bounds = f"at most {high}" if is_tied(readings.scores, m) else f"between {low} and {high}"
    yield f"confidence     with 95 % confidence the true rate of this threshold is {bounds}; more pictures narrow that"
    yield "valid          while parts, camera, light, polygons and checkpoint stay as they are"
    if outlined >= m:
        yield f"warning        no map threshold keeps good parts dark: {outlined} of them light up as high as maps go"
