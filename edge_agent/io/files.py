"""Files that are there whole or not at all, after a crash or a power cut too."""

from __future__ import annotations

import os
import time
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file under another name, flush it, and put it in its place. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def put(temporary: Path, target: Path) -> None:
    """Rename a file that is safely written into its place, so that a power cut leaves the old one or the new one."""
    temporary.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed or created in a folder outlast a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def why_not_writable(folder: Path) -> str | None:
    """Create a file in a folder and delete it; return why that fails and what to do, or None. The folder has to exist."""
    probe = folder / f".edge-agent-probe-{time.time_ns()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"{folder}: cannot be written to ({error.strerror}): change its owner, or choose another folder"
    return None
