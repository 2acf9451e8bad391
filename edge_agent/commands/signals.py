"""Signals as events: Ctrl-C and SIGTERM to stop, SIGHUP to read the configuration again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the work ends in good order."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def reloaded_by_hangups() -> Iterator[threading.Event]:
    """An event that SIGHUP sets; but when it came because our terminal was closed, it is as good as SIGTERM."""
    reload = threading.Event()
    has_terminal = os.isatty(0)

    def hung_up(*_: object) -> None:
        if has_terminal and not os.isatty(0):
            signal.raise_signal(signal.SIGTERM)
        else:
            reload.set()

    before = signal.signal(signal.SIGHUP, hung_up)
    try:
        yield reload
    finally:
        signal.signal(signal.SIGHUP, before)
