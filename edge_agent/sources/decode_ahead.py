"""Decodes pictures ahead in other processes (decode_child.py), and yields them in order.

The number of waiting pictures and their bytes are bounded. A process that dies while it decodes a picture is restarted and
tries the picture once more; if it dies again, that picture counts as undecodable, and the others are not affected.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from threading import Event
from typing import TypeVar

import numpy as np

from edge_agent.errors import PictureError
from edge_agent.io import pictures
from edge_agent.sources.decode_child import MOST_BYTES

T = TypeVar("T")

MOST_AHEAD = 16  # pictures: two batches
MOST_AHEAD_BYTES = 1 << 28  # of pixels, assuming that the next pictures are as large as the last one
MOST_WORKERS = 8
FEWEST_PICTURES = 200  # for fewer, starting processes takes longer than it saves
TICK_S = 0.1  # how soon a stop is noticed while waiting for a picture
PATIENCE_S = 2.0  # for a process to exit by itself

Decoded = np.ndarray | PictureError


def sensible_workers(count: int) -> int:
    """Return how many processes should decode `count` pictures on this machine; 0: decode in the calling process."""
    return min(max(1, len(os.sched_getaffinity(0)) // 2), MOST_WORKERS) if count >= FEWEST_PICTURES else 0


def decoded(
    items: Iterable[tuple[T, str | None]], workers: int, stop: Event, *, max_megapixels: float, bit_depth: int | None
) -> Iterator[tuple[T, Decoded | None]]:
    """Yield each item with the picture at its path, (H, W, 3) uint8 RGB, or with the reason why there is none.

    Args:
        items: an item and its path each, taken ahead of what is yielded; an item without a path gets None.
        workers: number of processes; 0 decodes in this one, each picture when it is due.
        stop: ends the iteration.
        max_megapixels, bit_depth: see pictures.decode.
    """
    if not workers:
        for item, path in items:
            yield item, None if path is None else _decode(path, max_megapixels, bit_depth)
        return
    settings = json.dumps({"max_megapixels": max_megapixels, "bit_depth": bit_depth})
    with ExitStack() as ending:
        children = [_Child(settings) for _ in range(workers)]
        for child in children:
            ending.callback(child.close)
        yield from _in_turns(iter(items), children, stop)


def _in_turns(
    items: Iterator[tuple[T, str | None]], children: list[_Child], stop: Event
) -> Iterator[tuple[T, Decoded | None]]:
    turns = cycle(children)
    waiting: deque[tuple[T, _Child | None]] = deque()
    ahead, at_end = MOST_AHEAD, False
    while True:
        while not at_end and len(waiting) < ahead:
            try:
                item, path = next(items)
            except StopIteration:
                at_end = True
                break
            child = None if path is None else next(turns)
            if child and path is not None:
                child.ask(path)
            waiting.append((item, child))
        if not waiting:
            return
        item, child = waiting.popleft()
        found = child.answer(stop) if child else None
        if stop.is_set():
            return
        if isinstance(found, np.ndarray):
            ahead = max(len(children), min(MOST_AHEAD, MOST_AHEAD_BYTES // found.nbytes))
        yield item, found


class _Child:
    """One decoding process; it answers in the order of the requests."""

    def __init__(self, settings: str) -> None:
        self._settings = settings
        self._asked: deque[str] = deque()
        self._first_failed = False
        self._start()

    def ask(self, path: str) -> None:
        """Request a picture."""
        self._asked.append(path)
        self._send(path)

    def answer(self, stop: Event) -> Decoded | None:
        """Return the answer to the oldest request; None if `stop` is set first."""
        while not stop.is_set():
            if not select.select((self._socket,), (), (), TICK_S)[0]:
                continue
            try:
                message, descriptors, *_ = socket.recv_fds(self._socket, MOST_BYTES, 1)
            except ConnectionResetError:  # it died with requests unread; its answers can still be read
                continue
            if message:
                self._asked.popleft()
                self._first_failed = False
                return _received(message, descriptors)
            if died := self._restart():
                return died
        return None

    def close(self) -> None:
        """End the process, even if it is decoding."""
        self._socket.close()
        try:
            self._process.wait(0.0 if self._asked else PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "edge_agent.sources.decode_child", str(theirs.fileno()), self._settings]
        # A session of its own, so that Ctrl-C reaches this process alone. Each child uses one core.
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()

    def _restart(self) -> PictureError | None:
        """Restart a process that died, and repeat the requests; return the error of the first one if it failed twice."""
        self._socket.close()
        self._process.kill()
        status = self._process.wait()
        died = None
        if self._first_failed:
            died = PictureError(
                f"{pictures.printable(self._asked.popleft())}: the process that decoded it died twice (status {status}), "
                "as when memory runs out: free memory, or lower limits.max_megapixels; store it as png if it is damaged"
            )
        self._first_failed = died is None
        self._start()
        for path in self._asked:
            self._send(path)
        return died

    def _send(self, path: str) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: the next answer() handles that
            self._socket.send(json.dumps(path).encode())


def _received(message: bytes, descriptors: list[int]) -> Decoded:
    height, width, fault = json.loads(message)
    if fault is not None:
        return PictureError(fault)
    try:
        memory = mmap.mmap(descriptors[0], height * width * 3)
    finally:
        os.close(descriptors[0])
    return np.frombuffer(memory, np.uint8).reshape(height, width, 3)


def _decode(path: str, max_megapixels: float, bit_depth: int | None) -> Decoded:
    try:
        return pictures.decode(
            path,
            max_megapixels=max_megapixels,
            bit_depth=bit_depth,
            min_side=pictures.MIN_SIDE,
            refuse_drawings=True,
        )
    except PictureError as error:
        return error
