"""Cameras come back whatever happens to them, nothing of them is unaccounted for, and each trigger has its verdict."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation, Evidence, Frame, Inspection, Reading, Record, SourceCounts, StoredFile, Trace
from edge_agent.errors import ConfigError
from edge_agent.line.inbox import Inbox
from edge_agent.line.inspect import Station
from edge_agent.line.judge import Rules
from edge_agent.line.line import Line
from edge_agent.sources.camera.address import with_password
from edge_agent.sources.camera.capture import _masked
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.camera.process import log_message
from edge_agent.sources.camera.slot import Slot, State
from edge_agent.sources.camera.source import CameraSource
from edge_agent.sources.camera.triggers.files import TriggerFiles
from tests.agent import ALL_OK, Daemon, station, write_config
from tests.conftest import PATIENCE_S, slowness, wait_until
from tests.detectors import SynchronousDetector
from tests.mjpeg import MjpegServer
from tests.rtsp import COLOUR, RtspServer, colour_of, number_of

NOW = datetime.now(timezone.utc)
BACK_S = 5.0  # pictures come again within so many seconds of their camera, on a machine that is not busy
SECRET = "s3cret/of@the:line"


class Remembered:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.files: list[StoredFile] = []

    def seen(self, station: str, file: StoredFile) -> bool:
        return file in self.files

    def seen_stats(self, station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
        return {file.path for file in self.files} & set(files)


def camera(address: object, *, ledger: Remembered | None = None, **more: object) -> CameraSource:
    config = CameraConfig.model_validate({"camera": address, **more})
    return config.build("cam1", ledger or Remembered(), max_megapixels=100, triggers=None)


class Watcher:
    """Takes a source's frames in a thread, as the line does, and checks the camera's account at each of them."""

    def __init__(self, source: CameraSource) -> None:
        self.source = source
        self.frames: list[Frame] = []
        self.came: list[float] = []
        self.given = 0  # frames with a picture
        self.unbalanced: list[tuple[int, SourceCounts]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._check()
        assert not self.unbalanced, "a picture that the camera gave is neither a frame nor dropped"

    def _check(self) -> None:
        counts = self.source.counts()
        if counts.captured != self.given + sum(counts.dropped.values()):
            self.unbalanced.append((self.given, counts))

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _watch(self) -> None:
        for frame in self.source.frames(self._stop):
            self.came.append(time.monotonic())
            self.given += frame.fault is None
            self._check()
            self.frames.append(frame)

    def sees(self, count: int = 1) -> None:
        wait_until(lambda: len(self.frames) >= count, f"{count} frames")

    def comes_back(self) -> Frame:
        """Wait for the next frame that the camera has just taken; it has to come within BACK_S."""
        before, begun = len(self.frames), time.monotonic()
        wait_until(lambda: len(self.frames) > before, "the camera is back")
        assert self.came[before] - begun < BACK_S * slowness()
        return self.frames[before]

    def is_tried_again(self) -> None:
        """Wait until the camera, which is lost, has been tried in vain once more."""
        before = self.source.counts().events["attempts"]
        wait_until(lambda: self.source.counts().events["attempts"] > before + 1, "it is tried in vain")


def like(colour: Sequence[int], other: Sequence[int] = COLOUR) -> bool:
    """Video coding moves colours by some steps; to swap red and blue moves them by a hundred."""
    return max(abs(one - two) for one, two in zip(colour, other, strict=True)) < 12


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def captures(pid: int | None = None) -> list[int]:
    """The processes that capture for this one, or that with `pid`."""
    of_threads = Path(f"/proc/{pid or os.getpid()}/task").glob("*/children")
    found = [int(child) for path in of_threads for child in path.read_text().split()]
    return [
        child for child in found if b"edge_agent.sources.camera.child" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    with RtspServer() as server:
        yield server


# A camera that fails


def test_a_camera_that_is_switched_off_and_on_again_is_back_in_its_right_colours_and_another_sees_nothing_of_it(
    rtsp: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        RtspServer(colour=(30, 160, 90)) as calm,
        Watcher(camera(calm.url)) as other,
        Watcher(camera(rtsp.url)) as seen,
    ):
        seen.sees(3)
        other.sees(3)
        begun = len(other.came)
        rtsp.kill()
        wait_until(lambda: seen.source.status().reason, "it is told")
        seen.is_tried_again()
        rtsp.start()
        assert like(colour_of(seen.comes_back().pixels))
        assert like(colour_of(seen.frames[0].pixels))
        assert all(frame.pixels.shape == (240, 320, 3) and frame.pixels.dtype == np.uint8 for frame in seen.frames)
        other.sees(begun + 30)
        assert np.diff(other.came[begun:]).max() < 1.5 * slowness()
        assert all(like(colour_of(frame.pixels), (30, 160, 90)) for frame in other.frames)
        assert (seen.source.counts().events["losses"], other.source.counts().events["losses"]) == (1, 0)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert sum(rtsp.url in text and "trying again" in text for text in warnings) == 1
    assert sum(rtsp.url in text and "gives pictures again after" in text for text in warnings) == 1


def test_a_camera_that_answers_no_more_is_given_up_and_back_when_it_answers(rtsp: RtspServer) -> None:
    with Watcher(camera(rtsp.url, timeout_s=1)) as seen:
        seen.sees(3)
        rtsp.hang()
        wait_until(
            lambda: re.search("answer|no picture for 1 s", seen.source.status().reason or ""),
            "it is told, and the cause",
        )
        seen.is_tried_again()
        rtsp.go_on()
        assert like(colour_of(seen.comes_back().pixels))
        assert seen.source.counts().events["kills"] >= 1


def test_a_frozen_camera_and_a_silent_one_are_told_once_and_nothing_of_them_is_inspected(
    rtsp: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Watcher(camera(rtsp.url, timeout_s=1, freeze_s=1.5)) as seen:
        seen.sees(3)
        rtsp.do("freeze")
        wait_until(lambda: seen.source.status().reason, "the freeze is told")
        assert "the same picture over and over" in (seen.source.status().reason or "")
        frozen = len(seen.frames)
        wait_until(lambda: seen.source.counts().dropped.get("repeated", 0) > 40, "what repeats is counted")
        assert len(seen.frames) == frozen
        rtsp.do("go")
        assert number_of(seen.comes_back().pixels) > number_of(seen.frames[frozen - 1].pixels)

        rtsp.do("silence")
        wait_until(lambda: seen.source.status().reason, "the silence is told")
        assert "no picture for 1 s" in (seen.source.status().reason or "")
        seen.is_tried_again()
        rtsp.do("go")
        seen.comes_back()
        assert seen.source.counts().events["losses"] == 2
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert sum("trying again" in text for text in warnings) == 2


def test_a_capture_that_hangs_or_dies_is_replaced(rtsp: RtspServer) -> None:
    with Watcher(camera(rtsp.url, timeout_s=1)) as seen:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            seen.sees(len(seen.frames) + 2)
            (hung,) = captures()
            os.kill(hung, number)
            wait_until(lambda: seen.source.status().reason, "it is told")
            seen.comes_back()
            assert hung not in captures()
        assert seen.source.counts().events["kills"] == 1


def test_memory_and_open_files_stay_as_they_are_however_often_a_camera_comes_back(rtsp: RtspServer) -> None:
    with Watcher(camera(rtsp.url, timeout_s=1)) as seen:

        def round_() -> tuple[int, int]:
            seen.sees(len(seen.frames) + 2)
            rtsp.kill()
            wait_until(lambda: seen.source.status().reason, "it is told")
            rtsp.start()
            seen.comes_back()
            for pid in captures():
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: seen.source.status().reason, "it is told")
            seen.comes_back()
            seen.frames[:] = seen.frames[-1:]
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return open_files(), pages * os.sysconf("SC_PAGE_SIZE")

        first = round_()
        last = [round_() for _ in range(2)][-1]
        assert last[0] == first[0]
        assert last[1] - first[1] < 10e6  # the pictures of some seconds would take more
    assert not captures()


def test_a_camera_that_is_not_there_is_tried_with_pauses_that_grow(caplog: pytest.LogCaptureFixture) -> None:
    with Watcher(camera("/dev/video97")) as seen:
        wait_until(lambda: seen.source.counts().events["attempts"] >= 4, "it is tried again and again")
        begun, before = time.monotonic(), seen.source.counts().events["attempts"]
        wait_until(lambda: seen.source.counts().events["attempts"] >= before + 3, "it is still tried")
        assert time.monotonic() - begun > 2  # pauses are of 1 to 2 s by now, and there were two whole ones
    assert (
        seen.source.status().reason
        == "cannot be opened (No such file or directory): is it plugged in, and the path right?"
    )
    assert sum("/dev/video97 cannot be opened" in record.message for record in caplog.records) == 1


def test_whoever_captures_does_not_outlive_the_agent(rtsp: RtspServer, tmp_path: Path) -> None:
    config = write_config(tmp_path, station(source={"camera": rtsp.url, "fps": 2}))
    with Daemon(config) as daemon:
        wait_until(lambda: daemon.rows, "something is inspected")
        pids = captures(daemon.pid)
        assert pids
        daemon.kill()
    wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "the captures end")


# What is captured


def clip(path: Path, *, frames: int = 30, fps: float = 30.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A video without loss; its left half is COLOUR, the right one gets brighter with each frame."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, size)
    assert video.isOpened()
    for number in range(frames):
        picture = np.full((size[1], size[0], 3), number * 255 // frames, np.uint8)
        picture[:, : size[0] // 2] = COLOUR[::-1]
        video.write(picture)
    video.release()
    return path


def test_a_video_is_played_as_if_it_were_live_and_ends(tmp_path: Path) -> None:
    path = clip(tmp_path / "line.avi")
    begun = time.monotonic()
    with Watcher(camera(path)) as seen:
        wait_until(lambda: seen.ended, "it ends")
        assert time.monotonic() - begun > 0.9  # 30 frames at 30 a second
    assert seen.source.counts().captured == 30
    assert all(like(colour_of(frame.pixels[:, :30])) for frame in seen.frames)
    assert [frame.seq for frame in seen.frames] == list(range(len(seen.frames)))


def test_a_rate_takes_some_of_the_pictures_and_counts_the_others(tmp_path: Path) -> None:
    path = clip(tmp_path / "line.avi", frames=60)
    with Watcher(camera(path, fps=10)) as seen:
        wait_until(lambda: seen.ended, "it ends")
    counts = seen.source.counts()
    assert counts.captured == 60
    published = 60 - counts.dropped["not_due"]
    superseded = counts.dropped.get("superseded", 0)  # perhaps before the first one seen, or after the last
    assert published == len(seen.frames) + superseded
    took = (seen.frames[-1].taken_at - seen.frames[0].taken_at).total_seconds()
    assert 14 / slowness() <= published <= 10 * took + 2 + superseded


def test_a_video_that_repeats_goes_on(tmp_path: Path) -> None:
    with Watcher(camera(clip(tmp_path / "line.avi", frames=10), repeat=True)) as seen:
        wait_until(lambda: seen.source.counts().captured > 25, "it is played again")
        assert not seen.ended


def test_a_picture_is_turned_and_then_cut(tmp_path: Path) -> None:
    path = clip(tmp_path / "line.avi")
    # Turned clockwise the left half comes to the top.
    with Watcher(camera(path, rotate=90, roi=[0.25, 0, 0.5, 0.5], repeat=True)) as seen:
        seen.sees()
    assert seen.frames[0].pixels.shape == (32, 24, 3)
    assert like(colour_of(seen.frames[0].pixels))
    with Watcher(camera(path, rotate=270, roi=[0, 0.5, 1, 0.5], repeat=True)) as seen:
        seen.sees()
    assert seen.frames[0].pixels.shape == (32, 48, 3)
    assert like(colour_of(seen.frames[0].pixels))


def test_a_camera_that_sends_jpegs_over_http_is_seen() -> None:
    with MjpegServer(COLOUR) as server, Watcher(camera(server.url)) as seen:
        seen.sees(5)
        assert like(colour_of(seen.frames[0].pixels))
        server.stop()
        wait_until(lambda: seen.source.status().reason, "it is told")
        server.start()
        assert like(colour_of(seen.comes_back().pixels))


def test_a_camera_that_returns_and_ignores_the_first_to_connect_is_back_as_soon() -> None:
    with MjpegServer(COLOUR) as server, Watcher(camera(server.url)) as seen:
        seen.sees(3)
        server.stop()
        wait_until(lambda: seen.source.status().reason, "it is told")
        server.start(ignored=1)
        assert like(colour_of(seen.comes_back().pixels))


def test_a_camera_that_takes_long_to_open_is_given_the_time_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.camera.capture.QUICK_S", 0.3)
    with MjpegServer(COLOUR) as server, Watcher(camera(server.url)) as seen:
        seen.sees(3)
        server.stop()
        wait_until(lambda: seen.source.status().reason, "it is told")
        attempts = seen.source.counts().events["attempts"]
        server.start(late_s=2.0)
        seen.sees(len(seen.frames) + 1)
        assert seen.source.counts().events["attempts"] - attempts >= 2, "short attempts come before the long one"


def test_the_newest_picture_is_what_a_slow_detector_gets_and_the_others_are_counted(rtsp: RtspServer) -> None:
    class Slow(SynchronousDetector):
        def read(self, images: Sequence[np.ndarray], keep: object = None) -> list[Reading]:
            seen = source.counts().captured
            wait_until(lambda: stop.is_set() or source.counts().captured >= seen + 6, "six more are captured")
            return [Reading(0.0, np.zeros((4, 4), np.float32)) for _ in images]

    kept, stop = Kept(), threading.Event()
    source = camera(rtsp.url)
    trace = Trace("slow/none", "0" * 64, "1" * 64, None, "2" * 64)
    line = Line([source], {"cam1": Station("cam1", Slow(), Rules(0.5), trace)}, kept, kept, lambda *_: [], [])
    running = threading.Thread(target=line.run, args=(stop,))
    running.start()
    wait_until(lambda: len(kept.recorded) >= 8, "some are inspected")
    stop.set()
    running.join(20)
    counts = source.counts()
    assert line.inbox.dropped["cam1", "superseded"] >= 8
    assert counts.captured - sum(counts.dropped.values()) == line.inbox.captured["cam1"]
    assert counts.captured == len(kept.recorded) + sum(counts.dropped.values()) + sum(line.inbox.dropped.values())
    numbers = [number_of(one.frame.pixels) for one in kept.recorded]
    assert numbers == sorted(set(numbers))
    assert min(np.diff(numbers[1:8])) >= 4  # at the stop comes what waits


class Kept:
    """Evidence and journal in memory."""

    def __init__(self) -> None:
        self.recorded: list[Inspection] = []

    def wants(self, inspection: Inspection) -> bool:
        return False

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        return Evidence()

    def commit(self, records: Sequence[Record]) -> list[bool]:
        self.recorded += [one.inspection for one in records]
        return [True] * len(records)


# Triggers


def test_each_trigger_has_one_picture_that_was_taken_after_it(rtsp: RtspServer, tmp_path: Path) -> None:
    ledger = Remembered()
    source = camera(rtsp.url, ledger=ledger, trigger={"folder": str(tmp_path), "timeout_s": 60})
    with Watcher(source) as seen:
        wait_until(lambda: seen.source.status().up, "the camera is open")
        wanted = [f"SN{number}" for number in range(5)]
        for name in wanted:
            (tmp_path / f"{name}.trg").touch()
        (tmp_path / "not-a-trigger.txt").touch()
        seen.sees(5)
        assert sorted(frame.part_id or "" for frame in seen.frames) == wanted
        assert all(frame.fault is None for frame in seen.frames)
        assert len({number_of(frame.pixels) for frame in seen.frames}) == 5
        (tmp_path / "SN1.trg").touch()  # the part comes once more, its first verdict not yet recorded
        seen.sees(6)
        assert seen.frames[5].part_id == "SN1"
        assert len(list((tmp_path / ".taken").iterdir())) == 6
        ledger.files += [frame.file for frame in seen.frames if frame.file]
        wait_until(lambda: not list((tmp_path / ".taken").iterdir()), "what is recorded is deleted")
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["not-a-trigger.txt"]
        assert len(seen.frames) == 6
        assert source.counts().dropped["untriggered"] > 0


def test_a_trigger_without_a_picture_is_not_decidable_and_says_why(tmp_path: Path) -> None:
    trigger = {"folder": str(tmp_path), "timeout_s": 0.5}
    with Watcher(camera("/dev/video97", trigger=trigger)) as seen:
        wait_until(lambda: "cannot be opened" in (seen.source.status().reason or ""), "it is tried")
        (tmp_path / "SN1.trg").touch()
        seen.sees()
    (frame,) = seen.frames
    assert (frame.part_id, frame.trigger_id) == ("SN1", "SN1.trg")
    assert frame.fault == (
        "no picture within 0.5 s of the trigger: the camera cannot be opened (No such file or directory): "
        "is it plugged in, and the path right?"
    )


def test_a_trigger_that_lay_there_before_the_agent_shows_no_later_part(rtsp: RtspServer, tmp_path: Path) -> None:
    old = tmp_path / "SN1.trg"
    old.touch()
    os.utime(old, (time.time() - 60, time.time() - 60))
    with Watcher(camera(rtsp.url, trigger={"folder": str(tmp_path)})) as seen:
        seen.sees()
    assert seen.frames[0].part_id == "SN1"
    assert "no picture within 2 s of the trigger" in (seen.frames[0].fault or "")


def test_a_trigger_folder_that_cannot_be_used_is_told_once_with_its_remedy_and_when_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_agent.sources.camera.triggers.files.LOOK_S", 0.0)
    triggers = TriggerFiles("cam1", tmp_path / "triggers", "*.trg", Remembered())
    assert not list(triggers.requests()) + list(triggers.requests())
    (tmp_path / "triggers").mkdir()
    (tmp_path / "triggers" / "SN1.trg").touch()
    assert [request.part_id for request in triggers.requests()] == ["SN1"]
    place = f"station cam1: the trigger folder {tmp_path / 'triggers'}"
    assert [record.message for record in caplog.records] == [
        f"{place} cannot be used (No such file or directory): create or mount it",
        f"{place} works again",
    ]


def test_triggers_that_come_faster_than_the_detector_reads_have_their_verdicts_all_the_same() -> None:
    inbox = Inbox(capacity=2)
    picture = np.zeros((32, 32, 3), np.uint8)
    for seq in range(5):
        frame = Frame("cam1", seq, NOW, picture, part_id=f"SN{seq}", trigger_id=f"SN{seq}")
        assert inbox.put(frame, live=True)
    taken = inbox.take(8, 1.0)
    assert [frame.part_id for frame in taken] == ["SN0", "SN1", "SN2", "SN3", "SN4"]
    assert [frame.fault is None for frame in taken] == [True, True, False, False, False]
    assert not inbox.dropped


def test_a_killed_agent_answers_the_triggers_it_had_taken_at_its_next_start(tmp_path: Path) -> None:
    triggers = tmp_path / "triggers"
    triggers.mkdir()
    source = {"camera": str(clip(tmp_path / "line.avi")), "repeat": True, "trigger": {"folder": "./triggers"}}
    config = write_config(tmp_path, station(source=source, threshold=ALL_OK))
    with Daemon(config) as daemon:
        daemon.until("is open")
        for number in range(20):
            (triggers / f"SN{number}.trg").touch()
        wait_until(lambda: len(daemon.rows) > 2, "some are inspected")
        daemon.kill()
    with Daemon(config) as daemon:
        wait_until(lambda: len(daemon.rows) >= 20, "each has its verdict")
        wait_until(lambda: not list(triggers.glob("*.trg")) + list((triggers / ".taken").iterdir()), "all are deleted")
        daemon.stop()
    assert Counter(row["part_id"] for row in daemon.rows) == {f"SN{number}": 1 for number in range(20)}
    for row in daemon.rows:
        assert (row["evaluation"] == Evaluation.NOT_DECIDABLE.value) == bool(row["reason"])


# Memory that two processes share


def test_a_slot_gives_what_was_written_last_and_nothing_of_a_writer_killed_amid_it() -> None:
    slot = Slot()
    assert slot.read() == (State(), None)
    small, large = np.full((20, 30, 3), 7, np.uint8), np.full((200, 300, 3), 9, np.uint8)
    for number, picture in enumerate((small, large, small), 1):
        written = State(captured=number, published=number, height=picture.shape[0], width=picture.shape[1])
        run(lambda: Slot(slot.fd).write(written, picture))  # noqa: B023
        state, pixels = slot.read() or (None, None)
        assert state == written
        assert np.array_equal(pixels, picture)
    run(lambda: Slot(slot.fd).write(State(captured=9, published=9, height=20, width=30), Deadly(small)))
    state, pixels = slot.read() or (None, None)
    assert (state and state.captured, pixels) == (3, None)
    slot.close()


def test_a_writer_that_stops_amid_a_picture_keeps_nobody_waiting() -> None:
    slot = Slot()
    pid = os.fork()
    if not pid:
        with Slot(slot.fd)._lock():
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    assert slot.read() is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert slot.read() == (State(), None)
    slot.close()


class Deadly:
    """A picture that kills who copies it."""

    def __init__(self, picture: np.ndarray) -> None:
        self.nbytes = picture.nbytes

    def reshape(self, *shape: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def run(work) -> None:
    """Do it in another process, and wait for its end."""
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    os.waitpid(pid, 0)


# Config, secrets, doctor


def test_what_captures_is_light_and_quick_to_start() -> None:
    code = "import sys, edge_agent.sources.camera.child; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "pydantic", "sqlalchemy", "PIL", "watchdog"} & set(loaded)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "[rtsp @ 0x55f21bf03400] method DESCRIBE failed: 401 (Unauthorized)",
            "method DESCRIBE failed: 401 (Unauthorized)",
        ),
        ("[ WARN:0@0.1] global cap.cpp:212 open VIDEOIO(FFMPEG): backend is generally available but can't be used", ""),
        (
            "[ WARN:0@0.1] global ./modules/videoio/src/cap_gstreamer.cpp (2401) handleMessage OpenCV | GStreamer warning:"
            " Embedded video playback halted; module rtspsrc0 reported: Unauthorized",
            "Unauthorized",
        ),
        ("[ WARN:0@0.1] global cap_gstreamer.cpp (862) open OpenCV | GStreamer warning: unable to start pipeline", ""),
    ],
)
def test_of_what_the_libraries_log_the_cause_is_told(line: str, told: str) -> None:
    assert log_message(line) == told


def test_a_password_is_hidden_in_every_spelling() -> None:
    secret = 'a"b/c\\d e'
    for address in ("rtsp://u@h/x", "rtsp://h/?p={password}", "rtspsrc user-id=u user-pw={password} ! appsink"):
        opened = with_password(address, secret)
        assert "a" + '"' not in _masked(f"cannot open {opened}: {secret}", secret)
        assert "%2Fc" not in _masked(opened, secret)
        assert "***" in _masked(opened, secret)


@contextmanager
def guarded() -> Iterator[RtspServer]:
    with RtspServer(user="line", password=SECRET) as server:
        yield server


def test_the_password_is_in_no_log_no_argument_no_environment_and_no_file_of_the_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").mkdir()
    password = tmp_path / "secret" / "camera"
    password.write_text("wrong\n")
    password.chmod(0o600)
    with guarded() as server:
        url = server.url.replace("//", "//line@")
        source = {"camera": url, "password": {"file": str(password)}, "fps": 5}
        config = write_config(tmp_path, station(source=source))
        with Daemon(config) as daemon:
            daemon.until("401")
            password.write_text(SECRET + "\n")  # it is read anew at every attempt
            wait_until(lambda: len(daemon.rows) >= 2, "something is inspected")
            server.kill()
            daemon.until("nothing listens")
            for process in Path("/proc").glob("[0-9]*"):
                for told in ("cmdline", "environ"):
                    try:
                        text = (process / told).read_bytes()
                    except OSError:
                        continue
                    assert b"s3cret" not in text, process
            daemon.stop()
            assert "were given to the detector; dropped: " in daemon.log
        assert main(["check", "--config", str(config)]) == 0
        assert main(["doctor", "--config", str(config)]) == 1
        said = capsys.readouterr()
        assert f"{url} by ffmpeg, password from file {password}: 5 pictures a second" in said.out
    assert "s3cret" not in said.out + said.err + daemon.log
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != password]
    assert written
    assert not [path for path in written if b"s3cret" in path.read_bytes()]


def test_the_doctor_says_what_each_camera_gives(
    rtsp: RtspServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(
        tmp_path,
        station("cam1", source={"camera": rtsp.url, "rotate": 90, "fps": 1}),
        station("cam2", source={"camera": 97}),
    )
    assert main(["doctor", "--config", str(config), "--json"]) == 1
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first, second = [finding for finding in findings if finding["name"] == "source"]
    assert first["state"] == "ok"
    rate = re.search(rf"cam1: {re.escape(rtsp.url)} gives 240 x 320, ([\d.]+)", first["text"])
    assert rate
    assert 20 / slowness() < float(rate[1]) < 30 * slowness()
    assert second["state"] == "failed"
    assert "cam2: /dev/video97 cannot be opened (No such file" in second["text"]


def test_a_pipeline_without_gstreamer_names_the_remedy(tmp_path: Path) -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(ConfigError, match=r"station cam1: OpenCV .* has no GStreamer.*python3-opencv"):
        camera("videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{camera: 'rtsp://u:pw@host/x'}", "has a password in it, in plain text: take it out"),
        ("{camera: 'rtsp://host/x?password=pw'}", "has a password in it, in plain text: write {password}"),
        ("{camera: 'rtspsrc user-pw=pw ! appsink'}", "has a password in it, in plain text: write {password}"),
        ("{camera: 'videotestsrc ! videoconvert'}", "is a pipeline without an end"),
        ("{camera: 'ftp://host/x'}", "begins with ftp://; wants one of rtsp, rtsps, http"),
        ("{camera: 'rtsp://host/x', password: {env: X}}", "has no use: name a user in the camera's URL"),
        ("{camera: 0, fps: 5, trigger: {folder: t}}", "trigger: and fps exclude each other"),
        ("{camera: 0, fps: 0}", "source.fps: is '0'; must be more than 0"),
        ("{camera: 0, fsp: 5}", "source.fsp: unknown key; did you mean 'fps'?"),
        ("{camera: 0, roi: [0, 0, 1]}", "roi: wants [x, y, width, height] as fractions"),
        ("{camera: 0, roi: [0, 0, 640, 480]}", "roi[2]: is '640'; must be at most 1: divide pixels by the picture's"),
        ("{camera: 0, roi: [0.5, 0, 0.6, 1]}", "roi: leaves the picture"),
        ("{camera: 0, rotate: 45}", "rotate: is 45; wants 0, 90, 180 or 270"),
        ("{camera: 0, backend: gst}", "backend: is 'gst'; wants 'auto', 'ffmpeg', 'v4l2' or 'gstreamer'"),
        ("{camera: 0, trigger: {}}", "trigger.folder: is missing; for example folder: ./triggers"),
        ("{camera: 0, folder: in}", "source.folder: unknown key"),
    ],
)
def test_each_mistake_with_a_camera_has_its_sentence(tmp_path: Path, source: str, told: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"stations: [{{name: cam1, source: {source}}}]")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}:1:")
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant", "backend"),
    [
        ("0", "/dev/video0", "v4l2"),
        ("/dev/video3", "/dev/video3", "v4l2"),
        ("rtsp://10.0.0.5:8554/a", "rtsp://10.0.0.5:8554/a", "ffmpeg"),
        ("clips/line.mp4", "{folder}/clips/line.mp4", "ffmpeg"),
        ("nvarguscamerasrc ! appsink", "nvarguscamerasrc ! appsink", "gstreamer"),
    ],
)
def test_what_a_camera_is_shows_in_its_address(tmp_path: Path, written: str, meant: str, backend: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"stations: [{{name: cam1, source: {{camera: '{written}'}}}}]")
    source = load_config(path).stations[0].source
    assert isinstance(source, CameraConfig)
    assert (source.camera, source.chosen_backend) == (meant.format(folder=tmp_path), backend)


def test_a_picture_that_cannot_be_inspected_and_ends_the_capture_is_counted_as_unreadable(tmp_path: Path) -> None:
    source = camera(clip(tmp_path / "line.avi", size=(64, 48)), roi=[0, 0, 0.1, 0.1], repeat=True)
    with Watcher(source) as seen:
        seen.is_tried_again()
        assert "leaves 6 x 5 pixels to inspect, too few" in str(source.status().reason)
    counts = source.counts()
    assert counts.captured == counts.dropped["unreadable"] > 0
