"""A folder of photographed materials: pictures, and materials.json with the nouns, source and licence of each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edge_agent.backbones.weights.digests import format_sums, measure
from edge_agent.errors import ConfigError, PictureError
from edge_agent.io.pictures import decode, unreadable
from trainer.synthesis import Materials
from trainer.synthesis.materials import SMALLEST

LIST = "materials.json"


def read_materials(folder: Path) -> Materials:
    """Read the folder's pictures in the order of its list. Raises ConfigError naming the file and the fault."""
    listed = _listed(folder)
    pictures, nouns = [], []
    for name, entry in listed.items():
        try:
            pictures.append(decode(folder / name, min_side=SMALLEST))
        except PictureError as error:
            raise ConfigError(
                f"{error}; {LIST} lists it, so it has to be a picture of at least {SMALLEST} pixels a side"
            ) from None
        nouns.append(tuple(entry["nouns"]))
    return Materials(tuple(pictures), tuple(nouns))


def digest(folder: Path) -> str:
    """Return the SHA-256 (hex) of the list and every picture, on which all pictures made of them depend. Raises ConfigError."""
    try:
        sums = {name: measure(folder / name)["sha256"] for name in (LIST, *_listed(folder))}
    except OSError as error:
        raise ConfigError(unreadable(error.filename or folder, error)) from None
    return hashlib.sha256(format_sums(sums).encode()).hexdigest()


def _listed(folder: Path) -> dict[str, dict[str, list[str]]]:
    path = folder / LIST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        named = (entry["nouns"] for entry in listed.values())
        complete = listed and all(isinstance(nouns, list) and nouns and all(map(str.strip, nouns)) for nouns in named)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ConfigError(
            f'{path}: expected {{"PICTURE.png": {{"nouns": ["wood"], ...}}, ...}}; `trainer materials` writes it'
        )
    return listed
