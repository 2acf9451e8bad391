"""One GenICam camera, read as OpenCV reads others. Runs in the capturing process: a producer may hang or crash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from queue import Empty
from typing import Any

import cv2
import numpy as np
from genicam import genapi, gentl
from harvesters.core import Callback

from edge_agent.sources.camera.genicam.features import Features
from edge_agent.sources.camera.genicam.pixels import is_understood, to_bgr
from edge_agent.sources.camera.genicam.producers import Producers
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Pace, Settings
from edge_agent.sources.camera.triggers.software import SOFTWARE, SoftwareTriggers

FETCH_MS = 5  # how long a producer is asked to wait; it keeps all of Python waiting meanwhile
IDLE_S = 0.02  # between two looks for pictures that nothing has triggered
ALIVE_S = 0.2  # how often a camera that gives no pictures is asked whether it is there
UNREADABLE_S = 3.0  # a camera that gives nothing but incomplete pictures for so long is lost

_Errors = (genapi.GenericException, gentl.GenericException)


@lru_cache
def _producers(files: tuple[str, ...]) -> Producers:
    """Return the producers of this process: not all of them can be loaded twice."""
    return Producers(files)


@contextmanager
def opened(
    serial: str, settings: Settings, triggers: SoftwareTriggers, alive: Callable[[], None]
) -> Iterator[GenicamCamera]:
    """Open a camera, set it up, and start it.

    Args:
        serial: its serial number.
        settings: how to capture.
        triggers: requests for pictures.
        alive: called while a camera that waits for a trigger answers.

    Raises:
        Unreachable: no producer can be loaded, it does not find the camera, or the camera refuses a feature.
    """
    producers = _producers(tuple(settings.producers))
    found = producers.of_serial(serial)
    try:
        acquirer = producers.harvester.create(found.index)
    except (gentl.ResourceInUseException, gentl.AccessDeniedException) as error:
        raise Unreachable(
            "cannot be opened: another program has it open. After a process was killed, a network camera is free again once"
            " its heartbeat has run out, which takes some seconds"
        ) from error
    except _Errors as error:
        raise Unreachable(f"cannot be opened: {_first_line(error)}") from error
    try:
        camera = GenicamCamera(acquirer, settings, triggers, alive)
        try:
            yield camera
        finally:
            camera.release()
    except _Errors as error:
        raise Unreachable(f"was lost: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


class GenicamCamera:
    """A Video of an open GenICam camera. pace: how its pictures come."""

    def __init__(
        self, acquirer: Any, settings: Settings, triggers: SoftwareTriggers, alive: Callable[[], None]
    ) -> None:
        """Set up the camera and start it. Raises Unreachable, or what genicam raises.

        Args:
            acquirer: harvesters' ImageAcquirer.
            settings: how to capture.
            triggers: requests for pictures.
            alive: called while a camera that waits for a trigger answers.
        """
        self.pace = Pace.SENT if settings.trigger_source is None else Pace.DECODED
        self._acquirer, self._settings = acquirer, settings
        self._triggers, self._alive = triggers, alive
        self._features = Features(acquirer.remote_device.node_map)
        self._buffer: Any = None
        self._pending = 0  # the software trigger that is not answered yet; 0: none
        self._incomplete = False
        self._complete_at = self._asked_at = time.monotonic()
        acquirer.timeout_period_on_update_event_data_call = FETCH_MS
        acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, _Noting(self))
        triggers.clear()
        try:
            self._features.set_up(settings)
            self._require_understood_format()
            acquirer.start()
        except (Unreachable, *_Errors):
            self.release()
            raise

    def get(self, what: int) -> float:
        """See cv2.VideoCapture."""
        if what == cv2.CAP_PROP_FPS:
            rates = ("ResultingFrameRate", "AcquisitionResultingFrameRate", "AcquisitionFrameRate")
            return 0.0 if self._settings.trigger_source else self._features.number(*rates)
        names = {cv2.CAP_PROP_FRAME_WIDTH: "Width", cv2.CAP_PROP_FRAME_HEIGHT: "Height"}
        return self._features.number(names[what]) if what in names else 0.0

    def set(self, what: int, value: float) -> bool:
        """See cv2.VideoCapture."""
        return False

    def grab(self) -> bool:
        """Wait for the next picture, whole or not, and fire software triggers. Raises Unreachable, or what genicam raises."""
        self._return_buffer()
        self._asked_at = time.monotonic()
        while True:
            if self._settings.trigger_source == SOFTWARE:
                self._fire()
            self._buffer = self._acquirer.try_fetch(timeout=FETCH_MS / 1e3)
            if self._buffer is not None or self._incomplete:
                self._triggers.answered, self._pending = self._pending, 0
                return True
            if time.monotonic() - self._asked_at > ALIVE_S:
                self._ask()

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Convert the picture to 8 bits; (False, None) if it is incomplete. Raises Unreachable if it never can be."""
        now = time.monotonic()
        incomplete, self._incomplete = self._incomplete, False
        picture = None if incomplete else self._picture()
        if picture is not None:
            self._complete_at = now
        elif now - self._complete_at > UNREADABLE_S and self.pace is Pace.SENT:
            raise Unreachable(
                "sends only incomplete pictures: packets are lost on their way. Allow jumbo frames on the network card and"
                " the switch, or set a smaller packet_size, or a lower AcquisitionFrameRate"
            )
        self._return_buffer()
        return picture is not None, picture

    def release(self) -> None:
        """Stop and close the camera."""
        with suppress(*_Errors):  # one that was unplugged cannot be stopped
            self._acquirer.destroy()

    def note_incomplete(self) -> None:
        """Note that a buffer came that was not filled."""
        self._incomplete = True

    def _picture(self) -> np.ndarray | None:
        components = self._buffer.payload.components
        if not components or not components[0].width or components[0].data is None:
            return None
        image = components[0]
        width, height, padding = image.width, image.height, image.x_padding // image.data.itemsize
        if width * height > self._settings.max_megapixels * 1e6:
            raise Unreachable(
                f"gives {width} x {height}, beyond limits.max_megapixels: lower its resolution, or raise the limit"
            )
        try:
            picture = to_bgr(image.data, image.data_format, width, height, padding)
        except ValueError:  # fewer bytes than it says
            return None
        # A copy, as the producer fills the buffer again.
        return picture.copy() if np.may_share_memory(picture, image.data) else picture

    def _fire(self) -> None:
        """Fire the next software trigger that is waiting."""
        try:
            number = self._triggers.requested.get(timeout=0 if self._pending else IDLE_S)
        except Empty:
            return
        if self._pending:
            # Its picture may still come, and would be taken for that of the new trigger.
            self._acquirer.stop()
            self._acquirer.start()
        self._pending = number
        self._features.execute("TriggerSoftware")

    def _ask(self) -> None:
        """Ask the camera whether it is there. Raises what genicam raises."""
        self._features.read_afresh("Width")
        self._asked_at = time.monotonic()
        if self._settings.trigger_source is not None:
            self._alive()

    def _return_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.queue()

    def _require_understood_format(self) -> None:
        node = self._features.node("PixelFormat")
        if node is None or is_understood(node.value):
            return
        usable = [name for name in node.symbolics if is_understood(name)]
        raise Unreachable(
            f"sends {node.value}, which the agent does not read: set pixel_format to one of {', '.join(usable) or 'another'}"
        )


class _Noting(Callback):
    """What harvesters calls when a buffer was not filled."""

    def __init__(self, camera: GenicamCamera) -> None:
        self._camera = camera

    def emit(self, context: object = None) -> None:
        """Note an incomplete buffer."""
        self._camera.note_incomplete()
