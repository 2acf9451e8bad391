"""A folder of photographed materials: pictures, and materials.json that names each, its nouns, its source and its licence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2

from edge_agent.errors import ConfigError
from trainer.synthesis import Materials
from trainer.synthesis.materials import SMALLEST

LIST = "materials.json"


def read_materials(folder: Path) -> Materials:
    """The folder's pictures in the order of its list. Raises ConfigError with the file and what is wrong with it."""
    listed = _listed(folder)
    pictures, nouns = [], []
    for name, entry in listed.items():
        pixels = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if pixels is None or min(pixels.shape[:2]) < SMALLEST:
            raise ConfigError(
                f"{folder / name}: not a picture of at least {SMALLEST} pixels a side, as {LIST} says it is"
            )
        pictures.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        nouns.append(tuple(entry["nouns"]))
    return Materials(tuple(pictures), tuple(nouns))


def digest(folder: Path) -> str:
    """SHA-256 over the list and every picture: what the pictures made of them depend on."""
    files = [folder / LIST, *(folder / name for name in _listed(folder))]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _listed(folder: Path) -> dict[str, dict[str, list[str]]]:
    path = folder / LIST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        whole = listed and all(entry["nouns"] and all(map(str.strip, entry["nouns"])) for entry in listed.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ConfigError(
            f'{path}: needed is {{"PICTURE.png": {{"nouns": ["wood"], ...}}, ...}}; `trainer materials` writes it'
        )
    return listed
