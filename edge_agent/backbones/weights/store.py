"""Fetched weights on disk: FOLDER/NAME/FILE and the SHA-256 that each file was pinned at.

The pins are a SHA256SUMS file, so `sha256sum -c` checks a folder by hand and a copy of it is a verifiable mirror.
Left out: how files get there (fetch.py), and which files a family of backbones has.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs

from edge_agent.backbones.weights.digests import format_sums, measure, parse_sums
from edge_agent.io.files import write_durably

PINS = "SHA256SUMS"


def default_folder() -> Path:
    """Return the default folder of fetched backbones: the user's cache of this platform."""
    return platformdirs.user_cache_path("edge-agent") / "models"


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
    """Pin a file to a digest from now on. One writer at a time: it reads, changes and replaces the list.

    Args:
        folder: of the backbones.
        name: of the file within it.
        sha256: digest (hex).
    """
    sums = read_pins(folder) | {name: sha256}
    write_durably(folder / PINS, format_sums(sums).encode())
