"""The contact sheet of a replay: inspections of this run and of earlier ones, the worst first."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
from PIL import Image

from edge_agent.core import Evidence, Inspection
from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.evidence.contact_sheet import ContactSheet, blank, tile_of_overlay, tile_of_picture
from edge_agent.io.drawings import MARK
from edge_agent.io.pictures import decode
from edge_agent.journal.rows import Outcome


def add_recorded(sheet: ContactSheet, outcome: Outcome) -> None:
    """Put an inspection of an earlier run on the sheet, as its overlay shows it."""
    title = outcome.part_id or Path(outcome.origin or "").name
    picture = partial(_tile_of_file, outcome.origin)
    tile = partial(_tile_of_evidence, outcome.overlay, (outcome.height, outcome.width))
    sheet.add_drawn(outcome.evaluation, outcome.score, picture, tile, title=_in_folder(title, outcome.origin))


def add_inspection(sheet: ContactSheet, inspection: Inspection, evidence: Evidence, *, has_pixels: bool) -> None:
    """Put an inspection on the sheet.

    Args:
        sheet: the sheet.
        inspection: what was found.
        evidence: its overlay, if one was kept.
        has_pixels: False if it was made on another machine, so that only the overlay can be shown.
    """
    frame, reading, verdict = inspection.frame, inspection.reading, inspection.verdict
    title = _in_folder(frame.title, frame.origin)
    if has_pixels:
        sheet.add(frame.pixels, reading, verdict, map_threshold=inspection.map_threshold, title=title)
    else:
        uri = evidence.overlay.uri if evidence.overlay else None
        tile = partial(_tile_of_evidence, uri, frame.pixels.shape[:2])
        picture = partial(_tile_of_file, frame.origin)
        sheet.add_drawn(verdict.evaluation, reading.score if reading else None, picture, tile, title=title)


def save_sheet(sheet: ContactSheet, path: Path) -> None:
    """Write the sheet as a JPEG file. Raises EdgeAgentError."""
    try:
        Image.fromarray(sheet.render()).save(path, quality=90, comment=MARK)
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error


def _in_folder(title: str, origin: str | None) -> str:
    """Return the title with the folder before it, as pictures in several folders often have the same names."""
    return f"{Path(origin).parent.name}/{title}" if origin else title


def _tile_of_file(origin: str | None) -> np.ndarray:
    """Return a tile of a stored picture as it is, or a blank one if it cannot be read; frames of videos are not looked up."""
    try:
        return tile_of_picture(decode(origin)) if origin else blank()
    except PictureError:
        return blank()


def _tile_of_evidence(uri: str | None, shape: tuple[int, int]) -> np.ndarray:
    """Return a tile from a stored overlay, or a blank one if none was kept. shape: (H, W) of the picture."""
    if uri is None:
        return blank()
    try:
        overlay = decode(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    except PictureError:  # the overlay was deleted meanwhile
        return blank()
    return tile_of_overlay(overlay, shape)
