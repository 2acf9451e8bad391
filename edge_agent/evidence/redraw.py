"""Draws the overlay of a recorded inspection again, from its kept picture and the thresholds in the journal."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np

from edge_agent.core import EvidenceState, Reading
from edge_agent.errors import EdgeAgentError
from edge_agent.evidence.overlay import overlay
from edge_agent.io.pictures import decode
from edge_agent.journal.rows import RecordedInspection


def redraw(recorded: RecordedInspection, read: Callable[[np.ndarray], Reading]) -> np.ndarray:
    """Draw the overlay of a recorded inspection by the rules it was judged by, not by the station's current ones.

    Args:
        recorded: an inspection whose original picture is still kept.
        read: returns the reading of (H, W, 3) uint8 RGB pixels; use the detector of the digests in `recorded.trace`,
            with the station's mask. Not called where the inspection had no reading.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        EdgeAgentError: the original was not kept, or as JPEG in a hurry, or the row is older than the map threshold's column (schema 0005).
        PictureError: the kept picture cannot be read.
    """
    if recorded.map_threshold is None:
        raise EdgeAgentError(f"inspection {recorded.id} was recorded without its map threshold, by an older edge-agent")
    if recorded.evidence.image is None:
        raise EdgeAgentError(
            f"inspection {recorded.id} has no kept picture: set evidence.originals to keep them for longer"
        )
    if recorded.evidence.state is EvidenceState.SHRUNK:
        raise EdgeAgentError(
            f"inspection {recorded.id} has its picture as JPEG alone, as pictures came faster than they could be kept: its "
            "map would be another; set evidence.when_behind: wait to have them as they were"
        )
    pixels = decode(os.fsdecode(unquote_to_bytes(urlsplit(recorded.evidence.image.uri).path)))
    return overlay(
        pixels,
        None if recorded.score is None else read(pixels),
        recorded.verdict,
        threshold=recorded.threshold,
        map_threshold=recorded.map_threshold,
        title=recorded.title,
    )
