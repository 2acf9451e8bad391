"""A threshold from good pictures alone, with a bound on how many good parts it will call NotOK: split conformal prediction.

Of n good pictures and one more of the same kind, in random order, each is as likely as the others to have the highest
score, or the second highest. So the chance that the next good part scores above the m-th highest of the n is at most
m / (n + 1), whatever the detector and its scores are like (Vovk, Gammerman, Shafer, Algorithmic Learning in a Random
World, 2005). What it was this time, with these n, is Beta(m, n + 1 - m) distributed, or lower where scores tie.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from edge_agent.core import Detector
from edge_agent.errors import ConfigError, EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from edge_agent.line.calibration import QUANTILES, Calibration, Polygons, brightness, read_calibration
from trainer.data.examples import Skipped
from trainer.io.files import write_whole

_LOWEST_MAP_THRESHOLD = 1e-6  # maps of nothing but zeros would give one that no colour scale can be divided by


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """How a station looks at its pictures; `keep`, see core.Detector, came from include and ignore.

    max_megapixels, bit_depth: see pictures.decode. batch: pictures that go through the detector at once.
    """

    detector: Detector
    class_name: str
    include: Polygons = ()
    ignore: Polygons = ()
    keep: np.ndarray | None = None
    max_megapixels: float = 100
    bit_depth: int = 16
    batch: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a detector sees in n good pictures that differ.

    scores (n,), peaks (n,) of the heatmaps and brightness (n,), all float32 in [0, 1]; fewer than n, and of no use, when
    there are too few. copies: pictures that were left out, each with the one that it repeats pixel by pixel.
    """

    n: int
    scores: np.ndarray
    peaks: np.ndarray
    brightness: np.ndarray
    copies: Sequence[tuple[Path, Path]]
    skipped: Sequence[Skipped]


def needed(rate: Fraction) -> int:
    """How many good pictures it takes to promise a false-alarm rate in (0, 1)."""
    return math.ceil(1 / rate) - 1


def rank(n: int, rate: Fraction) -> int:
    """m: the threshold goes just above the m-th highest of n scores. 0 when n is too few for the rate.

    The rate is exact, as 0.001 is in no float: (n + 1) * 0.001 may come out below the whole number that it is.
    """
    return math.floor((n + 1) * rate)


def just_above(values: np.ndarray, m: int) -> float:
    """The lowest number that is above the m-th highest of `values` (n,), as float32.

    float32, because that is what NumPy turns a number into before it compares it with a heatmap, and because the next
    float64 would be rounded back down to the value.
    """
    highest = np.partition(values.astype(np.float32), -m)[-m]
    return float(np.nextafter(highest, np.float32(np.inf)))


def tied(values: np.ndarray, m: int) -> bool:
    """Whether the m-th highest of `values` (n,) is there more than once."""
    values = values.astype(np.float32)
    return int((values == np.partition(values, -m)[-m]).sum()) > 1


def interval(n: int, m: int, share: float = 0.95) -> tuple[float, float]:
    """Where the true false-alarm rate lies in `share` of all calibrations with n pictures and rank m.

    With tied scores the upper end holds too, while the rate may be below the lower one.
    """
    from scipy.special import betaincinv

    low, high = betaincinv(m, n + 1 - m, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def look(view: View, paths: Sequence[Path], at_least: int, report: Callable[[int], object] = lambda n: None) -> Seen:
    """Read good pictures as a station would, those with the same pixels once.

    at_least: as soon as fewer than that can be left, the rest is counted only, so that a refusal is quick and exact.
    Raises EdgeAgentError when a score or map is not finite.
    """
    first: dict[bytes, Path] = {}  # by the digest of its pixels
    copies: list[tuple[Path, Path]] = []
    skipped: list[Skipped] = []

    def pictures() -> Iterator[tuple[Path, np.ndarray]]:
        for path in paths:
            report(1)
            try:
                pixels = decode(path, max_megapixels=view.max_megapixels, bit_depth=view.bit_depth, min_side=MIN_SIDE)
            except PictureError as error:
                skipped.append(Skipped.by(error, path))
                continue
            digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
            if digest in first:
                copies.append((path, first[digest]))
            else:
                first[digest] = path
                yield path, pixels

    scores, peaks, light = [], [], []
    pending = pictures()
    while chunk := list(islice(pending, view.batch)):
        if len(paths) - len(copies) - len(skipped) < at_least:
            continue
        readings = view.detector.read([pixels for _, pixels in chunk], [view.keep] * len(chunk))
        for (path, pixels), reading in zip(chunk, readings, strict=True):
            if not (math.isfinite(reading.score) and np.isfinite(reading.heatmap).all()):
                raise EdgeAgentError(
                    f"{path}: {view.detector.info.name} gave a score or map that is not a number: try `edge-agent doctor`"
                )
            scores.append(reading.score)
            peaks.append(reading.heatmap.max())
            light.append(brightness(pixels))
    values = np.clip(np.array([scores, peaks, light], np.float32), 0, 1)
    return Seen(len(first), values[0], values[1], values[2], copies, skipped)


def require_enough(seen: Seen, rate: Fraction) -> None:
    """Raises EdgeAgentError, saying how many more pictures it takes, and which rate these allow."""
    short = needed(rate) - seen.n
    if short <= 0:
        return
    lowest = Context(prec=2, rounding=ROUND_CEILING).divide(Decimal(1), Decimal(seen.n + 1))
    raise EdgeAgentError(
        f"{seen.n} good pictures{left_out(seen)} are too few to promise a false-alarm rate of {percent(rate)}: that takes"
        f" {needed(rate)}, so {short} more" + (f"; these allow --false-alarm-rate {lowest:f}" if seen.n else "")
    )


def calibration_of(view: View, seen: Seen, rate: Fraction) -> Calibration:
    """The calibration, made now. Raises EdgeAgentError when there are too few pictures, and when no threshold does.

    The map threshold is 1 when none does.
    """
    require_enough(seen, rate)
    m = rank(seen.n, rate)
    threshold = just_above(seen.scores, m)
    if threshold > 1:
        raise EdgeAgentError(
            f"{int((seen.scores >= 1).sum())} of {seen.n} good pictures have the highest score there is, 1, so no threshold"
            f" keeps false alarms at {percent(rate)}: take defective pictures out, fit a checkpoint for this part, or allow more"
        )
    created = datetime.now(timezone.utc)
    facts = {
        "threshold": threshold,
        "map_threshold": min(1.0, max(_LOWEST_MAP_THRESHOLD, just_above(seen.peaks, m))),
        "false_alarm_rate": float(rate),
        "false_alarm_interval": interval(seen.n, m),
        "good_pictures": seen.n,
        "class_name": view.class_name,
        "include": view.include,
        "ignore": view.ignore,
        "model_sha256": view.detector.info.model_sha256,
        "checkpoint_sha256": view.detector.info.checkpoint_sha256,
        "image_size": view.detector.info.image_size,
        "windows": view.detector.info.windows,
        "created": created,
        "score_quantiles": _quantiles(seen.scores),
        "brightness_quantiles": _quantiles(seen.brightness),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return Calibration.model_validate(
        {"schema": "edge-agent/calibration/1", "id": f"c-{created:%Y%m%d}-{digest[:6]}", **facts}
    )


def require_replaceable(out: Path) -> None:
    """Raises EdgeAgentError when something else than a calibration lies there."""
    if out.exists():
        try:
            read_calibration(out)
        except ConfigError:
            raise EdgeAgentError(
                f"{out}: is there already and is no calibration: move it away, or name another --out"
            ) from None


def write_calibration(calibration: Calibration, out: Path) -> None:
    """Whole or not at all. Raises EdgeAgentError."""
    write_whole(out, calibration.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def left_out(seen: Seen) -> str:
    """What of the folder did not count, in brackets; nothing where all did."""
    counts = ((len(seen.copies), "a copy of another", "copies of others"), (len(seen.skipped), "broken", "broken"))
    said = [
        f"{count} more {'is' if count == 1 else 'are'} {one if count == 1 else many}"
        for count, one, many in counts
        if count
    ]
    return f" ({', '.join(said)})" if said else ""


def percent(rate: Fraction | float) -> str:
    """0.001 is "0.1 %"."""
    return f"{float(100 * rate):.3g} %"


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {str(level): float(np.quantile(values, level / 100)) for level in QUANTILES}
