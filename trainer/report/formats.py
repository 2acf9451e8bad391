"""Names of figures, figures and intervals as text, for tables and pages."""

from __future__ import annotations

import math

from trainer.evaluate.record import FigureRecord


def title(figure: str) -> str:
    """Return what readers call a figure: "image AUROC" for "image_auroc"."""
    kind, name = figure.split("_")
    return f"{kind} {'F1-max' if name == 'f1' else name.upper()}"


def percent(value: float | None) -> str:
    """Format a percentage with one decimal; "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def interval(one: FigureRecord) -> str:
    """Format an interval as "60.1-88.0"; empty where there is none."""
    return "" if one.low is None else f"{percent(one.low)}-{percent(one.high)}"


def wilson(hits: int, count: int, z: float = 1.96) -> str:
    """Format the Wilson score interval (Wilson 1927) of a share, as "12 and 34 %".

    Args:
        hits: number of successes, 0 to count.
        count: number of trials, at least 1.
        z: quantile of the normal distribution; default 1.96, a 95 % interval.
    """
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{100 * max(0, middle - reach):.0f} and {100 * min(1, middle + reach):.0f} %"
