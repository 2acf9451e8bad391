"""Writes a score beside its threshold with so many digits that their order shows."""

from __future__ import annotations

MOST_DIGITS = 17  # after which two different double-precision numbers differ


def told_apart(score: float, threshold: float, digits: int = 3) -> tuple[str, str]:
    """Return both numbers as text: 0.3174 and 0.3171, where 0.317 and 0.317 would hide which one is larger.

    Args:
        score: finite.
        threshold: finite.
        digits: after the point, at least; more where both would read alike. Default 3.
    """
    for count in range(digits, MOST_DIGITS):
        texts = f"{score:.{count}f}", f"{threshold:.{count}f}"
        if texts[0] != texts[1]:
            return texts
    return f"{score:.{digits}f}", f"{threshold:.{digits}f}"
