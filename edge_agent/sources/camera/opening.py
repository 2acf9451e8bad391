"""Opens a camera of any kind, in the capturing process."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge_agent.sources.camera.address import serial_of
from edge_agent.sources.camera.reachable import require_reachable
from edge_agent.sources.camera.settings import Pace, Settings
from edge_agent.sources.camera.triggers.software import SoftwareTriggers
from edge_agent.sources.video_damage import VideoDamage, is_installed

if TYPE_CHECKING:
    from edge_agent.sources.camera.http_stream import Video

_APIS = {"ffmpeg": cv2.CAP_FFMPEG, "v4l2": cv2.CAP_V4L2, "gstreamer": cv2.CAP_GSTREAMER}
_LOCATIONS = re.compile(r"(?:location|uri)\s*=\s*[\"']?(\w+://[^\s\"']+)")  # in a pipeline


class Lost(Exception):
    """The camera gives no more pictures, and why."""


@contextmanager
def opened(
    address: str, settings: Settings, timeout_s: float, triggers: SoftwareTriggers, alive: Callable[[], None]
) -> Iterator[tuple[Video, Pace]]:
    """Open the camera, and tell how its pictures come.

    Args:
        address: with the password.
        settings: how the camera is captured.
        timeout_s: seconds that opening may take.
        triggers: requests for pictures, of a camera that is triggered by software.
        alive: called while a camera that waits for a trigger answers.

    Raises:
        Lost, Unreachable: it cannot be opened.
    """
    if settings.backend == "genicam":
        from edge_agent.sources.camera.genicam.camera import opened as open_genicam

        with open_genicam(serial_of(address), settings, triggers, alive) as camera:
            yield camera, camera.pace
        return
    if settings.is_http:
        from edge_agent.sources.camera.http_stream import open_http

        require_reachable(address)
        if pictures := open_http(address, settings, timeout_s):
            try:
                yield pictures, pictures.pace
            finally:
                pictures.release()
            return
    if settings.backend == "v4l2" or settings.is_video:
        _require_exists(address, device=settings.backend == "v4l2")
    else:
        for url in [address] if settings.backend == "ffmpeg" else _LOCATIONS.findall(address):
            require_reachable(url)
    by_udp = settings.backend == "ffmpeg" and settings.transport == "udp" and address.lower().startswith("rtsp://")
    if by_udp and is_installed():
        from edge_agent.sources.camera.udp_stream import UdpStream

        stream = UdpStream(address, timeout_s)
        try:
            yield stream, Pace.DECODED
        finally:
            stream.release()
        return
    # OpenCV ignores the timeouts unless CAP_FFMPEG is given. Each further thread would delay by one picture.
    parameters: list[int] = []
    if settings.backend == "ffmpeg":
        parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(timeout_s * 1e3)]
        parameters += [cv2.CAP_PROP_N_THREADS, 2] if hasattr(cv2, "CAP_PROP_N_THREADS") else []  # not in OpenCV 4.6
    video = cv2.VideoCapture(address, _APIS[settings.backend], parameters)
    try:
        if not video.isOpened():
            raise Lost("cannot be opened")
        if settings.fourcc:
            video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*settings.fourcc))
        if settings.size:
            video.set(cv2.CAP_PROP_FRAME_WIDTH, settings.size[0])
            video.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.size[1])
            got = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if got != tuple(settings.size):
                raise Lost(f"gives {got[0]} x {got[1]} instead of size {settings.size[0]} x {settings.size[1]}")
        if settings.is_video and is_installed():
            with closing(_Checked(video, address)) as checked:
                yield checked, Pace.DECODED
        else:
            yield video, Pace.DECODED
    finally:
        video.release()


class _Checked:
    """A video file, of which damaged pictures cannot be read."""

    def __init__(self, video: cv2.VideoCapture, path: str) -> None:
        self._video, self._path = video, path
        self._damage = VideoDamage(path)
        self.get, self.grab, self.release = video.get, video.grab, video.release

    def set(self, what: int, value: float) -> bool:
        """See cv2.VideoCapture; only to return to the beginning."""
        self._damage.close()
        self._damage = VideoDamage(self._path)
        return self._video.set(what, value)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """See cv2.VideoCapture; (False, None) for a damaged picture."""
        if self._damage.is_at(self._video.get(cv2.CAP_PROP_POS_MSEC)):
            return False, None
        return self._video.retrieve()

    def close(self) -> None:
        """Close what knows the damage; the video is closed by its owner."""
        self._damage.close()


def _require_exists(path: str, *, device: bool) -> None:
    try:
        is_device = stat.S_ISCHR(os.stat(path).st_mode)
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise Lost(f"cannot be opened ({error.strerror})") from error
    if device and not is_device:
        raise Lost("is no video device")


def rate_of(video: Video) -> float | None:
    """Return the pictures a second that the stream reports; None if the number makes no sense."""
    fps = video.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0.01 <= fps <= 1000 else None
