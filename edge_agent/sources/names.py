"""Selects the files of a folder to inspect, by their names alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edge_agent.io.drawings import is_drawing
from edge_agent.io.pictures import SUFFIXES

_UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", ".swp", "~")

# Waste bins, thumbnails and snapshots that file servers and desktops keep beside the pictures; in lower case.
_SYSTEM = frozenset(
    (
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
        "network trash folder", "temporary items", "system volume information", "lost+found", "__macosx",
        "thumbs.db", "ehthumbs.db", "desktop.ini",
    )
)  # fmt: skip


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is never looked at: hidden, unfinished, or of a file server's own."""
    name = name.lower()
    return name.startswith((".", "~")) or name.endswith(_UNFINISHED) or name in _SYSTEM


@dataclass(frozen=True, slots=True)
class Names:
    """Which names match. patterns: in lower case, as names are compared in lower case; none means every picture format.

    Names that is_passed_over() never match, nor do those of overlays, nor does what is in a folder of such a name.
    """

    patterns: tuple[str, ...] = ()
    recursive: bool = False

    def match(self, path: str, folder: str) -> bool:
        """Return whether to inspect `path`, which is in `folder` or, if recursive, below it."""
        if any(map(is_passed_over, os.path.relpath(path, folder).split(os.sep))):
            return False
        name = os.path.basename(path).lower()
        if is_drawing(path):
            return False
        if self.patterns:
            return any(fnmatchcase(name, pattern) for pattern in self.patterns)
        return os.path.splitext(name)[1] in SUFFIXES

    def files(
        self,
        folder: str,
        errors: list[OSError],
        other: Callable[[os.DirEntry[str]], None] = lambda entry: None,
    ) -> Iterator[str]:
        """Yield the paths in `folder` that match, in no order.

        Args:
            folder: absolute path.
            errors: gets why a part of it cannot be listed.
            other: called for each file that does not match, and for each subfolder that is not entered, but not for those
                that is_passed_over().
        """
        folders = [folder]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if is_passed_over(entry.name):
                            continue
                        is_folder = entry.is_dir(follow_symlinks=False)
                        if is_folder and self.recursive:
                            folders.append(entry.path)
                        elif not is_folder and self.match(entry.path, folder):
                            yield entry.path
                        else:
                            other(entry)
            except OSError as error:
                errors.append(error)
