"""Backbones on disk: FOLDER/NAME/{vision.npz,text.npz,tokenizer.model} and the SHA-256 that each was pinned at.

The pins are a SHA256SUMS file, so `sha256sum -c` checks a folder by hand and a copy of it is a verifiable mirror.
Left out: how files get there (fetch.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs

from edge_agent.backbones.weights.catalog import BACKBONES, EMBEDDED, FILES, TEXT, TOKENIZER, VISION, lookup
from edge_agent.backbones.weights.digests import format_sums, measure, parse_sums
from edge_agent.errors import CheckpointError
from edge_agent.io.files import write_durably

PINS = "SHA256SUMS"
EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "models" / EMBEDDED


@dataclass(frozen=True, slots=True)
class BackboneFiles:
    """Where the three files of a backbone lie. sha256: of those that were just verified, hex by name."""

    name: str
    folder: Path
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def vision(self) -> Path:
        return self.folder / VISION

    @property
    def text(self) -> Path:
        return self.folder / TEXT

    @property
    def tokenizer(self) -> Path:
        return self.folder / TOKENIZER

    @property
    def size(self) -> int:
        """Bytes of the three together."""
        return sum((self.folder / name).stat().st_size for name in FILES)


def default_folder() -> Path:
    """Where backbones lie unless the user says otherwise: the user's cache, as the platform has it."""
    return platformdirs.user_cache_path("edge-agent") / "models"


def installed(folder: Path) -> list[BackboneFiles]:
    """Known backbones in `folder` with all files there and pinned, in the catalog's order. Reads no weights."""
    return [BackboneFiles(name, folder / name) for name in BACKBONES if not _lacking(folder / name)]


def find(name: str, folders: Sequence[Path]) -> BackboneFiles:
    """The files of a backbone, from the first of `folders` that has them, verified against their pins.

    "embedded" comes from the package. Raises CheckpointError, with the remedy, for a name that is not known, for files
    that are missing, unpinned or not what was pinned.
    """
    lookup(name)
    if name == EMBEDDED:
        return _verified(BackboneFiles(name, EMBEDDED_FOLDER), remedy="the package is not whole: install it again")
    remedy = f"run `edge-agent models fetch {name}`"
    begun = [folder / name for folder in folders if (folder / name).is_dir()]
    if not begun:
        raise CheckpointError(f"{name} is not in {' or '.join(map(str, folders))}: {remedy}")
    whole = next((place for place in begun if not _missing(place)), begun[0])  # a fetch that broke off may come first
    return _verified(BackboneFiles(name, whole), remedy)


def intact(folder: Path, name: str) -> bool:
    """Whether the file `name` is in `folder`, pinned, and still what was pinned."""
    pin = read_pins(folder).get(name)
    return pin is not None and (folder / name).is_file() and measure(folder / name)["sha256"] == pin


def read_pins(folder: Path) -> dict[str, str]:
    """File name to SHA-256 (hex), as pinned in `folder`; empty where nothing is."""
    try:
        return parse_sums((folder / PINS).read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def pin(folder: Path, name: str, sha256: str) -> None:
    """Hold `name` to this digest from now on. Not safe against itself: one writer at a time."""
    sums = read_pins(folder) | {name: sha256}
    write_durably(folder / PINS, format_sums(sums).encode())


def _verified(files: BackboneFiles, remedy: str) -> BackboneFiles:
    pins = read_pins(files.folder)
    if missing := _missing(files.folder):
        raise CheckpointError(f"{files.folder} lacks {', '.join(missing)}: {remedy}")
    if files.name != EMBEDDED and (unpinned := _lacking(files.folder)):
        raise CheckpointError(
            f"{files.folder}: {', '.join(unpinned)} was put there by hand and is not pinned: to trust it as it is, "
            f"run `edge-agent models fetch {files.name} --from {files.folder}`"
        )
    for name in pins.keys() & FILES:
        found = measure(files.folder / name)["sha256"]
        if found != pins[name]:
            raise CheckpointError(
                f"{files.folder / name} is damaged or was replaced: its SHA-256 is {found[:12]}..., {PINS} beside it "
                f"has {pins[name][:12]}...: {remedy}"
            )
    return replace(files, sha256=pins)


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if not (folder / name).is_file()]


def _lacking(folder: Path) -> list[str]:
    pins = read_pins(folder)
    return [name for name in FILES if name not in pins or name in _missing(folder)]
