"""Work done ahead of its use by threads, its results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(pool: ThreadPoolExecutor, ahead: int, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield do(item) for each item in order, computed by a pool's threads.

    Args:
        pool: its threads compute.
        ahead: number of items that are computed before their results are used.
        do: the function.
        items: its arguments.

    When one fails, those that wait are cancelled and the error is raised.
    """
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
