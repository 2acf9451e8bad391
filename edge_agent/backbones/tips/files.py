"""The three files of a TIPS backbone on disk, verified against the SHA-256 that each was pinned at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.backbones.weights.digests import measure
from edge_agent.backbones.weights.store import PINS, fetch_remedy, read_pins
from edge_agent.errors import CheckpointError

VISION, TEXT, TOKENIZER = "vision.npz", "text.npz", "tokenizer.model"
FILES = (VISION, TEXT, TOKENIZER)  # what a backbone's folder holds


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


def find(name: str, folders: Sequence[Path]) -> BackboneFiles:
    """Find the files of a fetched backbone, in the first of `folders` that has them, and verify them against their pins.

    Raises CheckpointError, with the remedy, for files that are missing, unpinned or not what was pinned.
    """
    remedy = fetch_remedy(name)
    started = [folder / name for folder in folders if (folder / name).is_dir()]
    if not started:
        raise CheckpointError(f"{name} is not in {' or '.join(map(str, folders))}: {remedy}")
    # A fetch that was interrupted may come first.
    whole = next((place for place in started if not missing(place)), started[0])
    files = BackboneFiles(name, whole)
    if unpinned := [] if missing(whole) else lacking(whole):
        raise CheckpointError(
            f"{whole}: {', '.join(unpinned)} was put there by hand and is not pinned: to trust it as it is, "
            f"run `edge-agent models fetch {name} --from {whole}`"
        )
    return verified(files, remedy)


def verified(files: BackboneFiles, remedy: str) -> BackboneFiles:
    """Hash the files that are pinned and return them with their digests.

    remedy: what to do, for the message. Raises CheckpointError for files that are missing or not what was pinned.
    """
    pins = read_pins(files.folder)
    if absent := missing(files.folder):
        raise CheckpointError(f"{files.folder} lacks {', '.join(absent)}: {remedy}")
    for name in pins.keys() & FILES:
        found = measure(files.folder / name)["sha256"]
        if found != pins[name]:
            raise CheckpointError(
                f"{files.folder / name} is damaged or was replaced: its SHA-256 is {found[:12]}..., {PINS} beside it "
                f"has {pins[name][:12]}...: {remedy}"
            )
    return replace(files, sha256=pins)


def missing(folder: Path) -> list[str]:
    """Names of files that are not in the folder."""
    return [name for name in FILES if not (folder / name).is_file()]


def lacking(folder: Path) -> list[str]:
    """Names of files that are not in the folder, or not pinned there."""
    pins = read_pins(folder)
    return [name for name in FILES if name not in pins or name in missing(folder)]


def pinned_digest(folder: Path) -> str | None:
    """Return the digest (SHA-256, hex) over the three files, as load_tips makes it, from their pins; None unless all are pinned."""
    pins = read_pins(folder)
    if any(name not in pins for name in FILES):
        return None
    return hashlib.sha256(b"".join(bytes.fromhex(pins[name]) for name in FILES)).hexdigest()


def size_of(folder: Path) -> int:
    """Bytes of the three files together."""
    return sum((folder / name).stat().st_size for name in FILES)
