"""Reads the calibration of a station: the threshold that its own good pictures gave, and what it was measured with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edge_agent.errors import ConfigError
from edge_agent.io.texts import read_text
from edge_agent.settings.values import Fraction

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 1 << 20
LEAST_CONTRAST = 1.5 / 255  # Of 599 pictures of parts, none has less than 3.4 / 255; noise in the dark 0.5 / 255.
QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent

MapThreshold = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Polygons = tuple[tuple[tuple[float, float], ...], ...]


class Calibration(BaseModel):
    """What a calibration found; the keys of the file are the fields, but for `schema`.

    threshold in [0, 1], map_threshold in (0, 1]. false_alarm_rate: the share of good pictures that may be called NotOK.
    false_alarm_interval: what it truly is in 95 of 100 such calibrations. class_name, include and ignore: what the station
    said of its pictures. image_size, windows, squares: as the station read them. The digests (SHA-256, hex) name the weights
    and the checkpoint whose scores were measured. score_quantiles and brightness_quantiles: of the good pictures, at QUANTILES
    by their names ("0" to "100"). lowest_contrast: of the good pictures, see contrast.py. set_by, name, reason: who has set the
    threshold by hand, what it is called, and why. None: a file that does not say. Keys that a newer version may add are passed
    over.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", protected_namespaces=(), populate_by_name=True, defer_build=True
    )

    schema_name: Literal["edge-agent/calibration/1"] = Field(alias="schema")
    id: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,64}$")]
    threshold: Fraction
    map_threshold: MapThreshold | None = None
    false_alarm_rate: Fraction
    false_alarm_interval: tuple[Fraction, Fraction] | None = None
    good_pictures: Annotated[int, Field(ge=1)]
    class_name: str | None = None
    include: Polygons | None = None
    ignore: Polygons | None = None
    model_sha256: Digest
    checkpoint_sha256: Digest
    image_size: Annotated[int, Field(ge=1)] | None = None
    windows: Annotated[int, Field(ge=1)] = 1
    squares: bool = False
    created: AwareDatetime
    score_quantiles: dict[str, Fraction] | None = None
    brightness_quantiles: dict[str, Fraction] | None = None
    lowest_contrast: Fraction | None = None
    set_by: str | None = None
    name: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"calibration {self.id} (threshold {self.threshold:g})"

    def require_fit(
        self,
        model_sha256: str,
        checkpoint_sha256: str,
        image_size: int | None,
        windows: int = 1,
        squares: bool | None = None,
    ) -> None:
        """Raise ConfigError unless this was measured with this very detector.

        Args:
            model_sha256: digest (hex) of the backbone's weights.
            checkpoint_sha256: digest (hex) of the checkpoint.
            image_size: side in pixels at which pictures are read; None where that is not known.
            windows: windows along each side that are read besides; 1 is none.
            squares: whether elongated pictures are read in squares; None where that is not known.
        """
        for what, mine, theirs in (
            ("model weights", self.model_sha256, model_sha256),
            ("checkpoint", self.checkpoint_sha256, checkpoint_sha256),
        ):
            if mine != theirs:
                raise ConfigError(
                    f"calibration {self.id} was made with the {what} {mine[:12]}, the station uses {theirs[:12]}, which"
                    " scores or maps otherwise: calibrate again, or go back to what it was made with"
                )
        for what, made, read in (
            ("image_size", self.image_size, image_size),
            ("windows", self.windows, windows),
            ("squares", self.squares, squares),
        ):
            if None not in (made, read) and made != read:
                raise ConfigError(
                    f"calibration {self.id} was made with {what} {made}, the station reads with {read}, which gives other"
                    " scores: calibrate again, or go back to what it was made at"
                )

    def differences(self, class_name: str, include: Polygons, ignore: Polygons) -> list[str]:
        """Return the names of what a station does otherwise than the one that this was made for, as far as that is known.

        Args:
            class_name: what the station's pictures show.
            include: polygons of (x, y) fractions that are inspected.
            ignore: polygons that are not.
        """
        station = {"class_name": class_name, "include": include, "ignore": ignore}
        return [key for key, said in station.items() if getattr(self, key) not in (None, said)]


def brightness(pixels: np.ndarray) -> float:
    """How bright a picture (H, W, 3) uint8 RGB is: the mean of all its samples, in [0, 1]."""
    import cv2  # which checking a config does not need

    return float(sum(cv2.mean(pixels)[:3])) / 3 / 255  # several times as fast as NumPy's


def least_contrast(calibration: Calibration | None) -> float:
    """Return below which contrast, in [0, 1], a picture shows nothing: less where good parts are as plain."""
    lowest = calibration.lowest_contrast if calibration else None
    return LEAST_CONTRAST if lowest is None else min(LEAST_CONTRAST, lowest / 2)


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file. Raises ConfigError with one line per error: `FILE: KEY: what is wrong`."""
    content = read_text(path, MAX_BYTES, "calibration file", "check the path, or calibrate")
    try:
        return Calibration.model_validate_json(content)
    except ValidationError as error:
        lines = [f"{path}: {_said(e['type'], e['loc'], e['msg'])}" for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error


def _said(kind: str, loc: tuple[int | str, ...], message: str) -> str:
    if kind == "json_invalid":
        return f"is not valid JSON ({message}): calibrate again"
    if kind == "model_type":
        return "is not a calibration: wants a JSON object with the keys of one"
    key = ".".join(map(str, loc))
    if kind == "missing":
        return f"{key}: is missing: calibrate again"
    return f"{key}: {message[0].lower()}{message[1:]}"
