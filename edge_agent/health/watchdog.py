"""Pings systemd while every stage makes progress, and not a moment longer; says what hangs, and where."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from edge_agent.core import AlarmKind, Source, Watched
from edge_agent.health.systemd import Notifier, status_line
from edge_agent.io.names import Lines
from edge_agent.line.heartbeat import PATIENCE_S

log = logging.getLogger(__name__)


class Watchdog:
    """pings: how many were sent. hanging: the stages that are silent for longer than they may be."""

    def __init__(
        self,
        stages: Sequence[Watched],
        notifier: Notifier,
        status: Callable[[], str],
        patience_s: float = PATIENCE_S,
        sources: Sequence[Watched] = (),
    ) -> None:
        """Watch threads by their heartbeats.

        Args:
            stages: the threads.
            notifier: the service manager.
            status: gives the counts in a line for `systemctl status`; must not wait for anything.
            patience_s: seconds that a stage may be silent.
            sources: those of the stages that one station alone depends on.
        """
        self.stages, self._notifier, self._status, self._sources = stages, notifier, status, sources
        for stage in stages:
            stage.patience_s = patience_s
        self._said: set[str] = set()  # stages whose hanging was logged
        self.pings = 0

    @property
    def hanging(self) -> list[Watched]:
        return [stage for stage in self.stages if stage.hangs]

    def health(
        self,
        is_ready: bool,
        sources: Sequence[Source] = (),
        undecided: Mapping[str, int] | None = None,
        not_recording: str | None = None,
        no_evidence: str | None = None,
        sinks_away: Mapping[str, str] | None = None,
        twin: str | None = None,
        alarms: Mapping[str, frozenset[AlarmKind]] | None = None,
    ) -> tuple[bool, dict[str, object]]:
        """Return whether all is well, and what /healthz says. A broker or a camera that is away is no illness of the agent.

        Args:
            is_ready: whether all parts have been started.
            sources: those that can give no pictures now are named, with the reason.
            undecided: by station, how many of its last inspections were NotDecidable; None says nothing of it.
            not_recording: why the journal takes nothing now, so that nothing is inspected; None while it does.
            no_evidence: why no picture can be kept now; None while they can. Inspection goes on without.
            sinks_away: by sink, why its receiver cannot be reached or does not do its part; None says nothing of it.
            twin: what is known of another agent of the same name, which tells receivers other things; None without one.
            alarms: by station, the kinds that stand; None says nothing of them.
        """
        away = {one.station: status.reason for one in sources if not (status := one.status()).up}
        hanging = [stage.name for stage in self.hanging]
        word = "hangs" if hanging else "not recording" if not_recording else "twin" if twin else ""
        word = word or ("ok" if is_ready else "starting")
        silent_s = {stage.name: round(stage.silent_s, 1) for stage in self.stages}
        said: dict[str, object] = {"status": word, "hanging": hanging, "silent_s": silent_s, "counts": self._status()}
        rows = {station: length for station, length in (undecided or {}).items() if length}
        said |= {"sources_away": away, "sinks_away": dict(sinks_away or {}), "not_decidable_in_a_row": rows}
        standing = {station: sorted(kind.value for kind in kinds) for station, kinds in (alarms or {}).items() if kinds}
        said |= {"not_recording": not_recording, "no_evidence": no_evidence, "twin": twin, "alarms": standing}
        return word == "ok", said

    def look(self) -> None:
        """Send a ping and the status, or say what hangs."""
        hanging = self.hanging
        is_lost = self._needs_restart(hanging)
        then = (
            "the service manager gets no more signs of life" if is_lost else "the others go on; check its disk or share"
        )
        for stage in hanging:
            if stage.name not in self._said:
                log.critical(
                    "the %s hangs: silent for %.0f s; %s\n%s", stage.name, stage.silent_s, then, _where(stage.thread_id)
                )
        self._said = {stage.name for stage in hanging}
        said = f"hangs: {', '.join(stage.name for stage in hanging)}"
        if is_lost:
            self._notifier.send(status_line(said))
            return
        self._notifier.send("WATCHDOG=1", status_line(f"{said}; {self._status()}" if hanging else self._status()))
        self.pings += 1

    def _needs_restart(self, hanging: Sequence[Watched]) -> bool:
        """Return whether the agent has to be started again because of these stages.

        Not for some of several sources: they wait for a dead network share, most likely, where a restart would not help
        them, and would stop the other stations again and again.
        """
        alone = [stage for stage in hanging if stage in self._sources]
        return len(alone) < len(hanging) or 0 < len(alone) == len(self._sources)


@contextmanager
def watching(watchdog: Watchdog, every_s: float) -> Iterator[None]:
    """Look every so many seconds, in a thread of its own, from now to the end of the block."""
    over = threading.Event()

    def watch() -> None:
        watchdog.look()
        while not over.wait(every_s):
            watchdog.look()

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)


def _where(thread_id: int | None) -> str:
    """What a thread is doing, as a traceback says it."""
    frame = sys._current_frames().get(thread_id or 0)
    return Lines("".join(traceback.format_stack(frame)).rstrip() if frame else "its thread has ended")
