"""`stations:`, their sources and how they are judged. SourceConfig is the only list of the kinds of source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from edge_agent.config.detector import DetectorConfig
from edge_agent.config.polygons import Polygons
from edge_agent.errors import ConfigError
from edge_agent.line.calibration import Calibration, MapThreshold, read_calibration
from edge_agent.settings.by_key import ByKey
from edge_agent.settings.section import Section
from edge_agent.settings.values import Fraction, Name, Positive, absolute, folder_of, invalid, readable_file
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.folder.config import FolderConfig

SourceConfig = Annotated[FolderConfig | CameraConfig, ByKey()]


def _calibration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Calibration):
        return value
    if not isinstance(value, str | Path):
        raise invalid("wants the path of a calibration file")
    path = readable_file(absolute(value, folder_of(info)))
    try:
        return read_calibration(path)
    except ConfigError as error:
        raise invalid("; ".join(str(error).splitlines())) from error


CalibrationFile = Annotated[Calibration, BeforeValidator(_calibration)]


class DebounceConfig(Section):
    """When an alarm is raised and cleared.

    It is raised when raise_after of the last `of` pictures are NotOK; by default `of` equals raise_after. It is cleared
    when none of them is and the newest score is below threshold - hysteresis. An alarm of its own is raised when
    undecidable_after of the last undecidable_of pictures are NotDecidable, and cleared when none of them is.
    """

    raise_after: Annotated[int, Field(ge=1, le=1000)] = 1
    of: Annotated[int, Field(ge=1, le=1000)] = Field(default=None, validate_default=True)
    hysteresis: Fraction = 0.0
    undecidable_after: Annotated[int, Field(ge=1, le=1000)] = 3
    undecidable_of: Annotated[int, Field(ge=1, le=1000)] = Field(default=None, validate_default=True)

    @field_validator("undecidable_of", mode="before")
    @classmethod
    def _default_undecidable_in_a_row(cls, of: Any, info: ValidationInfo) -> Any:
        return info.data.get("undecidable_after", 1) if of is None else of

    @field_validator("undecidable_of")
    @classmethod
    def _check_undecidable_of(cls, of: int, info: ValidationInfo) -> int:
        if of < info.data.get("undecidable_after", 0):
            raise invalid(f"is {of}; must be at least undecidable_after, {info.data['undecidable_after']}")
        return of

    @field_validator("of", mode="before")
    @classmethod
    def _default_in_a_row(cls, of: Any, info: ValidationInfo) -> Any:
        return info.data.get("raise_after", 1) if of is None else of

    @field_validator("of")
    @classmethod
    def _check_of(cls, of: int, info: ValidationInfo) -> int:
        if of < info.data.get("raise_after", 0):
            raise invalid(f"is {of}; must be at least raise_after, {info.data['raise_after']}")
        return of


class StationConfig(Section):
    """One place where pictures come from, and how they are judged.

    threshold: the lowest score that is NotOK; or else calibration; with neither, what the checkpoint recommends.
    map_threshold: the lowest heatmap value that belongs to a defect. min_area: the fraction of the picture that a defect
    must cover to count. include, ignore: polygons of (x, y) fractions of the picture; no include means all of it.
    source_down_s: seconds that the source may give no pictures before that is an alarm.
    """

    name: Name = Field(examples=["cam1"])
    source: SourceConfig = Field(examples=["{folder: ./incoming}"])
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    threshold: Fraction | None = None
    calibration: CalibrationFile | None = None
    map_threshold: MapThreshold | None = None
    min_area: Fraction = 0.0
    include: Polygons = ()
    ignore: Polygons = ()
    debounce: DebounceConfig = Field(default_factory=DebounceConfig)
    source_down_s: Positive = 10.0

    @field_validator("debounce")
    @classmethod
    def _check_alarm_can_clear(cls, debounce: DebounceConfig, info: ValidationInfo) -> DebounceConfig:
        threshold, calibration = info.data.get("threshold"), info.data.get("calibration")
        source = ""
        if calibration:
            threshold, source = calibration.threshold, f" of calibration {calibration.id}"
        elif threshold is None and "detector" in info.data:
            threshold, source = info.data["detector"].recommended_threshold(), " that is recommended"
        if threshold is not None and debounce.hysteresis and debounce.hysteresis >= threshold:
            raise invalid(
                f"hysteresis {debounce.hysteresis:g} is not below the threshold {threshold:g}{source}: "
                "no alarm would clear"
            )
        return debounce

    def chosen_threshold(self) -> float | None:
        """Return the lowest score that is NotOK, in [0, 1]; None: as the checkpoint recommends."""
        return self.calibration.threshold if self.calibration else self.threshold

    def effective_threshold(self) -> float:
        """Return the lowest score that is NotOK, in [0, 1], wherever it comes from."""
        chosen = self.chosen_threshold()
        return self.detector.recommended_threshold() if chosen is None else chosen

    def chosen_map_threshold(self) -> float | None:
        """Return the lowest heatmap value that belongs to a defect, in [0, 1]; None: as the checkpoint recommends."""
        if self.map_threshold is None and self.calibration:
            return self.calibration.map_threshold
        return self.map_threshold
