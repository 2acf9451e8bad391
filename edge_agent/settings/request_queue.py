"""Requests for pictures of one station that a sink hands to its camera."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue

from edge_agent.core import PictureRequest


class RequestQueue:
    """Requests of one station from any threads, for its camera's. Satisfies core.Triggers."""

    def __init__(self) -> None:
        """Begin without any."""
        self._waiting: SimpleQueue[PictureRequest] = SimpleQueue()

    def put(self, request: PictureRequest) -> None:
        """Add a request behind the others."""
        self._waiting.put(request)

    def requests(self) -> Iterator[PictureRequest]:
        """Yield those that are new; never wait."""
        while True:
            try:
                yield self._waiting.get_nowait()
            except Empty:
                return
