"""A real RTSP camera on a free loopback port, which can die, hang, freeze, keep silent, and come back."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PATIENCE_S
from tests.mosquitto import free_port

PYTHON = "/usr/bin/python3"  # the one that Debian's GStreamer packages are for
COLOUR = (200, 40, 70)
BITS = 20


@functools.cache
def _missing() -> str | None:
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
        "Gst.init(None); assert all(map(Gst.ElementFactory.find, ['appsrc', 'x264enc', 'rtph264pay'])), 'elements'"
    )
    try:
        tried = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    except OSError as error:
        return str(error)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else None


class RtspServer:
    """A camera that shows COLOUR and below it, in binary, the number of the picture (see rtsp_server.py).

    user, password: then nobody else gets a picture. textured: see texture_of(). Skips the test where GStreamer's RTSP server is
    not installed.
    """

    def __init__(
        self,
        *,
        width: int = 320,
        height: int = 240,
        fps: int = 25,
        user: str | None = None,
        password: str | None = None,
        colour: tuple[int, int, int] = COLOUR,
        textured: bool = False,
    ) -> None:
        missing = _missing()
        if missing:
            pytest.skip(
                f"no RTSP server ({missing}); Debian: apt install python3-gi gir1.2-gst-rtsp-server-1.0"
                " gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
            )
        self.port = free_port()
        self._settings: dict[str, object] = {"width": width, "height": height, "fps": fps, "colour": colour}
        self._settings |= {"user": user, "password": password, "textured": textured}
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/line"

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return once it listens."""
        server = Path(__file__).with_name("rtsp_server.py")
        # Nothing of the virtual environment is for that Python.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
        self._process = subprocess.Popen(
            [PYTHON, str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._say(json.dumps(self._settings | {"port": self.port}))
        assert self._hear() == "ready"

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe
                pipe.close()
            self._process = None

    def hang(self) -> None:
        """It takes connections and data, and never answers: a black hole."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def do(self, mode: str) -> None:
        """go, freeze or silence."""
        self._say(mode)
        assert self._hear() == "done"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def _say(self, line: str) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def texture_of(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    """The colours of the blocks, of 8 x 8 pixels, above the number of a textured picture: (rows, columns, 3)."""
    chance = random.Random(number % 8)
    rows = (height - height // 4) // 8
    return np.array([[chance.choices(range(256), k=3) for _ in range(width // 8)] for _ in range(rows)])


def number_of(pixels: np.ndarray) -> int:
    """The number that is written in a picture, (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    row = pixels[height - height // 8].mean(axis=1)
    cell = width // BITS
    return sum(int(row[bit * cell + cell // 2] > 127) << bit for bit in range(BITS))


def colour_of(pixels: np.ndarray) -> tuple[int, int, int]:
    """The mean RGB of the upper half."""
    red, green, blue = pixels[8 : pixels.shape[0] // 2].reshape(-1, 3).mean(axis=0)
    return round(red), round(green), round(blue)
