"""Output that several commands share, and a check they make before they work."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from tqdm import tqdm

    from trainer.data.examples import Skipped


def bar(total: int, what: str) -> tqdm:
    """Return a progress bar over `total` pictures; it is silent where stderr is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="picture", leave=False, disable=None)


def print_warnings(sentences: Iterable[str]) -> None:
    """Print warnings to stderr."""
    for one in sentences:
        print(f"warning: {one}", file=sys.stderr)


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """Print the pictures that were left out, and their number, to stderr."""
    for one in skipped:
        print(f"skipped {one.path}: {one.reason}", file=sys.stderr)
    if skipped:
        print(f"skipped {len(skipped)} picture{'s' * (len(skipped) > 1)} in all", file=sys.stderr)


def writable(out: Path) -> None:
    """Raise EdgeAgentError when `out` cannot be written, before an hour of work is done for nothing."""
    if not out.parent.is_dir():
        raise EdgeAgentError(f"{out.parent}: no such folder to write {out.name} into; make it first")
    if out.is_dir():
        raise EdgeAgentError(f"{out}: is a folder: name a file to write")
    _require_writable_folder(out.parent, out.name)


def writable_folder(out: Path) -> None:
    """Raise EdgeAgentError when the folder `out`, which need not exist, cannot be written."""
    if not out.parent.is_dir():
        raise EdgeAgentError(f"{out.parent}: no such folder to write {out.name} into; make it first")
    _require_writable_folder(out.parent, out.name)


def _require_writable_folder(folder: Path, name: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):  # the rights alone do not tell of a disk that is mounted read-only
            pass
    except OSError as error:
        raise EdgeAgentError(
            f"{folder}: {name} cannot be written there ({error.strerror or error}): let this user write into it, or name another"
            " place"
        ) from None
