"""Settings of a fit that nobody gave: as published, or what comes nearest."""

from __future__ import annotations

PUBLISHED_PICTURES = 1725  # of MVTec AD's test split, which they fit on


def default_epochs(published: int, batch: int, count: int) -> int:
    """Return the number of epochs: as published, or more for fewer pictures, so that there are as many steps.

    Args:
        published: number of epochs in the paper.
        batch: pictures a step.
        count: pictures to fit on.
    """
    steps = published * PUBLISHED_PICTURES // batch
    return max(published, -(-steps // -(-count // batch)))
