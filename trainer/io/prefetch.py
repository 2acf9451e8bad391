"""Work done ahead by threads, and given in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(pool: ThreadPoolExecutor, ahead: int, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """do(item) of each item in order, by the pool's threads, so many of them ahead; what waits is dropped when one fails."""
    waiting = iter(items)
    running = [pool.submit(do, item) for item in islice(waiting, ahead)]
    try:
        while running:
            done = running.pop(0).result()
            running += [pool.submit(do, item) for item in islice(waiting, 1)]
            yield done
    finally:
        for one in running:
            one.cancel()
