"""How a camera is captured: what the agent sends to the process that captures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from edge_agent.errors import ConfigError

FROZEN = "sends the same picture over and over: is its view covered, or has it crashed?"


class Pace(Enum):
    """How the pictures of an open camera come."""

    DECODED = "decoded"  # by a library that has decoded them already
    SENT = "sent"  # as files, one after the other, each decoded only when it is taken
    POLLED = "polled"  # as files that are asked for at the station's rate: all are due, and none has waited


@dataclass(frozen=True, slots=True)
class Settings:
    """How to capture; without the address, as its password may change. backend: ffmpeg, v4l2, gstreamer or genicam.

    is_http: its address is http:// or https://. is_video: a file, played at its own rate. repeat: start it again at its end.
    fps: pictures published a second; None: all. rotate: degrees clockwise. roi: (x, y, width, height) as fractions of the
    rotated picture. transport: of RTSP. size, fourcc: requested from the camera. freeze_s: seconds without a new picture after
    which it counts as frozen. Of GenICam cameras: producers: their files; features: set by name, in order; exposure_us, gain,
    pixel_format, packet_size: see CameraConfig; trigger_source: what starts each picture, such as Software or Line0; None: the
    camera itself.
    """

    backend: str
    is_http: bool = False
    is_video: bool = False
    repeat: bool = False
    fps: float | None = None
    rotate: int = 0
    roi: tuple[float, float, float, float] | None = None
    transport: str = "tcp"
    size: tuple[int, int] | None = None
    fourcc: str | None = None
    open_timeout_s: float = 10.0
    freeze_s: float = 5.0
    max_megapixels: float = 100.0
    producers: Sequence[str] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    exposure_us: float | None = None
    gain: float | None = None
    pixel_format: str | None = None
    packet_size: int | None = None
    trigger_source: str | None = None


def require_backend(backend: str) -> None:
    """Raise ConfigError if this OpenCV was built without the backend, or the extra for it is not installed."""
    if backend == "genicam":
        from edge_agent.sources.camera.genicam.producers import require_genicam

        require_genicam()
        return
    import cv2

    has = cv2.videoio_registry.hasBackend(
        {"ffmpeg": cv2.CAP_FFMPEG, "v4l2": cv2.CAP_V4L2}.get(backend, cv2.CAP_GSTREAMER)
    )
    if not has and backend == "gstreamer":
        raise ConfigError(
            f"OpenCV {cv2.__version__} here has no GStreamer, as none from PyPI has: put the OpenCV of JetPack or of Debian "
            "(apt install python3-opencv) in its place, see docs/cameras.md; or give the camera's rtsp:// URL"
        )
    if not has:
        raise ConfigError(f"OpenCV {cv2.__version__} here has no {backend}: pip install opencv-python")
