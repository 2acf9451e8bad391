"""How long a picture may wait for those of other stations, and that it waits for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import numpy as np
import pytest

from edge_agent.core import Frame
from edge_agent.line.inbox import Inbox

LONG_S = 60.0  # a test that waited for it would be noticed


def frame(station: str, seq: int = 0, trigger: str | None = None) -> Frame:
    return Frame(station, seq, datetime.now(timezone.utc), np.zeros((2, 2, 3), np.uint8), trigger_id=trigger)


@contextmanager
def later(inbox: Inbox, *frames: Frame) -> Iterator[None]:
    """Hand these in a little after the block has begun."""
    timers = [threading.Timer(0.2, inbox.put, [one], {"live": True}) for one in frames]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.join()


def taken(inbox: Inbox, max_wait_s: float, most: int = 8) -> list[tuple[str, int]]:
    return [(one.station, one.seq) for one in inbox.take(most, 1.0, max_wait_s)]


def test_the_pictures_of_all_cameras_around_a_part_go_together() -> None:
    inbox = Inbox(stations=3)
    inbox.put(frame("cam1"), live=True)
    with later(inbox, frame("cam2"), frame("cam3")):
        assert sorted(taken(inbox, LONG_S)) == [("cam1", 0), ("cam2", 0), ("cam3", 0)]


def test_a_picture_goes_alone_when_no_other_came_in_time() -> None:
    inbox = Inbox(stations=2)
    inbox.put(frame("cam1"), live=True)
    assert taken(inbox, 0.05) == [("cam1", 0)]


def test_a_station_alone_waits_for_nobody() -> None:
    inbox = Inbox()
    inbox.put(frame("cam1"), live=True)
    assert taken(inbox, LONG_S) == [("cam1", 0)]


def test_no_second_picture_of_a_station_is_waited_for() -> None:
    inbox = Inbox(stations=2)
    for seq in range(2):
        inbox.put(frame("cam1", seq, trigger=f"t{seq}"), live=True)
    inbox.put(frame("stored"), live=False)
    assert sorted(taken(inbox, LONG_S)) == [("cam1", 0), ("cam1", 1), ("stored", 0)]


def test_a_full_batch_waits_for_no_station() -> None:
    inbox = Inbox(stations=3)
    for seq in range(3):
        inbox.put(frame("stored", seq), live=False)
    assert taken(inbox, LONG_S, most=2) == [("stored", 0), ("stored", 1)]


def test_a_picture_that_waited_while_others_were_read_waits_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("edge_agent.line.inbox.time.monotonic", lambda: now[0])
    inbox = Inbox(stations=2)
    inbox.put(frame("cam1"), live=True)
    now[0] += 0.5
    inbox.put(frame("cam1", 1), live=True)  # its successor is not the first that waits, however new it is
    with later(inbox, frame("cam2")):
        assert taken(inbox, max_wait_s=0.5) == [("cam1", 1)]


def test_what_is_left_behind_a_full_batch_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("edge_agent.line.inbox.time.monotonic", lambda: now[0])
    inbox = Inbox(stations=2)
    for seq in range(3):
        inbox.put(frame("stored", seq), live=False)
    assert taken(inbox, 0.5, most=2) == [("stored", 0), ("stored", 1)]
    now[0] += 0.5
    with later(inbox, frame("cam2")):
        assert taken(inbox, 0.5, most=2) == [("stored", 2)]


def test_a_stop_ends_the_wait() -> None:
    inbox = Inbox(stations=2)
    inbox.put(frame("cam1"), live=True)
    timer = threading.Timer(0.2, inbox.close)
    timer.start()
    assert taken(inbox, LONG_S) == [("cam1", 0)]
    timer.join()


def test_at_a_stop_a_live_frame_is_lost_and_counted_and_a_stored_one_is_not_as_it_comes_again() -> None:
    inbox = Inbox()
    inbox.close()
    assert not inbox.put(frame("camera"), live=True)
    assert not inbox.put(frame("folder"), live=False)
    assert dict(inbox.captured) == {"camera": 1, "folder": 0}
    assert {key: times for key, times in inbox.dropped.items() if times} == {("camera", "stopping"): 1}
