"""Which machine this is."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def machine_hash(purpose: str, machine_id: Path = MACHINE_ID) -> str:
    """Return 64 hex digits that are the same on the same machine for the same purpose, and no other.

    The machine's id is hashed, as machine-id(5) asks; a machine without one goes by its name.
    """
    try:
        machine = machine_id.read_text("ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return hashlib.sha256(f"{machine or socket.gethostname()}/{purpose}".encode()).hexdigest()
