"""Work that is due by the clock, not by a picture: one thread that runs small tasks, each at its own interval."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.errors import EdgeAgentError
from edge_agent.line.heartbeat import Stage

log = logging.getLogger(__name__)

TICK_S = 0.5  # how often due tasks are looked for
AGAIN_S = 0.05  # pause before a task that has more to do goes on, so that the line can record in between
TASK_S = 300.0  # a task may take so long: the first sweep counts all pictures that are kept


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of periodic work.

    name: for logs and metrics. every_s: seconds between two runs. run: does a part of the work, and returns whether more
    is left, to go on with at once.
    """

    name: str
    every_s: float
    run: Callable[[], bool]


class Periodic:
    """Runs tasks from start() to close(); a task that fails is logged and counted, and the others go on.

    stage: the heartbeat of the thread. failures: how often each task failed, by its name.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self.stage = Stage("periodic")
        self.failures: Counter[str] = Counter({task.name: 0 for task in tasks})
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="periodic", daemon=True)

    def start(self) -> None:
        """Start the thread; every task runs at once for the first time."""
        self._thread.start()

    def close(self) -> None:
        """Let the task that is running finish its part, and end the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = [0.0] * len(self._tasks)  # monotonic seconds
        while not self._closing.is_set():
            self.stage.beat()
            for index, task in enumerate(self._tasks):
                if time.monotonic() >= due[index] and not self._closing.is_set():
                    due[index] = time.monotonic() + (AGAIN_S if self._has_more(task) else task.every_s)
            self._closing.wait(max(AGAIN_S, min(TICK_S, min(due, default=0.0) - time.monotonic())))
        self.stage.rest()

    def _has_more(self, task: Task) -> bool:
        try:
            with self.stage.step(task.name, TASK_S):
                return task.run()
        except Exception as error:
            self.failures[task.name] += 1
            unexpected = None if isinstance(error, EdgeAgentError) else error
            log.error("%s failed (%s); trying again in %.0f s", task.name, error, task.every_s, exc_info=unexpected)
            return False
