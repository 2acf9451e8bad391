"""The process that captures one camera, as the agent sees it: started, asked, heard, killed. It runs child.py."""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from edge_agent.sources.camera.settings import Settings
from edge_agent.sources.camera.slot import Slot

# Python's isolated mode imports nothing from the working directory; the child gets the import path of this process.
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.readline());"
    "from edge_agent.sources.camera.child import main; main()"
)


class CaptureProcess:
    """A process that runs child.py. messages: the last lines of its standard error."""

    def __init__(self, settings: Settings) -> None:
        self.slot = Slot()
        self.messages: deque[str] = deque(maxlen=5)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[self.slot.fd],
            )
        except OSError:
            self.slot.close()
            raise
        self._selector = selectors.DefaultSelector()
        self._unfinished: dict[int, bytes] = {}
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ)
            self._unfinished[pipe.fileno()] = b""
        self._send(sys.path)
        self._send([self.slot.fd, asdict(settings)])

    def open(self, address: str, timeout_s: float) -> None:
        """Request that the camera is opened."""
        self.messages.clear()
        self._send(["open", address, timeout_s])

    def trigger(self, number: int) -> None:
        """Request a software trigger. number: names it in the State."""
        self._send(["trigger", number])

    def _send(self, what: object) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has died; reports() will say so
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()

    def reports(self, timeout_s: float) -> list[list[Any]]:
        """Return its reports, after waiting up to timeout_s for one; ["gone"] if it has exited."""
        found: list[list[Any]] = []
        assert self._process.stdout
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, 1 << 16)
            *lines, self._unfinished[key.fd] = (self._unfinished[key.fd] + data).split(b"\n")
            if key.fd == self._process.stdout.fileno():
                found += [json.loads(line) for line in lines]
                if not data:
                    found.append(["gone"])
            else:
                self.messages.extend(text for line in lines if (text := log_message(line.decode(errors="replace"))))
                self._unfinished[key.fd] = self._unfinished[key.fd][-1000:]
            if not data:
                self._selector.unregister(key.fd)
        return found

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the process and wait a second for its end."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may hold it for any time
            self._process.wait(1.0)

    def close(self) -> None:
        """Close the pipes and the slot."""
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        self.slot.close()


def log_message(line: str) -> str:
    """Return a log line of FFmpeg, GStreamer or OpenCV without its place in their code; "" if it says nothing useful."""
    if re.search(
        "backend is generally available|Stream timeout triggered|unable to start pipeline|CRITICAL|GenTL producer does not",
        line,
    ):
        return ""
    # GStreamer logs the cause first; later lines only say that there is no pipeline.
    found = re.search(r"(?:reported|[Ee]rror opening bin): (.*)", line)
    if not found and "GStreamer" in line:
        return ""
    return found[1].strip() if found else re.sub(r"^\[[^\]]*\]\s*(global \S+ \w+ )?", "", line).strip()
