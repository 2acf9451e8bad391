"""`trigger:` of a camera: what requests its pictures, and what starts each in a GenICam camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from edge_agent.plc.config import PlcConfig
from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Pattern, invalid
from edge_agent.sources.camera.triggers.software import SOFTWARE


class TriggerConfig(Section):
    """Requests for pictures. A file in folder requests one: SN123.trg for part SN123; it is deleted once that is recorded.

    mqtt: commands on PREFIX/AGENT/cmd/trigger request them, instead of files; `trigger: mqtt` is short for it. opcua:
    single jobs over OPC UA do; `trigger: opcua`. plc: a PLC does, see PlcConfig. pattern: of file names; other files are not
    touched. timeout_s: without a picture for so long the part is NotDecidable. delay_s: seconds from the request until the
    picture is taken. verdict_within_s: seconds from the request after which it is answered NotDecidable, while the true
    verdict is still recorded; None: never. Of GenICam cameras: software: each request fires a software trigger; requests
    come as commands unless there is a folder, a PLC or opcua. line: the input that starts each picture, such as Line0;
    without requests, each picture is inspected.
    """

    software: bool = False
    line: Annotated[str, Field(pattern=r"^[A-Za-z]\w{0,60}$")] | None = None
    mqtt: bool = False
    opcua: bool = False
    plc: PlcConfig | None = None
    folder: Folder | None = Field(default=None, validate_default=True)
    pattern: Pattern = "*.trg"
    timeout_s: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = 2.0
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    verdict_within_s: Annotated[float, Field(ge=0.01, le=3600, allow_inf_nan=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {data: True} if data in ("mqtt", "opcua") else data

    @field_validator("line")
    @classmethod
    def _check_one_start(cls, line: str | None, info: ValidationInfo) -> str | None:
        if line is not None and info.data.get("software"):
            raise invalid("and software exclude each other: an input of the camera starts a picture, or the agent does")
        return line

    @field_validator("opcua", "plc", "folder")
    @classmethod
    def _check_one_kind(cls, value: Any, info: ValidationInfo) -> Any:
        others = [key for key in ("mqtt", "opcua", "plc") if info.data.get(key) and key != info.field_name]
        if value and others:
            raise invalid(f"and {others[0]} exclude each other: triggers are files, commands, jobs, or of a PLC")
        return value

    @field_validator("folder")
    @classmethod
    def _check_any_kind(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        given = info.data
        kinds = [given.get(key, True) for key in ("mqtt", "opcua", "plc", "software", "line")]  # a wrong one is there
        if folder is None and not any(kinds):
            raise invalid("is missing; for example folder: ./triggers, or mqtt: true or plc: {...} in its place")
        return folder

    @field_validator("verdict_within_s")
    @classmethod
    def _check_somebody_is_answered(cls, within_s: float | None, info: ValidationInfo) -> float | None:
        if within_s is not None and info.data.get("folder"):
            raise invalid("has no use with folder: nobody waits for the answer to a file")
        return within_s

    @property
    def starts(self) -> str | None:
        """Return what starts each picture in a GenICam camera; None: the camera itself."""
        return SOFTWARE if self.software else self.line

    @property
    def by_command(self) -> bool:
        """Return whether commands request pictures."""
        return self.mqtt or (self.software and self.folder is None and self.plc is None and not self.opcua)

    @property
    def has_requests(self) -> bool:
        """Return whether files, commands, jobs or a PLC request pictures."""
        return self.by_command or self.folder is not None or self.plc is not None or self.opcua

    def describe(self) -> str:
        """Return when pictures are taken, as the end of a sentence."""
        if not self.has_requests:
            return f"each picture that {self.starts} starts"
        asking = f"{self.pattern} in {self.folder}" if self.folder else "command on PREFIX/AGENT/cmd/trigger"
        if self.opcua:
            asking = "single job over OPC UA"
        if self.plc:
            asking = f"trigger of {self.plc.describe('')}"
        started = f", started by {self.starts}" if self.starts else ""
        answered = f", answered within {self.verdict_within_s:g} s" if self.verdict_within_s else ""
        return f"a picture for each {asking}{started}{answered}"
