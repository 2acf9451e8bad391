"""The newest picture of a camera, in memory shared by the process that captures it and the agent.

The memory has no name, so that none can be left behind. A POSIX record lock guards it: the kernel releases the lock of a
process that dies, and locking orders the memory accesses of both. A writer that is killed while it writes leaves the slot
empty; one that is stopped there keeps the lock, and the reader gets nothing until the writer is killed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace

import numpy as np

_HEADER = struct.Struct("=11q2d")
_PIXELS_AT = 4096
_LOCK_TIMEOUT_S = 0.05  # copying a picture takes some milliseconds


@dataclass(slots=True)
class State:
    """What was captured since the writing process started.

    captured: pictures from the camera. published: of them, put into the slot. Dropped, by reason: not_due (not needed for
    the rate), stale (had waited in network buffers), unreadable, repeated (seen before, while the camera counts as frozen).
    frozen: 1 while it does. at: when the last one came, in seconds of time.monotonic(), which all processes share. Of the
    picture in the slot: height and width, 0 if there is none; taken_at, on the same clock; taken_ns, in ns since 1970; trigger,
    the number of the software trigger that it answers, or 0.
    """

    captured: int = 0
    published: int = 0
    not_due: int = 0
    stale: int = 0
    unreadable: int = 0
    repeated: int = 0
    frozen: int = 0
    height: int = 0
    width: int = 0
    taken_ns: int = 0
    trigger: int = 0
    taken_at: float = 0.0
    at: float = 0.0


class Slot:
    """A slot for one picture. The reader creates it; the writer gets its file descriptor. Use each from one thread."""

    def __init__(self, fd: int | None = None) -> None:
        """Open a slot. fd: of one that the other process created; None creates a new one."""
        self.fd = os.memfd_create("edge-agent-camera") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, _PIXELS_AT)
            os.pwrite(self.fd, _HEADER.pack(*astuple(State())), 0)
        self._memory = mmap.mmap(self.fd, _PIXELS_AT)

    def write(self, state: State, pixels: np.ndarray | None = None) -> None:
        """Write the state, and replace the picture by `pixels`, (H, W, 3) uint8, unless None."""
        with self._lock():
            if pixels is not None:
                needed = _PIXELS_AT + pixels.nbytes
                if os.fstat(self.fd).st_size < needed:  # never made smaller: the reader may have it mapped
                    os.ftruncate(self.fd, needed)
                self._map(needed)
                before = State(*_HEADER.unpack_from(self._memory))
                _HEADER.pack_into(self._memory, 0, *astuple(replace(before, height=0, width=0)))
                np.frombuffer(self._memory, np.uint8, pixels.nbytes, _PIXELS_AT)[:] = pixels.reshape(-1)
            _HEADER.pack_into(self._memory, 0, *astuple(state))

    def read(self, *, pixels: bool = True) -> tuple[State, np.ndarray | None] | None:
        """Return the state and a copy of the picture, if there is one and `pixels`; None if the writer holds the lock."""
        try:
            with self._lock(_LOCK_TIMEOUT_S):
                state = State(*_HEADER.unpack_from(self._memory))
                size = state.height * state.width * 3
                if not pixels or not size:
                    return state, None
                self._map(_PIXELS_AT + size)
                copy = np.frombuffer(self._memory, np.uint8, size, _PIXELS_AT).copy()
        except BlockingIOError:
            return None
        return state, copy.reshape(state.height, state.width, 3)

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()
        os.close(self.fd)

    def _map(self, size: int) -> None:
        if len(self._memory) < size:
            self._memory.close()
            self._memory = mmap.mmap(self.fd, size)

    @contextmanager
    def _lock(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock. timeout_s: raise BlockingIOError after it; None waits, as the reader never stops while it holds it."""
        if timeout_s is None:
            fcntl.lockf(self.fd, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.001)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
