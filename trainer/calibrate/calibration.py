"""A calibration made from readings of good pictures, and its file."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np

from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.line.calibration import QUANTILES, Calibration, read_calibration
from trainer.calibrate.conformal import false_alarm_interval, just_above, pictures_needed, threshold_rank
from trainer.calibrate.readings import Readings, ReadingSetup
from trainer.io.files import write_whole

_LOWEST_MAP_THRESHOLD = 1e-6  # maps of nothing but zeros would give one that no colour scale can be divided by


def require_enough(readings: Readings, rate: Fraction) -> None:
    """Raise EdgeAgentError when there are too few pictures; it says how many more it takes, and which rate these allow."""
    short = pictures_needed(rate) - readings.n
    if short <= 0:
        return
    lowest = Context(prec=2, rounding=ROUND_CEILING).divide(Decimal(1), Decimal(readings.n + 1))
    raise EdgeAgentError(
        f"{readings.n} good pictures{left_out(readings)} are too few to promise a false-alarm rate of {percent(rate)}: that takes"
        f" {pictures_needed(rate)}, so {short} more"
        + (f"; these allow --false-alarm-rate {lowest:f}" if readings.n else "")
    )


def make_calibration(setup: ReadingSetup, readings: Readings, rate: Fraction, at_least: float = 0.0) -> Calibration:
    """Make the calibration, created now. Its map threshold is 1 when no other keeps good parts dark.

    Args:
        setup: how the pictures were read.
        readings: of the good pictures.
        rate: the highest false-alarm rate to allow, in (0, 1).
        at_least: lowest threshold to take, in [0, 1]; default 0.

    Raises EdgeAgentError when there are too few pictures, or no threshold keeps the rate.
    """
    require_enough(readings, rate)
    m = threshold_rank(readings.n, rate)
    threshold = max(at_least, just_above(readings.scores, m))
    if threshold > 1:
        raise EdgeAgentError(
            f"{int((readings.scores >= 1).sum())} of {readings.n} good pictures have the highest score there is, 1, so no threshold"
            f" keeps false alarms at {percent(rate)}: take defective pictures out, fit a checkpoint for this part, or allow more"
        )
    created = datetime.now(timezone.utc)
    facts = {
        "threshold": threshold,
        "map_threshold": min(1.0, max(_LOWEST_MAP_THRESHOLD, just_above(readings.peaks, m))),
        "false_alarm_rate": float(rate),
        "false_alarm_interval": false_alarm_interval(readings.n, m),
        "good_pictures": readings.n,
        "class_name": setup.class_name,
        "include": setup.include,
        "ignore": setup.ignore,
        "model_sha256": setup.detector.info.model_sha256,
        "checkpoint_sha256": setup.detector.info.checkpoint_sha256,
        "image_size": setup.detector.info.image_size,
        "windows": setup.detector.info.windows,
        "squares": setup.detector.info.squares,
        "created": created,
        "score_quantiles": _quantiles(readings.scores),
        "brightness_quantiles": _quantiles(readings.brightness),
        "lowest_contrast": float(readings.contrast.min()),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return Calibration.model_validate(
        {"schema": "edge-agent/calibration/1", "id": f"c-{created:%Y%m%d}-{digest[:6]}", **facts}
    )


def require_replaceable(out: Path) -> None:
    """Raise EdgeAgentError when `out` exists and is not a calibration."""
    if out.exists():
        try:
            read_calibration(out)
        except ConfigError:
            raise EdgeAgentError(
                f"{out}: is there already and is no calibration: move it away, or name another --out"
            ) from None


def write_calibration(calibration: Calibration, out: Path) -> None:
    """Write the calibration's file, whole or not at all. Raises EdgeAgentError."""
    write_whole(out, calibration.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def left_out(readings: Readings) -> str:
    """Describe in brackets which pictures did not count; an empty text where all did."""
    counts = (
        (len(readings.copies), "a copy of another", "copies of others"),
        (len(readings.skipped), "broken", "broken"),
    )
    parts = [
        f"{count} more {'is' if count == 1 else 'are'} {one if count == 1 else many}"
        for count, one, many in counts
        if count
    ]
    return f" ({', '.join(parts)})" if parts else ""


def percent(rate: Fraction | float) -> str:
    """Format a rate in [0, 1] as a percentage: "0.1 %" for 0.001."""
    return f"{float(100 * rate):.3g} %"


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {str(level): float(np.quantile(values, level / 100)) for level in QUANTILES}
