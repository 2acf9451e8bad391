"""`source: {folder: ...}`, a folder that pictures are put into."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Pattern


def _polling(value: Any) -> Any:
    return None if value == "auto" else value


Polling = Annotated[bool | None, BeforeValidator(_polling)]


class FolderConfig(Section):
    """A folder that a camera or another program writes pictures into; it may come into being later.

    patterns: of file names; none means every picture format. polling: None is automatic, as network folders need it.
    rescan_s: seconds between looks for what the operating system did not tell. bit_depth: how many bits a camera
    fills in 16-bit files.
    """

    folder: Folder = Field(examples=["./incoming"])
    recursive: bool = False
    patterns: tuple[Pattern, ...] = ()
    polling: Polling = None
    rescan_s: Annotated[float, Field(ge=1, le=86400, allow_inf_nan=False)] = 60.0
    bit_depth: Annotated[int, Field(ge=8, le=16)] = 16
