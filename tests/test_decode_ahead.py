"""Pictures that other processes decode ahead are those that this one would have decoded, whatever becomes of the processes."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from edge_agent.core import Frame
from edge_agent.errors import PictureError
from edge_agent.sources.decode_ahead import MOST_AHEAD, MOST_AHEAD_BYTES, decoded
from edge_agent.sources.stored import StoredSource
from tests.conftest import PATIENCE_S, wait_until
from tests.made import gradient, png
from tests.test_stored_source import put, write_video


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty pictures, two of which cannot be decoded, a video and a name that is not UTF-8."""
    for number in range(30):
        put(tmp_path / f"{number}.png", seed=number, size=(20 + number, 30))
    (tmp_path / "7.png").write_bytes(png(gradient(20, 30))[:-40])
    (tmp_path / "191.png").symlink_to("nowhere.png")
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/12\xff.png")))
    write_video(tmp_path / "12z.avi", 3)
    return tmp_path


def children() -> set[int]:
    """Of every thread: the processes that this one has started and that are still there."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def told(frame: Frame) -> tuple[object, ...]:
    taken_at: datetime | None = None if frame.fault else frame.taken_at
    return (frame.seq, frame.origin, frame.part_id, frame.fault, taken_at, frame.pixels.shape, frame.pixels.tobytes())


def all_of(source: StoredSource, at_each: Callable[[Frame], object] = lambda frame: None) -> list[tuple[object, ...]]:
    found = []
    for frame in source.frames(threading.Event()):
        at_each(frame)
        found.append(told(frame))
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_they_give_the_same_frames_in_the_same_order_and_leave_nothing_behind(photos: Path, workers: int) -> None:
    before, opened = children(), len(os.listdir("/proc/self/fd"))
    alone = all_of(StoredSource("cam1", [photos]))
    assert len(alone) == 35
    assert all_of(StoredSource("cam1", [photos], workers=workers)) == alone
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == opened


def test_pixels_may_be_written_to_as_detectors_may_want_to(photos: Path) -> None:
    frame = next(StoredSource("cam1", [photos], workers=1).frames(threading.Event()))
    frame.pixels[0, 0] = 7
    assert frame.pixels.flags.c_contiguous


def test_processes_that_are_killed_cost_no_picture(photos: Path) -> None:
    before = children()

    def kill(frame: Frame) -> None:
        if frame.seq % 5 == 0:
            for child in children() - before:
                os.kill(child, signal.SIGKILL)

    assert all_of(StoredSource("cam1", [photos], workers=2), kill) == all_of(StoredSource("cam1", [photos]))


def test_a_picture_over_which_they_die_again_and_again_is_named_and_the_others_come(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / f"{number}.png", seed=number)
    put(tmp_path / "3.png", size=(200, 300))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # the memory that they share counts as a file
    try:
        frames = list(StoredSource("cam1", [tmp_path], workers=2).frames(threading.Event()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    faults = {Path(frame.origin or "").name: frame.fault for frame in frames if frame.fault}
    assert [frame.seq for frame in frames] == list(range(6))
    assert faults.keys() == {"3.png"}
    assert f"{tmp_path}/3.png: the process that decoded it died twice" in (faults["3.png"] or "")


def test_a_stop_is_heard_while_a_process_hangs(photos: Path) -> None:
    before, stop = children(), threading.Event()
    frames = StoredSource("cam1", [photos], workers=1).frames(stop)
    next(frames)
    (child,) = children() - before
    os.kill(child, signal.SIGSTOP)
    threading.Timer(0.3, stop.set).start()
    assert len(list(frames)) < 30
    wait_until(lambda: children() == before, "it is gone")


def test_only_so_many_are_asked_for_ahead_and_fewer_of_large_ones(tmp_path: Path) -> None:
    small, large = put(tmp_path / "small.png"), tmp_path / "large.png"
    large.write_bytes(png(np.zeros((3000, 4000), np.uint8)))

    def ahead(path: Path) -> int:
        asked = 0

        def for_ever() -> Iterator[tuple[int, str]]:
            nonlocal asked
            while True:
                asked += 1
                yield asked, str(path)

        given = decoded(for_ever(), 2, threading.Event(), max_megapixels=100, bit_depth=16)
        for number in range(1, 10):
            item, picture = next(given)
            assert item == number
            assert not isinstance(picture, PictureError)
        given.close()
        return asked - 9

    assert ahead(small) < MOST_AHEAD
    assert ahead(large) <= MOST_AHEAD_BYTES // (3000 * 4000 * 3) + 1


def test_a_process_whose_answers_nobody_reads_ends_without_a_complaint(photos: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    settings = json.dumps({"max_megapixels": 10, "bit_depth": 8})
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.sources.decode_child", str(theirs.fileno()), settings],
        pass_fds=(theirs.fileno(),),
        stderr=subprocess.PIPE,
        text=True,
    )
    theirs.close()
    ours.send(json.dumps(str(photos / "1.png")).encode())
    assert select.select([ours], [], [], 60)[0], "it has answered"
    ours.close()
    assert process.communicate(timeout=PATIENCE_S) == (None, "")
    assert process.returncode == 0
