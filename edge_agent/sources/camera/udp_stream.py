"""An RTSP camera over UDP, of which packets may be lost; OpenCV would fill up the pictures unnoticed (extra `video`)."""

from __future__ import annotations

import time
from contextlib import ExitStack

import av
import av.logging
import cv2
import numpy as np

from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.video_damage import checked

WHOLE_S = 10.0  # a camera that gives no whole picture for so long is lost; key frames may be seconds apart
READ_S = 60.0  # the agent ends a process that waits for longer than its own limit, which is shorter


class UdpStream:
    """A Video of an RTSP camera. A picture that lost a packet, or is predicted from one that did, cannot be read."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Open the camera.

        Args:
            address: with the password.
            timeout_s: seconds that opening may take.

        Raises:
            Unreachable: it cannot be opened.
        """
        self._resources = ExitStack()
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)
        capture = av.logging.Capture(local=False)
        self._logged = capture.__enter__()
        self._resources.callback(capture.__exit__, None, None, None)
        options = {"rtsp_transport": "udp", "fflags": "nobuffer", "flags": "low_delay"}
        try:
            container = self._resources.enter_context(av.open(address, options=options, timeout=(timeout_s, READ_S)))
            self._stream = container.streams.video[0]
        except (av.FFmpegError, IndexError) as error:
            said = [text.strip() for _, _, text in self._logged if "failed" in text]
            self._resources.close()
            raise Unreachable(f"cannot be opened ({said[0] if said else error})") from error
        self._frames = checked(container, self._stream, self._was_lost)
        self._frame: av.VideoFrame | None = None
        self._is_damaged = False
        self._whole_at = time.monotonic()

    def _was_lost(self) -> bool:
        lost = any("missed" in text for _, _, text in self._logged)
        self._logged.clear()
        return lost

    def get(self, what: int) -> float:
        """See cv2.VideoCapture."""
        if what == cv2.CAP_PROP_FPS:
            return float(self._stream.average_rate or 0)
        context = self._stream.codec_context
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: context.width, cv2.CAP_PROP_FRAME_HEIGHT: context.height}
        return float(sizes.get(what, 0))

    def set(self, what: int, value: float) -> bool:
        """See cv2.VideoCapture."""
        return False

    def grab(self) -> bool:
        """Wait for the next picture, whole or not; return False at the end. Raises Unreachable."""
        if time.monotonic() - self._whole_at > WHOLE_S:
            raise Unreachable("gives no whole picture, as packets are lost on their way: write transport: tcp")
        try:
            self._frame, _, self._is_damaged = next(self._frames)
        except StopIteration:
            return False
        except av.FFmpegError as error:
            raise Unreachable(f"was lost ({error.strerror or type(error).__name__})") from error
        if not self._is_damaged:
            self._whole_at = time.monotonic()
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Return the picture, (H, W, 3) uint8 BGR; (False, None) if it is damaged."""
        if self._frame is None or self._is_damaged:
            return False, None
        return True, self._frame.to_ndarray(format="bgr24")

    def release(self) -> None:
        """Close the connection."""
        self._frames.close()
        self._resources.close()
