"""Selects the files of a folder to inspect, by their names alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edge_agent.io.names import UNFINISHED
from edge_agent.io.pictures import SUFFIXES


@dataclass(frozen=True, slots=True)
class Names:
    """Which names match. patterns: in lower case, as names are compared in lower case; none means every picture format.

    Hidden files and folders never match, nor do names of unfinished files, such as *.part.
    """

    patterns: tuple[str, ...] = ()
    recursive: bool = False

    def match(self, path: str, folder: str) -> bool:
        """Return whether to inspect `path`, which is in `folder` or, if recursive, below it."""
        if any(part.startswith(".") for part in os.path.relpath(path, folder).split(os.sep)):
            return False
        name = os.path.basename(path).lower()
        if name.startswith("~") or name.endswith(UNFINISHED):
            return False
        if self.patterns:
            return any(fnmatchcase(name, pattern) for pattern in self.patterns)
        return os.path.splitext(name)[1] in SUFFIXES

    def files(self, folder: str, errors: list[OSError]) -> Iterator[str]:
        """Yield the paths in `folder` that match, in no order; add to `errors` why a part of it cannot be listed."""
        folders = [folder]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if not entry.is_dir(follow_symlinks=False):
                            if self.match(entry.path, folder):
                                yield entry.path
                        elif self.recursive and not entry.name.startswith("."):
                            folders.append(entry.path)
            except OSError as error:
                errors.append(error)
