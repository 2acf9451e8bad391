"""Keeps one camera captured by a process of its own: starts it, has it open the camera again, kills it when it hangs.

Whatever happens to the camera is told once when it begins and once when it is over; nothing here raises for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.io.backoff import Backoff
from edge_agent.sources.camera.address import in_pipeline
from edge_agent.sources.camera.settings import FROZEN, Settings
from edge_agent.sources.camera.slot import Slot, State

log = logging.getLogger(__name__)

START_S = 30.0  # a process that has not begun by then is killed; on a busy machine Python takes its time
RETRY = Backoff(0.25, 2.0)  # between attempts
STEADY_S = 5.0  # a camera that gave pictures for so long is tried again soon
# A camera that was connected to amid its return may never answer that connection, but does the next. So, once it is known
# how quickly it opens, attempts are cut short, and but one in three may take as long as the first.
QUICK_S, QUICK_TIMES, PATIENT_EVERY = 2.5, 3.0, 3
DONE_IN_CHILD = ("not_due", "stale", "unreadable", "repeated")  # what State counts as dropped

# In the isolated mode nothing of the working directory is imported; what this process imports from, the other does too.
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.readline());"
    "from edge_agent.sources.camera.child import main; main()"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start: captured = given + dropped, all reasons together, in every one of these that is ever seen.

    Dropped as superseded: a newer one came before it was taken. attempts: to open the camera. losses: of a camera that
    had given pictures. kills: of processes that hung.
    """

    captured: int = 0
    given: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    attempts: int = 0
    losses: int = 0
    kills: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture, (H, W, 3) uint8 RGB. at: seconds of time.monotonic(); taken_at: UTC, aware."""

    pixels: np.ndarray
    at: float
    taken_at: datetime


class Capture:
    """One camera from construction to close(); for one thread, which has to call wait() again and again.

    trouble: why there are no pictures at present, and None when there are. ended: a video was played to its end.
    failures: attempts that failed, in a row. opened: width, height and pictures a second, as the camera said last.
    """

    def __init__(
        self,
        station: str,
        shown: str,
        settings: Settings,
        *,
        address: Callable[[], str],
        secret: Callable[[], str | None] = lambda: None,
        timeout_s: float = 3.0,
    ) -> None:
        """shown: the camera's name in messages, free of secrets. address: what to open, asked for at every attempt, and
        secret: the password in it; both may raise EdgeAgentError. timeout_s: without a picture for so long, it is lost.
        """
        self._station, self._shown, self._settings = station, shown, settings
        self._address, self._secret, self._timeout_s = address, secret, timeout_s
        self.counts = Counts()
        self.trouble: str | None = "is not open yet"
        self.ended = False
        self.opened: tuple[int, int, float] | None = None
        self._told: set[str] = set()  # of the trouble that is not over yet
        self._lost_at: float | None = None  # since it was lost, or could not be opened in the first place
        self._well_since = 0.0  # 0: it has never been
        self.failures = 0
        self._tries = 0  # attempts since it was lost
        self._opens_s: float | None = None  # how long it took at its quickest
        self._granted_s = settings.open_timeout_s  # to the attempt under way
        self._child: _Child | None = None
        self._settled = State()  # what of the child's state is in the counts
        self._open_at = self._since = time.monotonic()
        self._phase = "idle"  # starting, idle (until _open_at), opening or open, since _since

    def wait(self, timeout_s: float) -> None:
        """Heed what happens, for up to timeout_s or until there may be a picture, and do what is due."""
        if self.ended:
            time.sleep(timeout_s)
            return
        if self._child is None:
            pause = self._open_at - time.monotonic()
            if pause > 0:
                time.sleep(min(pause, timeout_s))
                return
            try:
                self._child = _Child(self._settings)
            except OSError as error:
                self._failed(f"cannot be captured: no process can be started ({error.strerror})")
                return
            self._enter("starting")
        for report in self._child.reports(timeout_s):
            self._heed(*report)
        if self._phase == "idle" and time.monotonic() >= self._open_at and not self.ended:
            self._open()
        self._look_after()

    def take(self, not_before: float = 0.0, reason: str = "superseded") -> Shot | None:
        """The newest picture, if it was not taken before, and not before this moment of time.monotonic().

        reason: what those are dropped for that this passes over.
        """
        seen = self._child.slot.read() if self._child and self._phase == "open" else None
        if seen is None:
            return None
        state, pixels = seen
        if pixels is None or state.published == self._settled.published or state.taken_at < not_before:
            self._settle(state, reason)
            return None
        self._settle(state, reason, given=1)
        return Shot(pixels, state.taken_at, datetime.fromtimestamp(state.taken_ns / 1e9, timezone.utc))

    def skip(self, reason: str) -> None:
        """Drop the pictures that there are."""
        seen = self._child.slot.read(pixels=False) if self._child else None
        if seen is not None:
            self._settle(seen[0], reason)

    def close(self) -> None:
        """End the process; what it has captured and nobody has taken is dropped."""
        self._end_child("stopping")

    def _enter(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _heed(self, kind: str, *what: Any) -> None:
        if kind == "ready":
            self._enter("idle")
        elif kind == "opened":
            self.opened = what[0], what[1], what[2]
            took_s = time.monotonic() - self._since
            self._opens_s = took_s if self._opens_s is None else min(took_s, self._opens_s)
            self._enter("open")
        elif kind == "lost":
            assert self._child
            self._failed(_in_words(what[0], self._child.said))
        elif kind == "ended":
            self.ended = True
            self.trouble = "has ended"
            log.info("station %s: %s has been played to its end", self._station, self._shown)
        elif kind == "gone":
            assert self._child
            said = self._child.said
            self._end_child("superseded")
            self._failed(f"cannot be captured, the process for it died: {said[-1] if said else 'no reason given'}")

    def _open(self) -> None:
        assert self._child
        try:
            address = self._address()
        except EdgeAgentError as error:
            self._failed(str(error))
            return
        self.counts = replace(self.counts, attempts=self.counts.attempts + 1)
        self._tries += 1
        self._granted_s = self._settings.open_timeout_s
        if self._opens_s is not None and self._tries % PATIENT_EVERY:
            self._granted_s = min(self._granted_s, max(QUICK_S, QUICK_TIMES * self._opens_s))
        self._child.open(address, self._granted_s)
        self._enter("opening")

    def _look_after(self) -> None:
        """See whether the child still does what it should, and whether the camera does."""
        if self._child is None or self._phase == "idle":
            return
        now = time.monotonic()
        if self._phase == "open":
            seen = self._child.slot.read(pixels=False)
            if seen is None:  # the child has stopped amid a picture
                last = self._since
            else:
                state = seen[0]
                last = self._since = max(self._since, state.at)
                if state.published > self._settled.published:
                    self._is_well()
                elif state.frozen:
                    self._tell(FROZEN)
            slow_s = 3.0 / self.opened[2] if self._settings.is_video and self.opened and self.opened[2] else 0.0
            if now - last > max(self._timeout_s, slow_s):
                self._kill(f"has given no picture for {self._timeout_s:g} s")
        elif self._phase == "opening" and now - self._since > self._granted_s + 2.0:
            self._kill(f"has not answered within {self._granted_s:.3g} s")
        elif self._phase == "starting" and now - self._since > START_S:
            self._kill(f"cannot be captured: no process for it within {START_S:g} s")

    def _kill(self, why: str) -> None:
        self.counts = replace(self.counts, kills=self.counts.kills + 1)
        self._end_child("superseded")
        self._failed(why)

    def _failed(self, why: str) -> None:
        """Note a failure, and when to try again."""
        self.skip("superseded")  # what is older than a loss is not to be taken after it
        now = time.monotonic()
        steady = self._phase == "open" and self._lost_at is None and now - self._well_since > STEADY_S
        self.failures = 0 if steady else self.failures + 1
        spent_s = now - self._since if self._phase == "opening" else 0.0
        self._open_at = now + RETRY.pause_s(self.failures, spent_s)
        self._enter("idle")
        self._tell(why)

    def _tell(self, why: str) -> None:
        """Log a trouble when it begins, and another cause of it when that is known."""
        try:
            secret = self._secret()
        except EdgeAgentError:
            secret = None
        why = _masked(why, secret)
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            if self._well_since:
                self.counts = replace(self.counts, losses=self.counts.losses + 1)
        self.trouble = why
        if why not in self._told:
            level = logging.INFO if self._told else logging.WARNING
            log.log(level, "station %s: %s %s; trying again until it is well", self._station, self._shown, why)
            self._told.add(why)

    def _is_well(self) -> None:
        if self.trouble is None:
            return
        self.trouble = None
        self._well_since = time.monotonic()
        width, height, fps = self.opened or (0, 0, 0.0)
        size = f"{width} x {height}, {fps:.4g} pictures a second"
        if self._lost_at is None:
            log.info("station %s: %s is open: %s", self._station, self._shown, size)
        else:
            away_s = self._well_since - self._lost_at
            log.warning("station %s: %s is well after %.1f s: %s", self._station, self._shown, away_s, size)
        self._lost_at = None
        self._tries = 0
        self._told.clear()

    def _end_child(self, reason: str) -> None:
        if self._child:
            self._child.kill()
            self.skip(reason)
            self._child.close()
        self._child, self._settled = None, State()

    def _settle(self, state: State, reason: str, given: int = 0) -> None:
        """Count what has happened since the last call; of what was published, `given` are given, the rest dropped."""
        before, counts = self._settled, self.counts
        dropped = {name: getattr(state, name) - getattr(before, name) for name in DONE_IN_CHILD}
        dropped[reason] = state.published - before.published - given
        total = {name: counts.dropped.get(name, 0) + dropped.get(name, 0) for name in {**counts.dropped, **dropped}}
        self._settled = state
        self.counts = replace(
            counts,
            captured=counts.captured + state.captured - before.captured,
            given=counts.given + given,
            dropped={name: count for name, count in total.items() if count},
        )


class _Child:
    """A process that runs child.py. said: the last lines of its standard error."""

    def __init__(self, settings: Settings) -> None:
        self.slot = Slot()
        self.said: deque[str] = deque(maxlen=5)
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
        self.said.clear()
        self._send([address, timeout_s])

    def _send(self, what: object) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # that it is gone will be read
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()

    def reports(self, timeout_s: float) -> list[list[Any]]:
        """What it reports, waiting up to timeout_s for something; ["gone"] when it has ended."""
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
                self.said.extend(text for line in lines if (text := _essence(line.decode(errors="replace"))))
                self._unfinished[key.fd] = self._unfinished[key.fd][-1000:]
            if not data:
                self._selector.unregister(key.fd)
        return found

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may hold it for as long as it likes
            self._process.wait(1.0)

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        self.slot.close()


def _essence(line: str) -> str:
    """A line of what FFmpeg, GStreamer and OpenCV log without where in their code it comes from; "" for empty talk."""
    if re.search("backend is generally available|Stream timeout triggered|unable to start pipeline|CRITICAL", line):
        return ""
    # GStreamer's cause comes first; what it says after that is that there is no pipeline.
    told = re.search(r"(?:reported|[Ee]rror opening bin): (.*)", line)
    if not told and "GStreamer" in line:
        return ""
    return told[1].strip() if told else re.sub(r"^\[[^\]]*\]\s*(global \S+ \w+ )?", "", line).strip()


_REMEDIES = {
    "401": "give its user in the address, and its password as password:",
    "Unauthorized": "give its user as user-id=USER and its password as user-pw={password}, and password:",
    "403": "its user may not watch this: allow it in the camera's settings",
    "404": "the camera has no such stream: correct the path in the address",
    "No such file or directory": "is it plugged in, and the path right?",
    "Permission denied": "let the agent read it: for /dev/video* by the group video",
    "Device or resource busy": "another program uses it: stop that one",
}


def _in_words(why: str, said: deque[str]) -> str:
    """Why the camera was lost, with what the libraries said of it, and what to do."""
    why = f"{why} ({said[0]})" if said else why
    return next((f"{why}: {remedy}" for text, remedy in _REMEDIES.items() if text in why), why)


def _masked(text: str, secret: str | None) -> str:
    """Without the password, as it is and as it stands in a URL or a pipeline."""
    if secret:
        for hidden in (secret, quote(secret, safe=""), in_pipeline(secret)):
            text = text.replace(hidden, "***")
    return re.sub(r"://[^/@\s]*@", "://***@", text)
