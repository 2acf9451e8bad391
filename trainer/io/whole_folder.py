"""A folder that a command makes, whole or not at all, and that it replaces only while every file in it is its own.

The folder is built beside its place and renamed. Its manifest is a record (JSON) with the SHA-256 of every other file in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import sync_folder


def write(path: Path, data: bytes) -> str:
    """Write a file, and the folders above it, so that it survives a power cut after put(). Returns its SHA-256. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def seal(folder: Path, manifest: str, record: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write the manifest.

    Args:
        folder: the folder being built.
        manifest: name of the manifest.
        record: what it holds beside `files`.
        files: SHA-256 of every other file, by path in the folder.

    Raises OSError.
    """
    write(folder / manifest, json.dumps({**record, "files": dict(sorted(files.items()))}, indent=1).encode())


def sealed(folder: Path, manifest: str, format_: str) -> dict[str, Any] | None:
    """Return the record of a folder that such a command made, None where there is no folder or an empty one.

    Args:
        folder: the folder.
        manifest: name of the manifest.
        format_: what the record's "format" must be.

    Raises EdgeAgentError when the folder holds files that the command did not make or that were changed since, as replacing the
    folder would lose them.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    remedy = "name another --out, or move away what you want to keep and delete the folder"
    if not folder.is_dir():
        raise EdgeAgentError(f"{folder}: is a file: {remedy}")
    record = _record(folder / manifest, format_)
    files = record["files"] if record else {}
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if record and name == manifest:
                continue
            if name not in files:
                raise EdgeAgentError(f"{folder}: holds a file that this command did not make, {name}: {remedy}")
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != files[name]:
                raise EdgeAgentError(f"{folder}: {name} was changed after it was made: {remedy}")
    return record


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Make an empty folder beside `folder`, locked against other programs, and remove it afterwards unless put() has moved it.

    What a killed earlier call left there is removed first. Raises EdgeAgentError when another program is at work, and OSError.
    """
    work, old = _unfinished(folder), _replaced(folder)
    work.mkdir(exist_ok=True)
    lock = _lock(work, folder)
    try:
        if old.exists() and not folder.exists():
            old.rename(folder)  # killed between the two renames of put()
        shutil.rmtree(old, ignore_errors=True)
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def put(folder: Path) -> None:
    """Move the folder of beside() to its place. If this is killed halfway, the next call of beside() brings the old folder back."""
    work, old = _unfinished(folder), _replaced(folder)
    for place, _, _ in os.walk(work):
        sync_folder(Path(place))
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _record(path: Path, format_: str) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
        return record if record["format"] == format_ and isinstance(record["files"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lock(work: Path, folder: Path) -> int:
    """Return a descriptor that holds the lock on `work`; the kernel releases it when the process ends in any way."""
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), work.stat()):  # else another program has finished, and the folder is its
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    raise EdgeAgentError(f"{folder}: another program is making it just now: wait for it")


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")
