"""Corrected banks that are being made or were made, each by a process of its own, one at a time; none is in use."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_agent.config.load import load_config
from edge_agent.config.station import StationConfig
from edge_agent.errors import EdgeAgentError
from edge_agent.journal.labels import Labels
from edge_agent.learn.station_files import station_files
from edge_agent.page.child import KILLED, child, program
from edge_agent.page.texts import later

log = logging.getLogger(__name__)

BANK = "candidate.safetensors"
CHANGED = later("The station looks or judges otherwise than when this was compared: have it made and compared again.")
STOPPED = later("It was stopped. The station is as it was.")
# It ends when the page does, whatever ends that, and leaves nothing half-written. What inspects goes first.
PROGRAM = program("from edge_agent.page.deciding.learner import main\nsys.exit(main(sys.argv[1:]))\n")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A corrected bank of a station, as far as it is there.

    who, begun: has it made, and since when. total, read: pictures to be read, and those that were. made: what it would change,
    as learner.py tells it; None while it is being made, and where that has failed. failed: why; empty if it has not.
    """

    station: str
    who: str
    begun: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    total: int = 0
    read: int = 0
    made: Mapping[str, Any] | None = None
    failed: str = ""

    @property
    def runs(self) -> bool:
        """Return whether it is being made."""
        return self.made is None and not self.failed


class Candidates:
    """The candidates of an agent's stations, at most one of each. Thread-safe."""

    def __init__(self, config: Path, folder: Path) -> None:
        """Begin with none: what an earlier page has left is deleted.

        config: the agent's config.yaml. folder: where banks are until they are used; made when it is needed.
        """
        self._config, self._folder = config, folder
        self._lock, self._held = threading.Lock(), dict[str, Candidate]()
        self._process: subprocess.Popen[str] | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def of(self, station: str) -> Candidate | None:
        """Return the candidate of a station; None if there is none."""
        with self._lock:
            return self._held.get(station)

    def start(self, station: str, who: str) -> bool:
        """Have one made; return False where one of any station is being made.

        Args:
            station: its name.
            who: wants it.
        """
        with self._lock:
            if any(one.runs for one in self._held.values()):
                return False
            self._held[station] = Candidate(station, who)
        # The process ends with the thread that started it: so that is the one that waits for its end.
        threading.Thread(target=self._make, args=(station,), name="learning", daemon=True).start()
        return True

    def stop(self, station: str) -> None:
        """Have one of a station no longer made."""
        with self._lock:
            found = self._held.get(station)
            if found is not None and found.runs:
                self._held[station] = replace(found, failed=STOPPED)
                if self._process is not None:
                    self._process.send_signal(signal.SIGINT)

    def leave(self, station: str) -> None:
        """Forget the candidate of a station."""
        self.stop(station)
        with self._lock:
            self._held.pop(station, None)
        shutil.rmtree(self._folder / station, ignore_errors=True)

    def use(self, candidate: Candidate, labels: Labels) -> Path:
        """Have its station look with a candidate, if it looks and judges as when that was compared; return its file.

        Args:
            candidate: one that was made.
            labels: record which of them it has learnt.

        Raises:
            EdgeAgentError: that cannot be; all is as it was.
        """
        made = candidate.made
        assert made is not None
        station = load_config(self._config).station(candidate.station)
        if digest_of(station) != made["station"]:
            raise EdgeAgentError(CHANGED)
        path = self._folder / candidate.station / BANK
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EdgeAgentError(f"{path}: {error.strerror}: have it made and compared again") from error
        files = station_files(self._config, station)
        files.require_writable()
        file = files.with_corrections(content, station.calibration)
        labels.note_learnt(made["labels"], made["sha256"])
        self.leave(candidate.station)
        return file

    def back(self, station: str, which: str) -> Path:
        """Have a station look with an earlier bank, by the calibration that was made with it; return the bank's file.

        Args:
            station: its name.
            which: name of the bank's file.

        Raises:
            EdgeAgentError: that cannot be; all is as it was.
        """
        files = station_files(self._config, load_config(self._config).station(station))
        files.require_writable()
        return files.back(which)

    def _make(self, station: str) -> None:
        def heard(told: Mapping[str, Any]) -> None:
            with self._lock:
                one = self._held.get(station)
                if one is not None and one.runs:
                    self._held[station] = replace(
                        one,
                        total=told.get("total", one.total),
                        read=one.read + told.get("read", 0),
                        made=told.get("made"),
                        failed=told.get("error", ""),
                    )

        log.info("page: a bank of %s that has learnt is being made", station)
        try:
            self._run(heard, station)
        except OSError as error:
            heard({"error": f"{sys.executable}: {error.strerror}"})

    def _run(self, heard: Callable[[Mapping[str, Any]], object], station: str) -> None:
        """Run the process to its end. heard: gets what it says; where it fails, an error at last."""
        folder = self._folder / station
        with child(PROGRAM, self._config, station, folder) as process:
            with self._lock:
                self._process = process
                found = self._held.get(station)
                if found is None or not found.runs:
                    process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    told = json.loads(line)
                except ValueError:  # of a library
                    continue
                if isinstance(told, dict):
                    heard(told)
            code = process.wait()
        if code == -signal.SIGKILL:
            heard({"error": KILLED})
        elif code:
            heard({"error": "it ended with an error: see the page's log"})


def digest_of(station: StationConfig) -> str:
    """Return what changes when a station looks or judges otherwise."""
    return hashlib.sha256(station.model_dump_json().encode()).hexdigest()
