"""A batch split over a processor's cores: whole pictures for each thread, where torch would split every operation over all cores.

A small tower has hundreds of operations for each picture, each of them a fraction of a millisecond. Split, they wait for the
slowest core each time, and spin meanwhile; one core that another program uses makes all of them wait.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
MAX_PICTURES = 4  # at once on a thread: the intermediate results of more no longer fit a core's cache


def read_in_threads(read: Callable[[slice], list[T]], count: int, *, large: bool) -> list[T]:
    """Read pictures on as many threads as torch may use here, and return the results in order.

    Args:
        read: reads the pictures of a slice of 0 .. count - 1 on the calling thread.
        count: how many pictures there are.
        large: whether one picture is so much work that cores which would be idle are to help with it.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, count))

    def work(part: slice) -> list[T]:
        torch.set_num_threads(threads // workers if large else 1)  # of this thread
        return read(part)

    # New threads for each batch cost a thousandth of it, and none is left for a fork to lose.
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(work, _parts(count, min(MAX_PICTURES, -(-count // workers) or 1))))
    torch.set_num_threads(threads)  # some libraries keep one number for all threads
    return [one for part in results for one in part]


def _parts(count: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]
