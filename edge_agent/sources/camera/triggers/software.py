"""Software triggers of a camera, on their way from the agent's messages to what fires them, and from there to the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

SOFTWARE = "Software"  # the trigger source that is fired by a command


@dataclass(slots=True)
class SoftwareTriggers:
    """requested: numbers of triggers to fire, from 1. answered: of the trigger that the last picture answers; 0: of none."""

    requested: SimpleQueue[int] = field(default_factory=SimpleQueue)
    answered: int = 0

    def clear(self) -> None:
        """Forget requests that came before the camera was open."""
        while True:
            try:
                self.requested.get_nowait()
            except Empty:
                break
        self.answered = 0
