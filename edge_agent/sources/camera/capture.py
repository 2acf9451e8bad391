"""Captures one camera in a process of its own: starts it, has it open the camera again, kills it when it hangs.

A problem with the camera is logged once when it starts and once when it is over; it never raises an exception.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.io.backoff import Backoff
from edge_agent.sources.camera.address import in_pipeline
from edge_agent.sources.camera.process import CaptureProcess
from edge_agent.sources.camera.settings import FROZEN, Settings
from edge_agent.sources.camera.slot import State

log = logging.getLogger(__name__)

START_S = 30.0  # a process that is not ready by then is killed; on a busy machine Python starts slowly
RETRY = Backoff(0.25, 2.0)  # between attempts
STEADY_S = 5.0  # a camera that gave pictures for so long is opened again soon
# A camera that is still starting may never answer a connection, but answers the next one. So, once it is known how fast it
# opens, attempts have a short limit; one in three may take as long as the first.
QUICK_S, QUICK_TIMES, PATIENT_EVERY = 2.5, 3.0, 3
DROPPED_IN_CHILD = ("not_due", "stale", "unreadable", "repeated")  # the reasons that State counts


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """Counts since the start. captured = given + dropped (all reasons) in every instance.

    dropped: by reason; "superseded" by a newer picture before it was taken. attempts: to open the camera. losses: of a
    camera that had given pictures. kills: of processes that hung.
    """

    captured: int = 0
    given: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    attempts: int = 0
    losses: int = 0
    kills: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CapturedPicture:
    """A picture, (H, W, 3) uint8 RGB. at: seconds of time.monotonic(). taken_at: UTC, aware."""

    pixels: np.ndarray
    at: float
    taken_at: datetime


class Capture:
    """One camera from construction to close(); for one thread, which has to call wait() repeatedly.

    problem: why there are no pictures now; None while there are. ended: whether a video was played to its end. failures:
    failed attempts in a row. opened: width, height and pictures a second as the camera last reported; None before.
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
        """Set up; the process is started by the first wait().

        Args:
            station: name of the station, for messages.
            shown: name of the camera in messages, without secrets.
            settings: how to capture.
            address: returns what to open, with the password; called for every attempt. May raise EdgeAgentError.
            secret: returns the password, to be masked in messages. May raise EdgeAgentError.
            timeout_s: seconds without a picture after which the camera counts as lost.
        """
        self._station, self._shown, self._settings = station, shown, settings
        self._address, self._secret, self._timeout_s = address, secret, timeout_s
        self.counts = CaptureCounts()
        self.problem: str | None = "is not open yet"
        self.ended = False
        self.opened: tuple[int, int, float] | None = None
        self._reported: set[str] = set()  # the causes logged since it was lost
        self._lost_at: float | None = None  # when it was lost, or first could not be opened
        self._working_since = 0.0  # 0: it has never worked
        self.failures = 0
        self._tries = 0  # attempts since it was lost
        self._triggers = 0  # software triggers so far
        self._fastest_s: float | None = None  # the shortest time that opening took
        self._limit_s = settings.open_timeout_s  # of the present attempt
        self._child: CaptureProcess | None = None
        self._counted = State()  # the child's state that the counts include
        self._open_at = self._since = time.monotonic()
        self._phase = "idle"  # starting, idle (until _open_at), opening or open, since _since

    def wait(self, timeout_s: float) -> None:
        """Handle events and do what is due; return after timeout_s, or once there may be a picture."""
        if self.ended:
            time.sleep(timeout_s)
            return
        if self._child is None:
            pause = self._open_at - time.monotonic()
            if pause > 0:
                time.sleep(min(pause, timeout_s))
                return
            try:
                self._child = CaptureProcess(self._settings)
            except OSError as error:
                self._failed(f"cannot be captured: no process can be started ({error.strerror})")
                return
            self._enter("starting")
        for report in self._child.reports(timeout_s):
            self._handle(*report)
        if self._phase == "idle" and time.monotonic() >= self._open_at and not self.ended:
            self._open()
        self._check()

    def trigger(self) -> int | None:
        """Fire a software trigger; return its number, or None if the camera is not open."""
        if self._child is None or self._phase != "open":
            return None
        self._triggers += 1
        self._child.trigger(self._triggers)
        return self._triggers

    def take(
        self, not_before: float = 0.0, reason: str = "superseded", trigger: int | None = None
    ) -> CapturedPicture | None:
        """Return the newest picture, unless it was returned before.

        Args:
            not_before: a picture that is older is dropped; time.monotonic().
            reason: for which the pictures that are passed over are dropped.
            trigger: the number of the software trigger that the picture must answer; None: any picture will do.
        """
        seen = self._child.slot.read() if self._child and self._phase == "open" else None
        if seen is None:
            return None
        state, pixels = seen
        other = trigger is not None and state.trigger != trigger
        if pixels is None or state.published == self._counted.published or state.taken_at < not_before or other:
            self._count(state, reason)
            return None
        self._count(state, reason, given=1)
        return CapturedPicture(pixels, state.taken_at, datetime.fromtimestamp(state.taken_ns / 1e9, timezone.utc))

    def skip(self, reason: str) -> None:
        """Drop the pictures that are there. reason: see take()."""
        seen = self._child.slot.read(pixels=False) if self._child else None
        if seen is not None:
            self._count(seen[0], reason)

    def close(self) -> None:
        """End the process; pictures that were not taken are dropped."""
        self._end_child("stopping")

    def _enter(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _handle(self, kind: str, *what: Any) -> None:
        if kind == "ready":
            self._enter("idle")
        elif kind == "opened":
            self.opened = what[0], what[1], what[2]
            took_s = time.monotonic() - self._since
            self._fastest_s = took_s if self._fastest_s is None else min(took_s, self._fastest_s)
            self._enter("open")
            if self._settings.trigger_source is not None:  # it may be long until something triggers it
                self._note_recovery()
        elif kind == "lost":
            assert self._child
            # What a GenTL producer prints while it loads is not why the camera was lost, which genicam/ says in full.
            messages = deque[str]() if self._settings.backend == "genicam" else self._child.messages
            self._failed(_explained(what[0], messages))
        elif kind == "ended":
            self.ended = True
            self.problem = "has ended"
            log.info("station %s: %s has been played to its end", self._station, self._shown)
        elif kind == "gone":
            assert self._child
            messages = self._child.messages
            self._end_child("superseded")
            self._failed(
                f"cannot be captured, the process for it died: {messages[-1] if messages else 'no reason given'}"
            )

    def _open(self) -> None:
        assert self._child
        try:
            address = self._address()
        except EdgeAgentError as error:
            self._failed(str(error))
            return
        self.counts = replace(self.counts, attempts=self.counts.attempts + 1)
        self._tries += 1
        self._limit_s = self._settings.open_timeout_s
        if self._fastest_s is not None and self._tries % PATIENT_EVERY:
            self._limit_s = min(self._limit_s, max(QUICK_S, QUICK_TIMES * self._fastest_s))
        self._child.open(address, self._limit_s)
        self._enter("opening")

    def _check(self) -> None:
        """Check whether the child and the camera still work."""
        if self._child is None or self._phase == "idle":
            return
        now = time.monotonic()
        if self._phase == "open":
            seen = self._child.slot.read(pixels=False)
            if seen is None:  # the child has stopped while it writes a picture
                last = self._since
            else:
                state = seen[0]
                last = self._since = max(self._since, state.at)
                if state.published > self._counted.published:
                    self._note_recovery()
                elif state.frozen:
                    self._report(FROZEN)
            slow_s = 3.0 / self.opened[2] if self._settings.is_video and self.opened and self.opened[2] else 0.0
            if now - last > max(self._timeout_s, slow_s):
                self._kill(f"has given no picture for {self._timeout_s:g} s")
        elif self._phase == "opening" and now - self._since > self._limit_s + 2.0:
            self._kill(f"has not answered within {self._limit_s:.3g} s")
        elif self._phase == "starting" and now - self._since > START_S:
            self._kill(f"cannot be captured: no process for it within {START_S:g} s")

    def _kill(self, why: str) -> None:
        self.counts = replace(self.counts, kills=self.counts.kills + 1)
        self._end_child("superseded")
        self._failed(why)

    def _failed(self, why: str) -> None:
        """Note a failure, and choose when to try again."""
        self.skip("superseded")  # a picture from before a loss must not be taken after it
        now = time.monotonic()
        steady = self._phase == "open" and self._lost_at is None and now - self._working_since > STEADY_S
        self.failures = 0 if steady else self.failures + 1
        spent_s = now - self._since if self._phase == "opening" else 0.0
        self._open_at = now + RETRY.pause_s(self.failures, spent_s)
        self._enter("idle")
        self._report(why)

    def _report(self, why: str) -> None:
        """Log a problem when it starts, and each further cause of it once."""
        try:
            secret = self._secret()
        except EdgeAgentError:
            secret = None
        why = _masked(why, secret)
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            if self._working_since:
                self.counts = replace(self.counts, losses=self.counts.losses + 1)
        self.problem = why
        if why not in self._reported:
            level = logging.INFO if self._reported else logging.WARNING
            log.log(level, "station %s: %s %s; trying again until it works", self._station, self._shown, why)
            self._reported.add(why)

    def _note_recovery(self) -> None:
        """Log that the camera gives pictures, if it did not before."""
        if self.problem is None:
            return
        self.problem = None
        self._working_since = time.monotonic()
        width, height, fps = self.opened or (0, 0, 0.0)
        size = f"{width} x {height}{f', {fps:.4g} pictures a second' if fps else ''}"
        if self._lost_at is None:
            log.info("station %s: %s is open: %s", self._station, self._shown, size)
        else:
            away_s = self._working_since - self._lost_at
            log.warning(
                "station %s: %s gives pictures again after %.1f s: %s", self._station, self._shown, away_s, size
            )
        self._lost_at = None
        self._tries = 0
        self._reported.clear()

    def _end_child(self, reason: str) -> None:
        if self._child:
            self._child.kill()
            self.skip(reason)
            self._child.close()
        self._child, self._counted = None, State()

    def _count(self, state: State, reason: str, given: int = 0) -> None:
        """Count what happened since the last call.

        Args:
            state: the child's state.
            reason: for which pictures that were published, but not given, are dropped.
            given: how many of them are given.
        """
        before, counts = self._counted, self.counts
        dropped = {name: getattr(state, name) - getattr(before, name) for name in DROPPED_IN_CHILD}
        dropped[reason] = state.published - before.published - given
        total = {name: counts.dropped.get(name, 0) + dropped.get(name, 0) for name in {**counts.dropped, **dropped}}
        self._counted = state
        self.counts = replace(
            counts,
            captured=counts.captured + state.captured - before.captured,
            given=counts.given + given,
            dropped={name: count for name, count in total.items() if count},
        )


_REMEDIES = {
    "401": "give its user in the address, and its password as password:, or correct them",
    "Unauthorized": "give its user as user-id=USER and its password as user-pw={password}, and password:",
    "403": "its user may not watch this: allow it in the camera's settings",
    "404": "the camera has no such stream: correct the path in the address",
    "No such file or directory": "is it plugged in, and the path right?",
    "Permission denied": "let the agent read it: for /dev/video* by the group video",
    "Device or resource busy": "another program uses it: stop that one",
}


def _explained(why: str, messages: deque[str]) -> str:
    """Return why the camera was lost, with the libraries' message and a remedy."""
    why = f"{why} ({messages[0]})" if messages else why
    return next((f"{why}: {remedy}" for text, remedy in _REMEDIES.items() if text in why), why)


def _masked(text: str, secret: str | None) -> str:
    """Return the text without the password, in plain form and as quoted in a URL or a pipeline."""
    if secret:
        for hidden in (secret, quote(secret, safe=""), in_pipeline(secret)):
            text = text.replace(hidden, "***")
    return re.sub(r"://[^/@\s]*@", "://***@", text)
