"""What all tests share: the one way to wait for something, and how slow the machine is at present."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

pytest_plugins = ["tests.mosquitto", "tests.postgres"]  # fixtures: broker and listener; postgresql and url

PATIENCE_S = 300.0  # for what takes seconds on a quiet machine; only a failing test waits this long
_POLL_S = 0.01
T = TypeVar("T")

# Files that take longest begin first: a worker that begins one last would be waited for by the others.
LONG = ("distributed", "bench", "fit", "pretrain", "daemon", "camera", "replay_resume", "faults_secrets")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of LONG first, and leave the order as it is otherwise."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


def wait_until(
    condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S, *, state: Callable[[], object] | None = None
) -> T:
    """Wait until `condition` gives something true, and return that.

    Args:
        condition: Asked again and again; what it raises is raised here.
        what: What is waited for, for the message.
        timeout_s: Seconds to wait at most. Give one only where the time itself is what a test is about.
        state: What to show beside the message when the wait fails, such as a log.

    Raises:
        pytest.fail.Exception: It did not come true in that time; says what was waited for and how things stand.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what}\n{found if state is None else state()}")
        time.sleep(_POLL_S)
    return found


def slowness() -> float:
    """Return how many times longer work takes now than on an idle machine, 1 or more; limits in seconds grow with it."""
    work_s = 0.05
    begun, until = time.perf_counter(), time.thread_time() + work_s
    while time.thread_time() < until:
        pass
    return max(1.0, (time.perf_counter() - begun) / work_s)
