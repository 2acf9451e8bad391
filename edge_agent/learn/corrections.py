"""Which labels a station has yet to learn, and the pictures that they are about."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np

from edge_agent.errors import PictureError
from edge_agent.io.pictures import decode
from edge_agent.journal.labels import Labels
from edge_agent.journal.reader import JournalReader
from edge_agent.journal.rows import Label, LabelValue, RecordedInspection

LEARNT_FROM = (LabelValue.GOOD, LabelValue.DEFECT)


@dataclass(frozen=True, slots=True, eq=False)
class KeptPicture:
    """An inspection whose picture is there. label: what holds of it; None where nothing was said."""

    inspection: RecordedInspection
    label: Label | None
    sha256: str  # hex, of the file
    path: Path

    def decode(self, max_megapixels: float) -> np.ndarray:
        """Return the pixels that were inspected, (H, W, 3) uint8 RGB. Raises PictureError."""
        return decode(self.path, max_megapixels=max_megapixels)

    @property
    def name(self) -> str:
        """What a person knows the picture by, and its inspection."""
        return f"{self.inspection.title} (inspection {self.inspection.id})"


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What people say of a station's pictures.

    pictures: all labelled ones that are there, by inspection. to_learn: those that its checkpoint has not learnt, in the
    order of their ids, which is that of inspecting. withdrawn: inspections that it has learnt, and of which something else is
    said now. left_out: labelled pictures that cannot be learnt from, each as a sentence.
    """

    pictures: Mapping[str, KeptPicture]
    to_learn: Sequence[KeptPicture]
    withdrawn: frozenset[str]
    left_out: Sequence[str] = field(default=())


def corrections(
    reader: JournalReader,
    labels: Labels,
    station: str,
    header: Mapping[str, Any],
    said: Iterable[Label] = (),
) -> Corrections:
    """Collect what a station can learn from.

    Args:
        reader: of the journal.
        labels: of the journal.
        station: name of the station.
        header: of its checkpoint.
        said: further labels, which need not be in the journal; each counts in place of the one there. Default none.
    """
    holding = {label.inspection: label for label in labels.labelled(station)}
    for label in said:
        holding[label.inspection] = label
    known = {key: label for key, label in holding.items() if label.value in LEARNT_FROM}
    learnt = {str(one["inspection"]): one for one in header.get("corrections", ())}
    inspections = reader.of(list(known))
    pictures, left_out = {}, []
    for key in sorted(known):
        try:
            pictures[key] = _kept(inspections.get(key), known[key])
        except PictureError as error:
            if not is_learnt(learnt.get(key), known[key]):
                left_out.append(str(error))
    now = {**labels.latest(learnt, undone_too=True), **{key: holding[key] for key in learnt if key in holding}}
    withdrawn = frozenset(key for key, one in learnt.items() if key in now and not is_learnt(one, now[key]))
    to_learn = [one for key, one in pictures.items() if not is_learnt(learnt.get(key), known[key])]
    return Corrections(pictures, to_learn, withdrawn, left_out)


def newest_kept(reader: JournalReader, station: str, known: Mapping[str, KeptPicture], count: int) -> list[KeptPicture]:
    """Return the last pictures of a station that were kept and are still there, the newest first.

    Args:
        reader: of the journal.
        station: name of the station.
        known: labelled pictures by inspection.
        count: most pictures to return.
    """
    found = []
    for inspection in reader.newest_kept(station, count):
        if inspection.id in known:
            found.append(known[inspection.id])
            continue
        try:
            found.append(_kept(inspection, None))
        except PictureError:  # retention was here
            continue
    return found


def _kept(inspection: RecordedInspection | None, label: Label | None) -> KeptPicture:
    """Return the picture of an inspection. Raises PictureError where it is not there, or not what was inspected."""
    if inspection is None:
        raise PictureError(f"inspection {label.inspection if label else ''}: the journal no longer has it")
    image = inspection.evidence.image
    name = f"{inspection.title} (inspection {inspection.id})"
    if image is None:
        raise PictureError(
            f"{name}: its picture was not kept; evidence: {{originals: all}} keeps those of OK parts, too"
        )
    path = Path(os.fsdecode(unquote_to_bytes(urlsplit(image.uri).path)))
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PictureError(f"{name}: {path}: {error.strerror}") from error
    if found != image.sha256:
        raise PictureError(f"{name}: {path} was changed since it was inspected")
    return KeptPicture(inspection, label, found, path)


def is_learnt(learnt: Mapping[str, Any] | None, label: Label) -> bool:
    """Return whether a correction in a header is this label."""
    if learnt is None:
        return False
    box = None if learnt["box"] is None else tuple(learnt["box"])
    return bool(learnt["label"] == label.value.value and box == label.box)
