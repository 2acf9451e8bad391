"""A batch shared out over a processor's cores: whole pictures a thread, where torch would split every operation over all cores.

A small tower has hundreds of operations a picture, each over in a fraction of a millisecond. Split, they wait for the
slowest core each time, and spin meanwhile; a core that somebody else uses makes all of them wait.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
MOST = 4  # pictures at once: of more, what lies between two operations no longer fits a core's cache


def shared_out(read: Callable[[slice], list[T]], count: int, *, large: bool) -> list[T]:
    """What `read` gives for the pictures 0 .. count - 1, each call some of them, on as many threads as torch may use here.

    large: one picture is so much work that cores which would have none may help with it.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, count))

    def work(part: slice) -> list[T]:
        torch.set_num_threads(threads // workers if large else 1)  # of this thread
        return read(part)

    # Threads of its own for each batch cost a thousandth of it, and none is left behind for a fork to miss.
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(work, _parts(count, min(MOST, -(-count // workers) or 1))))
    torch.set_num_threads(threads)  # some libraries keep one number for all threads
    return [one for part in found for one in part]


def _parts(count: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]
