"""The sections of config.yaml that make a source: where the frames of a station come from."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge_agent.settings.finding import Finding
from edge_agent.settings.section import Loc, Section
from edge_agent.settings.sinks import SinkSection

if TYPE_CHECKING:
    from edge_agent.core import Ledger, Source, Triggers


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder that a source takes files from, so that neither the agent nor another station should use it.

    loc: its key within the source's section. recursive: with all its subfolders. holds_pictures: False for trigger
    files, which are moved away as they are read, so that two stations cannot share the folder.
    """

    loc: Loc
    path: Path
    recursive: bool = False
    holds_pictures: bool = True


class SourceSection(Section):
    """A kind of source: its keys in the file, and all that the agent needs to know of the kind.

    A new kind is a subclass that is added to the union config.station.SourceConfig. Import what build() and check() need
    inside them, so that a config loads fast.
    """

    key: ClassVar[str]  # required in each mapping of this kind, and in none of another: it tells the kinds apart

    @abstractmethod
    def build(self, station: str, ledger: Ledger, *, max_megapixels: float, triggers: Triggers | None) -> Source:
        """Build the source of a station.

        Args:
            station: the station's name.
            ledger: knows which files were inspected before.
            max_megapixels: larger pictures are not decoded.
            triggers: the requests of the station's sink; None unless `requested_by` or `own_sinks` name one.

        Raises:
            ConfigError: if a password is missing, or this machine cannot open such a source.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what is watched and when pictures are taken, in one line without secrets."""

    def check(self, station: str, *, max_megapixels: float) -> Iterator[Finding]:
        """Examine whether the source would work on this machine now. station, max_megapixels: as in build()."""
        return iter(())

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """Yield what works but may not be meant, each with its key within this section."""
        for folder in self.folders():
            if not os.path.exists(folder.path):
                yield folder.loc, f"{folder.path} does not exist yet; the station waits for it"

    def folders(self) -> Sequence[WatchedFolder]:
        """Return the folders that files are taken from."""
        return ()

    @property
    def requested_by(self) -> str | None:
        """Return the section of a sink whose receiver requests this source's pictures, such as mqtt; if so, by the key `trigger`."""
        return None

    def own_sinks(self) -> Mapping[str, SinkSection]:
        """Return the sink, by the name of its kind, whose receiver requests the pictures of this source alone, such as a PLC.

        Its kind is its key in the section `trigger`.
        """
        return {}

    @property
    def verdict_within_s(self) -> float | None:
        """Return the seconds after a request in which it wants its answer; None: whenever there is one."""
        return None

    @property
    def stored_recursive(self) -> bool:
        """Return whether subfolders of stored pictures that are read as this source's are read too."""
        return True

    @property
    def stored_bit_depth(self) -> int | None:
        """Return how many bits are used in 16-bit files that are read as this source's, in [8, 16]; None: their values tell."""
        return None
