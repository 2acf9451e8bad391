"""The newest picture of a camera, in memory that the process which captures it and the agent share.

The memory has no name, and so none to be left behind. A POSIX record lock guards it: the kernel takes the lock from a
process that dies, and locking orders what the two processors see. A writer that was killed amid a picture leaves the
slot empty; one that is stopped there keeps the lock, and the reader goes away empty-handed until it is killed.
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

_HEADER = struct.Struct("=10q2d")
_PIXELS_AT = 4096
_PATIENCE_S = 0.05  # copying a picture takes some milliseconds


@dataclass(slots=True)
class State:
    """What has been captured since the writing process began.

    captured: pictures the camera gave. Of them published: put into the slot; and dropped, by reason: not_due (the rate
    asks for fewer), stale (had waited in the network's buffers), unreadable, repeated (seen before, and the camera is
    taken to be frozen). frozen: 1 while it is. at: when the last one came, in seconds of time.monotonic(), which all
    processes share. Of the one in the slot: height and width, 0 while there is none; taken_at, on the same clock, and
    taken_ns, in nanoseconds since 1970.
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
    taken_at: float = 0.0
    at: float = 0.0


class Slot:
    """Made by the reader; the writer is given its file descriptor. Each belongs to one thread."""

    def __init__(self, fd: int | None = None) -> None:
        """fd: of the slot that the other process made; None makes a new one."""
        self.fd = os.memfd_create("edge-agent-camera") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, _PIXELS_AT)
            os.pwrite(self.fd, _HEADER.pack(*astuple(State())), 0)
        self._memory = mmap.mmap(self.fd, _PIXELS_AT)

    def write(self, state: State, pixels: np.ndarray | None = None) -> None:
        """Tell the state, and with `pixels`, (H, W, 3) uint8, put them in the place of what was there."""
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
        """The state and a copy of the picture, if there is one and it is wanted. None while the writer keeps it."""
        try:
            with self._lock(_PATIENCE_S):
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
        self._memory.close()
        os.close(self.fd)

    def _map(self, size: int) -> None:
        if len(self._memory) < size:
            self._memory.close()
            self._memory = mmap.mmap(self.fd, size)

    @contextmanager
    def _lock(self, patience_s: float | None = None) -> Iterator[None]:
        """patience_s: raise BlockingIOError after that long; None waits for ever, as the reader never stops amid it."""
        if patience_s is None:
            fcntl.lockf(self.fd, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + patience_s
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
