"""Files that are there whole or not at all, after a crash or a power cut too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edge_agent.errors import EdgeAgentError


def write_durably(path: Path, content: bytes) -> None:
    """Write a file: whole or not at all. Raises OSError."""
    with open_durably(path) as file:
        file.write(content)


@contextmanager
def open_durably(path: Path, *, shared: bool = False) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing, and put it in its place when the block ends without an error.

    shared: other processes may write the same file at the same time, each beside it under a name of its own.

    Raises OSError; what was at `path` is then as before.
    """
    own = f".{os.getpid()}" if shared else ""
    unfinished = path.with_name(f".{path.name}{own}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def write_errors(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn an OSError inside the block, such as a full disk, into an EdgeAgentError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror or error}"
        raise EdgeAgentError(f"{message}; {remedy}" if remedy else message) from None


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
