"""`source: {folder: ...}`, a folder that pictures are put into."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from edge_agent.settings.finding import Finding
from edge_agent.settings.sources import SourceSection, WatchedFolder
from edge_agent.settings.values import Folder, Pattern

if TYPE_CHECKING:
    from edge_agent.core import Ledger, Triggers
    from edge_agent.sources.folder.source import FolderSource


def _polling(value: Any) -> Any:
    return None if value == "auto" else value


Polling = Annotated[bool | None, BeforeValidator(_polling)]


class FolderConfig(SourceSection):
    """A folder that a camera or another program writes pictures into; it may be created later.

    recursive: read subfolders too. patterns: of file names; none means every picture format. polling: None is automatic, as
    network folders need it. rescan_s: seconds between scans for files that the operating system did not report. same_again:
    what becomes of a file that is written again with content that was inspected before. bit_depth: how many bits a camera uses
    in 16-bit files; None: 12 or 16, as their values tell.
    """

    key: ClassVar[str] = "folder"

    folder: Folder = Field(examples=["./incoming"])
    recursive: bool = False
    patterns: tuple[Pattern, ...] = ()
    polling: Polling = None
    rescan_s: Annotated[float, Field(ge=1, le=86400, allow_inf_nan=False)] = 60.0
    same_again: Literal["inspect", "skip"] = "inspect"
    bit_depth: Annotated[int, Field(ge=8, le=16)] | None = None

    def build(self, station: str, ledger: Ledger, *, max_megapixels: float, triggers: Triggers | None) -> FolderSource:
        """See SourceSection."""
        from edge_agent.sources.folder.source import FolderSource

        return FolderSource(
            station,
            self.folder,
            ledger,
            recursive=self.recursive,
            patterns=self.patterns,
            polling=self.polling,
            rescan_s=self.rescan_s,
            skip_same=self.same_again == "skip",
            bit_depth=self.bit_depth,
            max_megapixels=max_megapixels,
        )

    def describe(self) -> str:
        """See SourceSection."""
        return f"{self.folder}{', with subfolders' if self.recursive else ''}: {', '.join(self.patterns) or 'every picture'}"

    def check(self, station: str, *, max_megapixels: float) -> Iterator[Finding]:
        """Examine whether the folder can be listed."""
        try:
            os.scandir(self.folder).close()
        except FileNotFoundError:
            yield Finding("source", "warning", f"{station}: {self.folder} is not there yet: the agent waits for it")
        except OSError as error:
            remedy = f"let user {os.geteuid()} read and enter it, or correct the path"
            text = f"{station}: {self.folder} cannot be read ({error.strerror}): {remedy}"
            yield Finding("source", "failed", text)
        else:
            yield Finding("source", "ok", f"{station}: {self.folder}")

    def folders(self) -> Sequence[WatchedFolder]:
        """See SourceSection."""
        return [WatchedFolder(("folder",), self.folder, self.recursive)]

    @property
    def stored_recursive(self) -> bool:
        """See SourceSection. Where the config does not say, stored pictures are read with their subfolders."""
        return self.recursive or "recursive" not in self.model_fields_set

    @property
    def stored_bit_depth(self) -> int | None:
        """See SourceSection."""
        return self.bit_depth
