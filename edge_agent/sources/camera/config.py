"""`source: {camera: ...}`, a camera or a video played as one, and its triggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from edge_agent.errors import ConfigError
from edge_agent.settings.finding import Finding
from edge_agent.settings.password import PasswordConfig
from edge_agent.settings.section import Loc
from edge_agent.settings.sinks import MQTT, OPCUA, SinkSection
from edge_agent.settings.sources import SourceSection, WatchedFolder
from edge_agent.settings.values import Fraction, absolute, folder_of, invalid
from edge_agent.sources.camera.address import (
    GENICAM,
    Backend,
    backend_of,
    fault_of,
    is_genicam,
    is_pipeline,
    is_url,
    takes_password,
    with_password,
)
from edge_agent.sources.camera.genicam.config import GENICAM_KEYS, GenicamKeys
from edge_agent.sources.camera.triggers.config import TriggerConfig

if TYPE_CHECKING:
    from edge_agent.core import Ledger, Triggers
    from edge_agent.sources.camera.capture import Capture
    from edge_agent.sources.camera.source import CameraSource


def _camera(value: Any, info: ValidationInfo) -> Any:
    text = str(value) if isinstance(value, int | Path) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text:
        return text
    fault = fault_of(text)
    if fault:
        raise invalid(fault)
    if text.isdecimal():
        return f"/dev/video{int(text)}"
    if is_url(text) or is_pipeline(text) or is_genicam(text):
        return text
    return str(absolute(text, folder_of(info)))


def _roi(roi: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = roi
    if not width or not height or x + width > 1.000001 or y + height > 1.000001:
        raise invalid(
            "leaves the picture, or holds nothing of it: wants [x, y, width, height] as fractions of the picture"
        )
    return roi


def _check_four(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise invalid("wants [x, y, width, height] as fractions of the picture, such as [0.25, 0, 0.5, 1]")
    return value


def _check_two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise invalid("wants [width, height] in pixels, such as [1920, 1080]")
    return value


def _rotate(degrees: int) -> int:
    if degrees not in (0, 90, 180, 270):
        raise invalid(f"is {degrees}; wants 0, 90, 180 or 270, in degrees clockwise")
    return degrees


CameraAddress = Annotated[str, Field(min_length=1, max_length=2000), BeforeValidator(_camera)]
Side = Annotated[int, Field(ge=16, le=65535)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_check_two)]
Roi = Annotated[tuple[Fraction, Fraction, Fraction, Fraction], BeforeValidator(_check_four), AfterValidator(_roi)]
Rotate = Annotated[int, AfterValidator(_rotate)]

_NOT_OF_GENICAM = ("backend", "size", "fourcc", "transport", "repeat")


class CameraConfig(GenicamKeys, SourceSection):
    """A camera: a URL without a password, a number or path of /dev/video*, a GStreamer pipeline, `genicam:` and the serial
    number of a GenICam camera, or a video as if live.

    backend: auto chooses by the address. password: of the URL's user, or for {password} in the address. fps: pictures a
    second to inspect; None: as many as the detector can. trigger: takes a picture for each trigger, instead of a rate.
    rotate: degrees clockwise. roi: x, y, width, height as fractions of the rotated picture. size, fourcc: requested from a
    V4L2 camera. transport: of RTSP. repeat: a video starts again at its end. timeout_s: seconds without a picture after
    which a camera is lost. freeze_s: seconds with only repeated pictures after which it is frozen. open_timeout_s: for
    opening it. Of GenICam cameras only: producer: the vendor's GenTL producer (.cti); None: all that GENICAM_GENTL64_PATH
    leads to. exposure_us, gain: fixed, in microseconds and in the camera's unit. pixel_format: its name in the camera's manual.
    packet_size: of a network camera, in bytes. features: any others, by name, set in this order.
    """

    key: ClassVar[str] = "camera"

    camera: CameraAddress = Field(examples=["rtsp://10.0.0.5/stream1"])
    backend: Literal["auto", "ffmpeg", "v4l2", "gstreamer"] = "auto"
    password: PasswordConfig | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    trigger: TriggerConfig | None = None
    rotate: Rotate = 0
    roi: Roi | None = None
    size: Size | None = None
    fourcc: Annotated[str, Field(pattern=r"^[ -~]{4}$")] | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    repeat: bool = False
    timeout_s: Annotated[float, Field(ge=0.5, le=3600, allow_inf_nan=False)] = 3.0
    freeze_s: Annotated[float, Field(ge=0.5, le=1e9, allow_inf_nan=False)] = 5.0
    open_timeout_s: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 10.0

    @field_validator("password")
    @classmethod
    def _check_password_is_used(cls, password: PasswordConfig | None, info: ValidationInfo) -> PasswordConfig | None:
        if password is not None and "camera" in info.data and not takes_password(info.data["camera"]):
            raise invalid("has no use: name a user in the camera's URL, as in rtsp://USER@HOST/, or remove it")
        return password

    @field_validator("trigger")
    @classmethod
    def _check_no_rate(cls, trigger: TriggerConfig | None, info: ValidationInfo) -> TriggerConfig | None:
        if trigger is not None and info.data.get("fps") is not None:
            raise invalid("and fps exclude each other: a picture comes at each trigger, or at a rate")
        return trigger

    @field_validator("trigger")
    @classmethod
    def _check_camera_can_be_triggered(
        cls, trigger: TriggerConfig | None, info: ValidationInfo
    ) -> TriggerConfig | None:
        if trigger is not None and trigger.starts and not is_genicam(info.data.get("camera", GENICAM)):
            raise invalid("software and line are for a GenICam camera: camera: genicam:SERIAL")
        return trigger

    @model_validator(mode="after")
    def _check_keys_fit_the_kind(self) -> CameraConfig:
        given = self.model_fields_set
        if not is_genicam(self.camera) and (foreign := [name for name in GENICAM_KEYS if name in given]):
            raise invalid(f"has {foreign[0]}, which is for a GenICam camera: camera: genicam:SERIAL")
        if is_genicam(self.camera) and (foreign := [name for name in _NOT_OF_GENICAM if name in given]):
            raise invalid(f"has {foreign[0]}, which has no use for a GenICam camera: remove it, and see features:")
        return self

    @property
    def is_video(self) -> bool:
        """Return whether this is a video file."""
        return self.chosen_backend == "ffmpeg" and not is_url(self.camera)

    @property
    def chosen_backend(self) -> Backend:
        """Return the OpenCV backend that opens it."""
        return backend_of(self.camera) if self.backend == "auto" else self.backend

    def address(self) -> str:
        """Return what to open, with the password; never log it. Raises ConfigError if the password cannot be read."""
        return with_password(self.camera, self.secret())

    def secret(self) -> str | None:
        """Read the password, anew at each call. Raises ConfigError."""
        return self.password.read() if self.password else None

    def capture(self, station: str, max_megapixels: float) -> Capture:
        """Build what captures the camera from its first wait() on. Raises ConfigError, as build() does."""
        from edge_agent.sources.camera.capture import Capture
        from edge_agent.sources.camera.settings import Settings, require_backend

        self.secret()  # a missing one is an error now, not at every attempt
        if is_genicam(self.camera) and (missing := self.missing_producer()):
            raise ConfigError(f"station {station}: {missing}")
        try:
            require_backend(self.chosen_backend)
        except ConfigError as error:
            raise ConfigError(f"station {station}: {error}") from None
        settings = Settings(
            backend=self.chosen_backend,
            is_http=self.chosen_backend == "ffmpeg" and self.camera.lower().startswith(("http://", "https://")),
            is_video=self.is_video,
            repeat=self.repeat,
            fps=self.fps,
            rotate=self.rotate,
            roi=self.roi,
            transport=self.transport,
            size=self.size,
            fourcc=self.fourcc,
            open_timeout_s=self.open_timeout_s,
            freeze_s=self.freeze_s,
            max_megapixels=max_megapixels,
            trigger_source=self.trigger.starts if self.trigger else None,
            **(self.genicam_settings() if is_genicam(self.camera) else {}),
        )
        return Capture(
            station, self.camera, settings, address=self.address, secret=self.secret, timeout_s=self.timeout_s
        )

    def build(self, station: str, ledger: Ledger, *, max_megapixels: float, triggers: Triggers | None) -> CameraSource:
        """See SourceSection."""
        from edge_agent.sources.camera.source import CameraSource
        from edge_agent.sources.camera.triggers.files import TriggerFiles

        trigger = self.trigger
        if trigger and trigger.folder:
            triggers = TriggerFiles(station, trigger.folder, trigger.pattern, ledger)
        elif trigger and not trigger.has_requests:
            triggers = None
        return CameraSource(
            station,
            self.capture(station, max_megapixels),
            triggers,
            timeout_s=trigger.timeout_s if trigger else 0.0,
            delay_s=trigger.delay_s if trigger else 0.0,
            software=trigger is not None and trigger.software,
        )

    def describe(self) -> str:
        """See SourceSection."""
        if self.trigger:
            when = self.trigger.describe()
        else:
            when = f"{self.fps:g} pictures a second" if self.fps else "as many pictures as the detector can read"
        secret = f", password from {self.password}" if self.password else ""
        return f"{self.camera} by {self.chosen_backend}{secret}: {when}"

    def check(self, station: str, *, max_megapixels: float) -> Iterator[Finding]:
        """Capture for two seconds, and examine the trigger folder."""
        from edge_agent.sources.camera.check import examine_camera, examine_trigger_folder

        unhindered = self.model_copy(update={"fps": None, "repeat": True})  # no rate, and no end if it is a video
        capture = unhindered.capture(station, max_megapixels)
        starts = self.trigger.starts if self.trigger else None
        yield examine_camera(station, self.camera, capture, self.open_timeout_s, starts)
        if self.trigger and self.trigger.folder:
            yield examine_trigger_folder(station, self.trigger.folder)
        if self.trigger and self.trigger.plc:
            yield from (replace(one, text=f"{station}: {one.text}") for one in self.trigger.plc.check(station))

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """See SourceSection."""
        yield from super().warnings()
        if is_genicam(self.camera):
            yield from self.genicam_warnings()
        yield from self._what_is_not_noticed()
        if self.trigger and self.trigger.plc:
            yield from ((("trigger", "plc", *loc), text) for loc, text in self.trigger.plc.warnings())
        if self.password:
            yield from ((("password", *loc), text) for loc, text in self.password.warnings())

    def _what_is_not_noticed(self) -> Iterator[tuple[Loc, str]]:
        """Yield the damage that would not be noticed, as an extra is missing."""
        from edge_agent.sources.video_damage import EXTRA, MISSING, is_installed

        if is_installed():
            return
        if self.is_video:
            yield ("camera",), MISSING
        elif self.transport == "udp" and self.chosen_backend == "ffmpeg":
            text = f"pictures that lost packets are filled up, unnoticed: write transport: tcp, or {EXTRA}"
            yield ("transport",), text

    def folders(self) -> Sequence[WatchedFolder]:
        """See SourceSection."""
        if not self.trigger or not self.trigger.folder:
            return ()
        return [WatchedFolder(("trigger", "folder"), self.trigger.folder, holds_pictures=False)]

    @property
    def requested_by(self) -> str | None:
        """See SourceSection."""
        if self.trigger and self.trigger.opcua:
            return OPCUA
        return MQTT if self.trigger and self.trigger.by_command else None

    def own_sinks(self) -> Mapping[str, SinkSection]:
        """See SourceSection."""
        return {"plc": self.trigger.plc} if self.trigger and self.trigger.plc else {}

    @property
    def verdict_within_s(self) -> float | None:
        """See SourceSection."""
        return self.trigger.verdict_within_s if self.trigger else None
