"""Output that several commands share, and a check they make before they work."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from tqdm import tqdm

    from trainer.data.examples import Skipped


EVERY_S = 30.0


class ProgressLines:
    """A line every EVERY_S seconds with what is done and what is left, where a bar would only fill a log file."""

    def __init__(self, total: int, what: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Count from 0.

        Args:
            total: number of units.
            what: is being done.
            unit: one of `total`, in the singular.
            clock: in seconds; default the system's.
        """
        self.n = 0
        self._total, self._what, self._unit, self._clock = total, what, unit, clock
        self._started = self._said = clock()
        self._note = ""

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Add n units, and print a line if one is due."""
        self.n += n
        now = self._clock()
        if now - self._said < EVERY_S or not self.n:
            return
        self._said = now
        left = (now - self._started) / self.n * max(self._total - self.n, 0)
        print(
            f"{self._what}: {self.n} of {self._total} {self._unit}s done, about {_duration(left)} left"
            + (f" ({self._note})" if self._note else ""),
            file=sys.stderr,
            flush=True,
        )

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """Set what the next line ends with. refresh: as tqdm has it, without effect."""
        self._note = text

    def close(self) -> None:
        """Print nothing more."""


def bar(total: int, what: str, unit: str = "picture") -> tqdm | ProgressLines:
    """Return a progress bar on a terminal, and lines elsewhere.

    Args:
        total: number of units.
        what: is being done.
        unit: one of `total`, in the singular; default "picture".
    """
    if not sys.stderr.isatty():
        return ProgressLines(total, what, unit)
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=unit, leave=False)


def silent() -> tqdm:
    """Return a bar that shows nothing, for all processes of a fit but the first."""
    from tqdm import tqdm

    return tqdm(disable=True)


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds > 5400
        else f"{seconds / 60:.0f} min"
        if seconds > 90
        else f"{seconds:.0f} s"
    )


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


def print_left_out(skipped: Iterable[Skipped], copies: Iterable[tuple[Path, Path]]) -> None:
    """Print to stderr the pictures that could not be read, and those that repeat another pixel by pixel, each with that one."""
    for one in skipped:
        print(f"skipped {one.path}: {one.reason}", file=sys.stderr)
    for copy, first in copies:
        print(f"skipped {copy}: the same picture as {first}", file=sys.stderr)


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
