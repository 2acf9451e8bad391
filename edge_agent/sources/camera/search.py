"""Finds the cameras of this machine, and takes a picture of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_agent.sources.camera.capture import START_S
from edge_agent.sources.camera.capture import log as capture_log
from edge_agent.sources.camera.config import CameraConfig

DEVICES = Path("/sys/class/video4linux")
BY_ID = Path("/dev/v4l/by-id")


@dataclass(frozen=True, slots=True)
class Listed:
    """A camera. address: for camera: in config.yaml. kind: genicam, usb or network. name: what it calls itself.

    size, fps: once it was tried, as it reported. problem: why it gives no pictures; None if it was not tried, or gives some.
    """

    address: str
    kind: str
    name: str = ""
    size: tuple[int, int] | None = None
    fps: float | None = None
    problem: str | None = None


def usb_cameras() -> Iterator[Listed]:
    """Yield the video devices that give pictures; a camera has further ones for its metadata."""
    names = {link.resolve(): str(link) for link in sorted(BY_ID.glob("*"))} if BY_ID.is_dir() else {}
    for device in sorted(DEVICES.glob("video*"), key=lambda path: (len(path.name), path.name)):
        if _text(device / "index") in ("0", ""):
            node = Path("/dev") / device.name
            yield Listed(names.get(node, str(node)), "usb", _text(device / "name"))


def genicam_cameras(files: list[str]) -> Iterator[Listed]:
    """Yield what these producers find. Raises EdgeAgentError."""
    from edge_agent.sources.camera.genicam.listing import find_cameras

    for one in find_cameras(files):
        name = f"{one.vendor} {one.model}" + (f" {one.user_name!r}" if one.user_name else "")
        yield Listed(f"genicam:{one.serial}", "genicam", name)


def tried(camera: Listed, config: CameraConfig) -> tuple[Listed, np.ndarray | None]:
    """Take a picture.

    Args:
        camera: the camera.
        config: how to open it.

    Returns:
        the camera with what it reported, and its first picture, (H, W, 3) uint8 RGB, or None.

    Raises:
        ConfigError: its password cannot be read, or an extra is missing.
    """
    capture = config.capture(camera.address, max_megapixels=1000)
    picture = None
    capture_log.disabled = True  # it would say that it tries again until it works
    until = time.monotonic() + START_S + config.open_timeout_s
    try:
        while picture is None and not capture.failures and time.monotonic() < until:
            capture.wait(0.1)
            picture = capture.take()
    finally:
        capture.close()
        capture_log.disabled = False
    if picture is None:
        return replace(camera, problem=capture.problem or "gives no picture"), None
    height, width = picture.pixels.shape[:2]
    fps = capture.opened[2] if capture.opened else 0.0
    return replace(camera, size=(width, height), fps=fps or None), picture.pixels


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
