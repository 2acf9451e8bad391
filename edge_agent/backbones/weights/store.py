"""Fetched weights on disk: FOLDER/NAME/FILE and the SHA-256 that each file was pinned at.

The pins are a SHA256SUMS file, so `sha256sum -c` checks a folder by hand and a copy of it is a verifiable mirror.
Left out: how files get there (fetch.py), and which files a family of backbones has.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from edge_agent.backbones.weights.digests import format_sums, measure, parse_sums
from edge_agent.io.files import write_durably

PINS = "SHA256SUMS"
SHARED = Path("/usr/local/share/edge-agent/models")


def shared_folder() -> Path:
    """Return the folder of this machine's fetched backbones, which every user and service reads: $EDGE_AGENT_MODELS or SHARED."""
    return Path(os.environ.get("EDGE_AGENT_MODELS") or SHARED).absolute()


def own_folder() -> Path:
    """Return the folder of a user's own fetched backbones, in the cache of this platform; a service does not look there."""
    return platformdirs.user_cache_path("edge-agent") / "models"


def default_folder() -> Path:
    """Return where a fetch puts backbones: into the machine's folder for who may write there, else into the user's own."""
    shared = shared_folder()
    there = next(folder for folder in (shared, *shared.parents) if os.path.exists(folder))
    return shared if os.access(there, os.W_OK, effective_ids=True) else own_folder()


def search_folders(data_dir: Path | None = None) -> list[Path]:
    """Return where fetched backbones are looked for, in this order. data_dir: of the agent; None (default) without one."""
    return [*([data_dir / "models"] if data_dir else []), shared_folder(), own_folder()]


def fetch_remedy(name: str) -> str:
    """Say what to do about a backbone that is not there, for messages."""
    return f"run `edge-agent models fetch {name}`, with sudo if a service is to find it"


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
    (folder / PINS).chmod(0o644)
