"""What `edge-agent doctor` finds of a camera and of its trigger folder."""

from __future__ import annotations

import time
from pathlib import Path

from edge_agent.io.files import why_not_writable
from edge_agent.settings.finding import Finding
from edge_agent.sources.camera.capture import START_S, Capture, CapturedPicture
from edge_agent.sources.camera.triggers.software import SOFTWARE

MEASURE_S = 2.0  # how long a camera's pictures are counted


def examine_camera(
    station: str, camera: str, capture: Capture, open_timeout_s: float, starts: str | None = None
) -> Finding:
    """Report whether a camera gives pictures, their size and rate. A camera that the agent has open may give none.

    Args:
        station: name of its station.
        camera: its address without a password.
        capture: gives as many pictures as the camera has, for MEASURE_S at least; it is closed.
        open_timeout_s: seconds that opening the camera may take.
        starts: what starts each of its pictures: Software, which is fired here, or an input; None: the camera itself.
    """
    try:
        taken = _pictures(capture, time.monotonic() + START_S + open_timeout_s, starts)
    finally:
        capture.close()
    if not taken and starts and capture.opened and not capture.failures:
        if starts == SOFTWARE:
            return Finding(
                "source", "failed", f"{station}: {camera} is open, but gives no picture for a software trigger"
            )
        width, height, _ = capture.opened
        return Finding(
            "source",
            "ok",
            f"{station}: {camera} is open with {width} x {height}; no picture was started by {starts} meanwhile",
        )
    if not taken:
        return Finding("source", "failed", f"{station}: {camera} {capture.problem}")
    height, width = taken[-1].pixels.shape[:2]
    seconds = taken[-1].at - taken[0].at
    rate = f"{(len(taken) - 1) / seconds:.1f} pictures a second" if seconds else "one picture"
    return Finding("source", "ok", f"{station}: {camera} gives {width} x {height}, {rate}")


def _pictures(capture: Capture, until: float, starts: str | None) -> list[CapturedPicture]:
    """Take the pictures of MEASURE_S seconds, from the first one on or, with a trigger, from the opening on.

    Args:
        capture: the camera.
        until: time.monotonic() to wait for the first one to.
        starts: see examine_camera().
    """
    taken: list[CapturedPicture] = []
    fired: int | None = None
    while time.monotonic() < until and not capture.failures:
        capture.wait(0.1)
        if starts and capture.opened:
            until = min(until, time.monotonic() + MEASURE_S) if not fired else until
            fired = fired or (capture.trigger() if starts == SOFTWARE else -1)
        if picture := capture.take():
            taken.append(picture)
            until = min(until, taken[0].at + MEASURE_S)
            fired = capture.trigger() if starts == SOFTWARE else fired
    return taken


def examine_trigger_folder(station: str, folder: Path) -> Finding:
    """Report whether trigger files can be moved within their folder, as each is before its picture is taken."""
    if not folder.is_dir():
        return Finding("trigger", "warning", f"{station}: {folder} is not there yet: the agent waits for it")
    reason = why_not_writable(folder)
    return Finding("trigger", "failed" if reason else "ok", f"{station}: {reason or folder}")
