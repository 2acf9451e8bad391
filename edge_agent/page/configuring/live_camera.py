"""The picture of a camera that is being set up, captured as the agent does, for as long as somebody looks."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

from edge_agent.errors import PictureError
from edge_agent.sources.camera.capture import Capture
from edge_agent.sources.camera.config import CameraConfig

log = logging.getLogger(__name__)

IDLE_S = 15.0  # without a look, after which the camera is closed
OPEN_S = 20.0  # how long one look waits for the first picture


class LiveCamera:
    """One camera at a time: who looks at another one closes the first. Thread-safe."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._changed = threading.Condition()
        self._key = ""  # of the camera that is open
        self._newest: tuple[int, np.ndarray] | None = None  # which picture it is, and its pixels
        self._problem: str | None = None
        self._looked_at = 0.0

    def picture(self, key: str, config: CameraConfig, max_megapixels: float) -> np.ndarray:
        """Return the newest picture, (H, W, 3) uint8 RGB; wait for the first one.

        Args:
            key: tells this camera with these settings from others.
            config: how it is captured.
            max_megapixels: larger pictures are not taken.

        Raises:
            PictureError: the camera gives none, and why.
        """
        with self._changed:
            self._looked_at = time.monotonic()
            if self._key != key:
                capture = config.model_copy(update={"fps": None, "trigger": None}).capture(key, max_megapixels)
                self._key, self._newest, self._problem = key, None, None
                name = f"live camera {key}"
                threading.Thread(target=self._run, args=(key, capture), name=name, daemon=True).start()
            self._changed.wait_for(lambda: self._key != key or self._newest or self._problem, OPEN_S)
            if self._key == key and self._newest is not None:
                return self._newest[1]
            raise PictureError(f"{config.camera} {self._problem or 'gives no picture yet'}")

    def close(self) -> None:
        """Close the camera, if one is open."""
        with self._changed:
            self._key = ""
            self._changed.notify_all()

    def _run(self, key: str, capture: Capture) -> None:
        """Capture until nobody looks any longer, or somebody looks at another camera."""
        number = 0
        try:
            while self._is_wanted(key):
                capture.wait(0.1)
                taken = capture.take()
                with self._changed:
                    if self._key != key:
                        return
                    if taken is not None:
                        number += 1
                        self._newest = number, taken.pixels
                    # While it opens there is nothing to tell; what failed is tried again meanwhile.
                    self._problem = capture.problem if capture.failures else None
                    if capture.failures:
                        self._newest = None
                    if taken is not None or self._problem:
                        self._changed.notify_all()
        finally:
            capture.close()
            with self._changed:
                if self._key == key:
                    self._key = ""
                self._changed.notify_all()

    def _is_wanted(self, key: str) -> bool:
        with self._changed:
            return self._key == key and time.monotonic() - self._looked_at < IDLE_S
