"""`trainer station` as a process of its own: it makes a station of good parts, and its end is never the page's."""

from __future__ import annotations

import importlib.util
import logging
import re
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from edge_agent.io.files import write_durably
from edge_agent.page.child import KILLED, child, program
from edge_agent.page.configuring.drafts import TABLE, Draft
from edge_agent.page.texts import later

log = logging.getLogger(__name__)

NEEDS = ("trainer", "sklearn", "scipy", "jinja2")  # to import them would take seconds, and the page needs none
MOST_LINES = 200
ROW = re.compile(r"(.*\S) {2,}(\d[\d.]*) {2,}(\d[\d.]*) {2,}(\d[\d.]*)")
STOPPED = later("It was stopped. No station was written.")
# It ends when the page does, whatever ends that; trainer then leaves nothing half-written. What inspects goes first.
PROGRAM = program("from trainer.cli import main\nsys.exit(main())\n")


@dataclass(slots=True)
class Trial:
    """One run.

    said: its last line of progress or error. code: its exit code; None while it runs. is_stopped: somebody wants it to end.
    """

    name: str
    begun: float = field(default_factory=time.monotonic)
    said: str = ""
    code: int | None = None
    seconds: int = 0
    is_stopped: bool = False
    process: subprocess.Popen[str] | None = None

    @property
    def runs(self) -> bool:
        """Return whether it has not ended."""
        return self.code is None


class Trials:
    """Runs one trial at a time, and remembers the last one of each draft. Thread-safe."""

    def __init__(self) -> None:
        """Run nothing yet."""
        self._lock, self._last = threading.Lock(), dict[str, Trial]()

    def of(self, name: str) -> Trial | None:
        """Return the last trial of a draft; None without one since the page was started."""
        with self._lock:
            found = self._last.get(name)
            if found is not None and found.runs:
                found.seconds = int(time.monotonic() - found.begun)
            return found

    def start(self, draft: Draft) -> bool:
        """Start one; return False where one of any draft runs already."""
        with self._lock:
            if any(one.runs for one in self._last.values()):
                return False
            self._last[draft.name] = trial = Trial(draft.name)
        # The process ends with the thread that started it: so that is the one that waits for its end.
        threading.Thread(target=self._run, args=(trial, draft), name="trial", daemon=True).start()
        return True

    def stop(self, name: str) -> None:
        """Interrupt the trial of a draft, if it runs."""
        with self._lock:
            found = self._last.get(name)
            if found is not None and found.runs:
                found.is_stopped = True
                if found.process is not None:
                    found.process.send_signal(signal.SIGINT)

    def forget(self, name: str) -> None:
        """Interrupt the trial of a draft, and remember nothing of it."""
        self.stop(name)
        with self._lock:
            self._last.pop(name, None)

    def _run(self, trial: Trial, draft: Draft) -> None:
        arguments = ["station", "--good", draft.good, "--name", draft.name, "--out", draft.station]
        arguments += [f"--class-name={draft.class_name}"]
        log.info("page: trainer station of %s begins, from %d good parts", draft.name, len(draft.parts))
        table: deque[str] = deque(maxlen=MOST_LINES)
        (draft.folder / TABLE).unlink(missing_ok=True)
        try:
            with child(PROGRAM, *arguments, stderr=subprocess.PIPE) as process:
                with self._lock:
                    trial.process = process
                    if trial.is_stopped:
                        process.send_signal(signal.SIGINT)
                errors = threading.Thread(target=self._read_errors, args=(trial, process), daemon=True)
                errors.start()
                assert process.stdout is not None
                for line in process.stdout:
                    table.append(line)
                errors.join()
                code = process.wait()
            if code == 0:
                write_durably(draft.folder / TABLE, "".join(table).encode())
        except OSError as error:
            trial.said, code = f"{draft.folder}: {error.strerror}", 1
        if trial.is_stopped and code:
            trial.said = STOPPED
        elif code == -signal.SIGKILL:
            trial.said = KILLED
        log.info("page: trainer station of %s has ended: %s", draft.name, code)
        trial.seconds = int(time.monotonic() - trial.begun)
        trial.code = code

    def _read_errors(self, trial: Trial, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip():
                trial.said = line.strip()[-500:]


def table_of(text: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return what `trainer station` printed as rows of a table, without its head, and the sentences below it.

    A row is what was tried, of 100 good parts rejected, of 100 defects missed, and pictures a second.
    """
    table, _, notes = text.partition("\n\n")
    rows = [found.groups() for line in table.splitlines() if (found := ROW.fullmatch(line))]
    return rows, [line for line in notes.splitlines() if line.strip()]


def missing_packages() -> list[str]:
    """Return what `trainer station` needs and this Python does not have."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]
