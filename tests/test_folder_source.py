"""A folder source gives each picture once, whole, in order, whatever its writers, the system and the folder do."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import queue
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.core import Evaluation, Evidence, Frame, StoredFile
from edge_agent.io.pictures import UnfinishedPictureError, read
from edge_agent.journal.journal import Journal
from edge_agent.sources.folder.source import FolderSource
from edge_agent.sources.folder.watch import Watch, needs_polling
from tests.conftest import PATIENCE_S, wait_until
from tests.line import inspected
from tests.made import gradient, png, unprivileged_folder

LONG_AGO = 1_500_000_000


class Line:
    """Runs a source in a thread as the agent does, and records what it gives."""

    def __init__(self, source: FolderSource, journal: Journal | None) -> None:
        self.source = source
        self.frames: queue.Queue[Frame | None] = queue.Queue()
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._journal = journal
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for frame in self.source.frames(self.stop):
                if self._journal is not None:
                    record(self._journal, frame)
                self.frames.put(frame)
        except BaseException as error:
            self.failure = error
            self.frames.put(None)

    def take(self, count: int = 1) -> list[Frame]:
        frames = []
        for _ in range(count):
            frame = self.frames.get(timeout=PATIENCE_S)
            assert frame, self.failure
            frames.append(frame)
        return frames

    def names(self, count: int) -> list[str]:
        return [Path(frame.origin or "").name for frame in self.take(count)]

    def nothing_more(self, while_s: float = 0.3) -> bool:
        try:
            self.frames.get(timeout=while_s)
        except queue.Empty:
            return True
        return False

    def close(self) -> None:
        self.stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self.failure:
            raise self.failure


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.POLL_S", 0.1)
    monkeypatch.setattr("edge_agent.sources.folder.source.TICK_S", 0.05)
    monkeypatch.setattr("edge_agent.sources.folder.source.RETRY_S", 0.1)
    monkeypatch.setattr("edge_agent.sources.folder.source.ERROR_S", 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(f"sqlite:///{tmp_path / 'journal.db'}")
    yield opened
    opened.close()


@contextmanager
def running(
    folder: Path,
    journal: Journal,
    *,
    records: bool = True,
    unchanged_s: float = 0.1,
    rescan_s: float = 600,
    **options: object,
) -> Iterator[Line]:
    """A line on the folder. With the rescan so far away, what comes after the first scan comes by events."""
    source = FolderSource("cam1", folder, journal, unchanged_s=unchanged_s, rescan_s=rescan_s, **options)  # type: ignore[arg-type]
    line = Line(source, journal if records else None)
    try:
        yield line
    finally:
        line.close()


def test_what_lies_there_is_given_in_the_order_it_was_written(folder: Path, journal: Journal) -> None:
    for second, name in enumerate(["c.png", "a.png", "b.png"]):
        put(folder / name, at=LONG_AGO + second)
    put(folder / "d.png", at=LONG_AGO + 2)
    with running(folder, journal) as line:
        assert line.names(4) == ["c.png", "a.png", "b.png", "d.png"]


def test_a_scan_that_takes_long_keeps_the_order_too(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.TICK_S", 0)  # so that a scan is given up after every file
    names = [f"{i}.png" for i in np.random.default_rng(3).permutation(60)]
    for second, name in enumerate(names):
        put(folder / name, at=LONG_AGO + second)
    with running(folder, journal, records=False, unchanged_s=0) as line:
        assert line.names(60) == names


def test_a_frame_tells_where_it_is_from(folder: Path, journal: Journal) -> None:
    path = put(folder / "SN123.png", at=LONG_AGO + 0.25)
    with running(folder, journal) as line:
        (frame,) = line.take()
    known = path.stat()
    assert (frame.station, frame.seq, frame.part_id, frame.origin, frame.fault) == ("cam1", 0, "SN123", str(path), None)
    assert frame.taken_at == datetime.fromtimestamp(LONG_AGO + 0.25, timezone.utc)
    assert frame.taken_at.tzinfo is not None
    assert np.array_equal(frame.pixels, gradient(20, 30))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert frame.file == StoredFile(str(path), known.st_ino, known.st_size, known.st_mtime_ns, digest)


@pytest.mark.parametrize("polling", [False, True])
def test_new_pictures_come_when_they_are_closed_or_moved_in(folder: Path, journal: Journal, polling: bool) -> None:
    with running(folder, journal, polling=polling) as line:
        wait_until_watched(line, folder)
        put(folder / "written.png", seed=1)
        os.replace(put(folder.parent / "elsewhere.png", seed=2), folder / "moved.png")
        put(folder / "upload.part", seed=3).rename(folder / "renamed.png")
        assert sorted(line.names(3)) == ["moved.png", "renamed.png", "written.png"]
        assert line.nothing_more()


@pytest.mark.parametrize("polling", [False, True])
def test_a_picture_is_not_read_before_it_is_written(folder: Path, journal: Journal, polling: bool) -> None:
    content = png(gradient(20, 30))
    with running(folder, journal, polling=polling, rescan_s=0.3) as line:
        wait_until_watched(line, folder)
        with (folder / "slow.png").open("wb", buffering=0) as file:
            for start in range(0, len(content), 1 + len(content) // 4):
                file.write(content[start : start + 1 + len(content) // 4])
                time.sleep(0.3)  # longer than it takes to settle, and scans come in between
        (frame,) = line.take()
        assert frame.fault is None
        assert np.array_equal(frame.pixels, gradient(20, 30))
        assert line.nothing_more()


def test_each_picture_is_given_once_though_every_scan_meets_it_again(folder: Path, journal: Journal) -> None:
    with running(folder, journal, records=False, rescan_s=0.3) as line:
        for i in range(5):
            put(folder / f"{i}.png", seed=i)
        assert sorted(line.names(5)) == [f"{i}.png" for i in range(5)]
        (folder / "0.png").rename(folder / "renamed.png")
        os.utime(folder / "1.png")
        assert line.nothing_more(1), "what nobody has recorded yet is not new again, renamed or touched though it be"


def test_a_restart_gives_only_what_came_meanwhile(folder: Path, journal: Journal) -> None:
    for i in range(3):
        put(folder / f"{i}.png", seed=i)
    with running(folder, journal) as line:
        line.take(3)
    put(folder / "meanwhile.png", seed=3)
    (folder / "0.png").rename(folder / "renamed.png")
    os.utime(folder / "1.png", (LONG_AGO, LONG_AGO))
    (folder / "copy.png").write_bytes((folder / "2.png").read_bytes())
    with running(folder, journal) as line:
        assert sorted(line.names(2)) == ["copy.png", "meanwhile.png"]
        assert line.nothing_more()
        assert line.source.counts().events["known"] == 2, "one was renamed, one was touched"


def test_a_scan_asks_the_journal_for_hundreds_of_files_at_once_not_for_each(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1200):
        (folder / f"{number:04}.png").touch()
        os.utime(folder / f"{number:04}.png", (LONG_AGO + number,) * 2)
    asked: list[int] = []

    def seen_stats(station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
        asked.append(len(files))
        return Journal.seen_stats(journal, station, files)

    monkeypatch.setattr(journal, "seen_stats", seen_stats)
    for first in ("0000.png", "0001.png"):  # the second time the ledger knows the first one
        asked.clear()
        frames = FolderSource("cam1", folder, journal, unchanged_s=0.0).frames(threading.Event())
        frame = next(frames)
        frames.close()
        assert Path(frame.origin or "").name == first
        assert asked == [500, 500, 200, 1]
        record(journal, frame)


def test_a_picture_in_the_place_of_another_is_new(folder: Path, journal: Journal) -> None:
    with running(folder, journal) as line:
        wait_until_watched(line, folder)
        put(folder / "current.png", seed=1)
        (first,) = line.take()
        put(folder / "current.png", seed=2)
        (second,) = line.take()
        assert [first.pixels[0, 0, 0], second.pixels[0, 0, 0]] == [1, 2]


@pytest.mark.parametrize("polling", [False, True])
def test_the_same_pictures_under_one_name_are_each_inspected(
    folder: Path, journal: Journal, polling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.AGAIN_S", 0.0)
    with running(folder, journal, polling=polling) as line:
        for seed in (1, 2, 1, 1, 2):
            put(folder / "current.png", seed=seed)
            assert line.take()[0].pixels[0, 0, 0] == seed
        assert line.nothing_more()
    assert len(journal.inspections()) == 5
    with running(folder, journal) as line:
        assert line.nothing_more(), "a restart is no event"
        put(folder / "current.png", seed=2)
        line.take()
    assert len(journal.inspections()) == 6


def test_where_it_is_asked_for_the_same_picture_is_skipped_and_counted_and_said_once(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.AGAIN_S", 0.0)
    with running(folder, journal, skip_same=True) as line:
        put(folder / "current.png", seed=1)
        line.take()
        for count in (1, 2):
            put(folder / "current.png", seed=1)
            wait_until(lambda count=count: line.source.counts().events["same_again"] == count, "it is counted")
        put(folder / "current.png", seed=2)
        line.take()
    assert caplog.text.count("same_again: skip") == 1


def test_a_file_that_is_closed_twice_in_a_moment_was_written_once(folder: Path, journal: Journal) -> None:
    with running(folder, journal) as line:
        put(folder / "part.png", seed=1)
        line.take()
        (folder / "part.png").touch()
        with (folder / "part.png").open("r+b"):
            pass
        assert line.nothing_more()


@pytest.mark.parametrize("polling", [False, True])
@pytest.mark.parametrize("how", ["in place", "moved over it", "deleted and anew"])
def test_new_content_of_the_same_size_and_time_is_a_new_picture(
    folder: Path, journal: Journal, polling: bool, how: str
) -> None:
    path, content = folder / "latest.bmp", [bmp(1), bmp(2)]
    with running(folder, journal, polling=polling) as line:
        path.write_bytes(content[0])
        os.utime(path, (LONG_AGO, LONG_AGO))
        assert line.take()[0].pixels[0, 0, 0] == 1
        if how == "deleted and anew":
            path.unlink()
        into = path.with_suffix(".tmp") if how == "moved over it" else path
        with into.open("r+b" if how == "in place" else "wb") as file:
            file.write(content[1])
        os.utime(into, (LONG_AGO, LONG_AGO))
        os.replace(into, path)
        assert line.take()[0].pixels[0, 0, 0] == 2
        assert line.nothing_more()


@pytest.mark.parametrize("kind", ["bmp of its full size", "png"])
@pytest.mark.parametrize("clock_s", [0, -3600])
def test_on_a_share_a_picture_whose_writer_stalls_is_read_once_it_is_whole(
    folder: Path, journal: Journal, kind: str, clock_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.YOUNG_S", 2.0)
    whole = png(gradient(40, 60)) if kind == "png" else bmp(100, side=96)
    path, half = folder / f"part.{kind[:3]}", len(whole) // 2
    with running(folder, journal, polling=True) as line:
        with path.open("wb", buffering=0) as file:
            if kind != "png":
                file.truncate(len(whole))
            file.write(whole[:half])
            os.utime(path, (time.time() + clock_s,) * 2)
            assert line.nothing_more(1.0), "the writer stalls"
            file.write(whole[half:])
        os.utime(path, (time.time() + clock_s,) * 2)
        assert line.take()[0].fault is None
        assert line.nothing_more()


def test_a_file_that_is_written_for_ever_is_told_of_once(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.MOST_WRITING_S", 0.6)
    with running(folder, journal, polling=True) as line, (folder / "log.png").open("wb", buffering=0) as file:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            file.write(b"more")
            time.sleep(0.05)
        assert "still being written" in (line.take()[0].fault or "")
        assert line.nothing_more(0.1)


def test_a_burst_loses_and_repeats_nothing(folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.watch.MOST_PATHS", 20)  # so that most events are lost
    content = [png(gradient(16, 16, seed)) for seed in range(50)]
    with running(folder, journal, records=False) as line:
        wait_until_watched(line, folder)
        for i in range(400):
            (folder / f"{i:03}.png").write_bytes(content[i % 50])
        assert sorted(line.names(400)) == [f"{i:03}.png" for i in range(400)]
        assert line.nothing_more()


def test_what_the_system_did_not_tell_is_found_by_a_scan(folder: Path, journal: Journal) -> None:
    with running(folder, journal, rescan_s=0.5) as line, (folder / "open.png").open("wb", buffering=0) as file:
        file.write(png(gradient(20, 30)))  # and it is never closed
        assert line.names(1) == ["open.png"]


def test_links_are_noticed_at_once(folder: Path, journal: Journal) -> None:
    outside = [put(folder.parent / f"outside{seed}.png", seed=seed) for seed in (1, 2)]
    with running(folder, journal) as line:
        wait_until_watched(line, folder)
        (folder / "symbolic.png").symlink_to(outside[0])
        assert line.names(1) == ["symbolic.png"]
        os.link(outside[1], folder / "hard.png")
        assert line.names(1) == ["hard.png"]
        assert line.nothing_more()


@pytest.mark.parametrize("polling", [False, True])
def test_subfolders_are_watched_only_if_asked_for(folder: Path, journal: Journal, polling: bool) -> None:
    (folder / "old").mkdir()
    put(folder / "old" / "1.png", seed=1)
    with running(folder, journal, recursive=True, polling=polling) as line:
        assert line.names(1) == ["1.png"]
        (folder / "new").mkdir()
        put(folder / "new" / "2.png", seed=2)
        assert line.names(1) == ["2.png"]
        put(folder / "new" / "3.png", seed=3)
        assert line.names(1) == ["3.png"]
        (folder.parent / "batch").mkdir()
        put(folder.parent / "batch" / "4.png", seed=4)
        (folder.parent / "batch").rename(folder / "batch")
        assert line.names(1) == ["4.png"]
        assert line.nothing_more()
    put(folder / "old" / "5.png", seed=5)
    with running(folder, journal) as line:
        assert line.nothing_more()


def test_hidden_unfinished_and_foreign_files_are_passed_over(folder: Path, journal: Journal) -> None:
    for name in (".thumbnails", "@eaDir", "#recycle", "$RECYCLE.BIN"):
        (folder / name).mkdir()
        put(folder / name / "a.png")
    for name in (".hidden.png", "a.png.part", "a.tmp", "a.png~", "~a.png", "notes.txt", "Thumbs.db"):
        put(folder / name)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    with running(folder, journal, recursive=True) as line:
        wait_until_watched(line, folder)
        put(folder / ".late.png", seed=1)
        put(folder / "late.tmp", seed=2)
        put(folder / "#recycle" / "late.png", seed=4)
        put(folder / "PART.PNG", seed=3)
        assert line.names(1) == ["PART.PNG"]
        (folder / "windows.jfif").write_bytes(cv2.imencode(".jpg", gradient(20, 30))[1].tobytes())
        assert line.take()[0].fault is None
        assert line.nothing_more()


def test_what_is_not_looked_at_is_told_once_by_kind(
    folder: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "lot1").mkdir()
    for name in ("lot1/a.png", "lot1/b.png", "1.heic", "2.heic", "notes.txt"):
        put(folder / name)
    with running(folder, journal, rescan_s=0.2) as line:
        says(caplog, "2 .heic (phone pictures: switch the phone to JPEG)")
        says(caplog, "2 in subfolders (write recursive: true)")
        put(folder / "SNAP0001")
        says(caplog, "1 without a suffix (add a suffix such as .png, or name them by patterns)")
        put(folder / "3.heic")
        put(folder / "SNAP0002")
        put(folder / "part.png", seed=1)
        assert line.names(1) == ["part.png"]
        assert line.nothing_more(0.5)
    assert (caplog.text.count(".heic"), caplog.text.count("without a suffix")) == (1, 1)


def test_patterns_choose_names(folder: Path, journal: Journal) -> None:
    for seed, name in enumerate(["cam1_1.png", "CAM1_2.PNG", "cam2_1.png", "cam1_raw.dat"]):
        put(folder / name, seed=seed)
    with running(folder, journal, patterns=["cam1_?.png", "*.dat"]) as line:
        assert sorted(line.names(3)) == ["CAM1_2.PNG", "cam1_1.png", "cam1_raw.dat"]
        assert line.nothing_more()


def test_what_cannot_be_decoded_is_journalled_with_the_reason(folder: Path, journal: Journal) -> None:
    whole = png(gradient(200, 300))
    bad = {
        "1_half.png": (whole[: len(whole) // 2], "cut off"),
        "2_empty.png": (b"", "empty, 0 bytes"),
        "3_text.png": (b"serial;result\n", "not a picture"),
        "4_pixel.png": (png(gradient(1, 1)), "1 x 1 pixels, too small to inspect"),
        "5_large.png": (png(gradient(300, 300)), "0.09 megapixels where 0.07 are allowed"),
    }
    for second, (name, (content, _)) in enumerate(bad.items()):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (LONG_AGO + second, LONG_AGO + second))
    with running(folder, journal, max_megapixels=0.07) as line:
        frames = line.take(len(bad))
        for frame, (name, (content, words)) in zip(frames, bad.items(), strict=True):
            assert frame.origin == str(folder / name)
            assert frame.pixels.shape == (0, 0, 3)
            assert words in (frame.fault or "")
            assert frame.file is not None
            assert frame.file.sha256 == hashlib.sha256(content).hexdigest()
    with running(folder, journal) as line:
        assert line.nothing_more(), "it is in the ledger, as everything else is"


def test_a_writer_that_closes_in_between_is_waited_for(folder: Path, journal: Journal) -> None:
    with running(folder, journal, rescan_s=0.5) as line:
        wait_until_watched(line, folder)
        path = folder / "part.png"
        path.touch()
        assert line.nothing_more(0.8)
        put(path)
        assert line.take()[0].fault is None
        assert line.nothing_more()


def test_a_picture_that_stays_cut_off_is_told_of_in_the_end(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.YOUNG_S", 1.0)
    (folder / "half.png").write_bytes(png(gradient(20, 30))[:-30])
    with running(folder, journal) as line:
        assert "cut off" in (line.take()[0].fault or "")
        assert line.nothing_more()


@pytest.mark.parametrize("year", [2262, 2400, 1905])
def test_a_file_of_any_year_is_inspected_once(folder: Path, journal: Journal, year: int) -> None:
    put(folder / "part.png", at=(year - 1970 + 1) * 365.25 * 86400)
    with running(folder, journal) as line:
        assert line.take()[0].fault is None
    with running(folder, journal) as line:
        assert line.nothing_more()


def test_an_error_over_one_file_is_its_inspection_and_the_others_go_on(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = journal.seen

    def fails(station: str, file: StoredFile) -> bool:
        if file.path.endswith("odd.png"):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return seen(station, file)

    monkeypatch.setattr(journal, "seen", fails)
    put(folder / "odd.png", at=LONG_AGO)
    put(folder / "part.png", at=LONG_AGO + 1)
    with running(folder, journal, rescan_s=0.2) as line:
        odd, part = line.take(2)
        assert (odd.part_id, odd.pixels.shape, part.part_id, part.fault) == ("odd", (0, 0, 3), "part", None)
        assert "cannot be inspected (OverflowError)" in (odd.fault or "")
        assert line.nothing_more()
        assert line.source.counts().events["failed"] == 1
    assert "Python int too large" in caplog.text


def test_a_sparse_file_of_two_terabytes_is_told_of_at_once_and_once(folder: Path, journal: Journal) -> None:
    (folder / "huge.png").touch()
    os.truncate(folder / "huge.png", 2 << 40)
    put(folder / "part.png")
    with running(folder, journal) as line:
        frames = {frame.part_id: frame for frame in line.take(2)}
        assert "more bytes than any picture" in (frames["huge"].fault or "")
        assert frames["part"].fault is None
        os.truncate(folder / "huge.png", 3 << 40)
        assert line.nothing_more(), "it grows, and is no other file"
    with running(folder, journal) as line:
        assert line.nothing_more()


def test_a_file_that_is_slow_to_read_can_be_stopped(folder: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(UnfinishedPictureError, match="was stopped"):
        read(put(folder / "part.png"), max_bytes=1 << 20, stop=stop)


def test_a_file_that_vanishes_is_counted_and_gives_no_frame(
    folder: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = put(folder / "1.png", at=LONG_AGO), put(folder / "2.png", at=LONG_AGO + 1)
    put(folder / "3.png", at=LONG_AGO + 2)
    source = FolderSource("cam1", folder, journal, unchanged_s=0.1)
    stop = threading.Event()
    frames = source.frames(stop)
    give_up = threading.Timer(PATIENCE_S, stop.set)
    give_up.start()
    assert next(frames).origin == str(first)
    second.unlink()  # found and settled, but not read yet
    assert next(frames).part_id == "3"
    give_up.cancel()
    frames.close()
    assert source.counts().events["vanished"] == 1
    assert f"{second}: cannot be read (No such file or directory)" in caplog.text


def test_a_file_that_may_not_be_read_is_told_of_once_and_inspected_when_it_may() -> None:
    with unprivileged() as (folder, journal):
        secret = put(folder / "secret.png", at=LONG_AGO)
        secret.chmod(0)
        with running(folder, journal, records=False, rescan_s=0.3) as line:
            (frame,) = line.take()
            assert f"let user {os.geteuid()}" in (frame.fault or "")
            assert frame.file is None
            assert line.nothing_more(0.8)
            secret.chmod(0o600)
            (frame,) = line.take()
            assert (frame.fault, frame.origin) == (None, str(secret))
            assert line.nothing_more()
        assert line.source.counts().events == {
            "known": 0,
            "vanished": 0,
            "unreadable": 1,
            "failed": 0,
            "same_again": 0,
            "losses": 0,
        }


def test_permissions_that_come_late_are_waited_for() -> None:
    with unprivileged() as (folder, journal), running(folder, journal) as line:
        wait_until_watched(line, folder)
        with (folder / "part.png").open("wb") as file:
            os.fchmod(file.fileno(), 0)
            file.write(png(gradient(20, 30)))
        assert line.nothing_more(0.5)
        (folder / "part.png").chmod(0o600)
        assert line.take()[0].fault is None


@pytest.mark.parametrize("polling", [False, True])
def test_a_folder_may_come_later_and_go_and_come_again(
    folder: Path, journal: Journal, polling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    with running(folder, journal, polling=polling) as line:
        says(caplog, "create or mount it")
        assert line.nothing_more(0.8)
        assert caplog.text.count("create or mount it") == 1
        assert not line.source.status().up
        folder.mkdir()
        put(folder / "1.png", seed=1)
        assert line.names(1) == ["1.png"]
        says(caplog, "can be read again")
        assert (line.source.counts().events["losses"], line.source.status().up) == (1, True)
        put(folder / "2.png", seed=2)
        assert line.names(1) == ["2.png"]
        folder.rename(folder.parent / "away")
        folder.mkdir()
        put(folder / "3.png", seed=3)
        assert line.names(1) == ["3.png"]
        put(folder / "4.png", seed=4)
        assert line.names(1) == ["4.png"]
        assert line.nothing_more()


@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["not to be listed", "listed but not to be entered"])
def test_an_unreadable_folder_is_complained_of_and_tried_again(mode: int, caplog: pytest.LogCaptureFixture) -> None:
    with unprivileged() as (folder, journal):
        put(folder / "1.png", seed=1)
        folder.chmod(mode)
        with running(folder, journal) as line:
            says(caplog, "read and enter it")
            assert line.nothing_more()
            assert caplog.text.count("read and enter it") == 1
            folder.chmod(0o700)
            assert line.names(1) == ["1.png"]
            says(caplog, "can be read again")


def test_a_journal_that_fails_for_a_while_loses_no_picture(
    folder: Path, tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with running(folder, journal) as line:
        wait_until_watched(line, folder)
        blocker = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        blocker.execute("ALTER TABLE ledger RENAME TO ledger_away")
        put(folder / "1.png", seed=1)
        says(caplog, "cannot be compared with the journal")
        blocker.execute("ALTER TABLE ledger_away RENAME TO ledger")
        blocker.close()
        assert line.names(1) == ["1.png"]
        assert line.nothing_more()


def test_a_file_in_the_place_of_a_folder_is_said_to_be_none(
    folder: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with running(put(folder / "file.png"), journal):
        says(caplog, "give a folder")


def test_a_link_to_a_folder_is_followed_wherever_it_points(folder: Path, journal: Journal) -> None:
    (folder / "monday").mkdir()
    (folder / "tuesday").mkdir()
    link = folder / "today"
    link.symlink_to(folder / "monday")
    with running(link, journal) as line:
        wait_until_watched(line, folder / "monday")
        put(folder / "monday" / "1.png", seed=1)
        (frame,) = line.take()
        assert frame.origin == str(folder / "monday" / "1.png"), "where the picture can still be found on tuesday"
        link.unlink()
        link.symlink_to(folder / "tuesday")
        put(folder / "tuesday" / "2.png", seed=2)
        assert line.names(1) == ["2.png"]


def test_names_that_are_not_utf8_are_inspected_too(folder: Path, journal: Journal) -> None:
    put(Path(os.fsdecode(os.fsencode(folder) + b"/part\xff.png")))
    with running(folder, journal) as line:
        (frame,) = line.take()
        assert frame.part_id == "part\\xff"
    with running(folder, journal) as line:
        assert line.nothing_more()


def test_without_a_free_inotify_watch_the_folder_is_polled(caplog: pytest.LogCaptureFixture) -> None:
    if int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()) > 512:
        pytest.skip("more inotify instances than it is kind to use up")
    libc = ctypes.CDLL(None)
    with unprivileged() as (folder, journal):  # another user's instances, where we are root
        taken = []
        while (instance := libc.inotify_init()) >= 0:
            taken.append(instance)
        try:
            with running(folder, journal) as line:
                wait_until_watched(line, folder)
                put(folder / "1.png", seed=1)
                assert line.names(1) == ["1.png"]
        finally:
            for instance in taken:
                os.close(instance)
    assert "raise fs.inotify.max_user_watches" in caplog.text


@pytest.mark.parametrize("polling", [False, True])
def test_a_stop_ends_it_soon_and_leaves_no_thread_behind(folder: Path, journal: Journal, polling: bool) -> None:
    before = set(threading.enumerate())
    with running(folder, journal, polling=polling) as line:
        wait_until_watched(line, folder)
        for i in range(20):
            put(folder / f"{i}.png", seed=i)
    wait_until(lambda: set(threading.enumerate()) <= before, "all threads end")
    wait_until(lambda: not inotify_instances(), "inotify is given back")
    with running(folder.parent / "missing", journal):
        pass
    wait_until(lambda: set(threading.enumerate()) <= before, "all threads end")


def test_a_consumer_that_leaves_ends_it_too(folder: Path, journal: Journal) -> None:
    before = set(threading.enumerate())
    put(folder / "1.png")
    frames = FolderSource("cam1", folder, journal, unchanged_s=0.1).frames(threading.Event())
    next(frames)
    frames.close()
    wait_until(lambda: set(threading.enumerate()) <= before, "all threads end")


def test_memory_stays_flat_while_pictures_come_and_go(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.source.MOST_RECENT", 50)
    content = png(gradient(16, 16))
    with running(folder, journal, records=False, rescan_s=0.2) as line:

        def inspect(count: int) -> None:
            for i in range(count):
                (folder / f"{time.monotonic_ns()}_{i}.png").write_bytes(content)
            for frame in line.take(count):
                Path(frame.origin or "").unlink()

        def kept() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        inspect(30)
        tracemalloc.start()
        try:
            growth = []
            for _ in range(3):  # what is allocated once and for all may be in the first rounds, a leak is in every one
                before = kept()
                for _ in range(4):
                    inspect(30)
                time.sleep(0.5)  # for a scan to come by
                growth.append(kept() - before)
            assert min(growth) < 50_000, f"120 files leave less than 420 bytes each behind, not {growth}"
        finally:
            tracemalloc.stop()


def test_local_folders_need_no_polling(tmp_path: Path) -> None:
    assert not needs_polling(tmp_path)


@pytest.mark.parametrize(
    "kind", ["cifs", "nfs4", "fuse.sshfs", "fuse.curlftpfs", "fuse.gvfsd-fuse", "fuse.davfs", "fuse.smbnetfs",
             "fuse.grpcfuse", "fakeowner", "drvfs", "virtiofs", "9p", "fuse.made-up"],
)  # fmt: skip
def test_whatever_is_not_known_to_be_local_is_polled(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"30 1 0:1 / / rw - ext4 /dev/sda rw\n31 30 0:2 / {tmp_path} rw - {kind} x rw\n")
    monkeypatch.setattr("edge_agent.io.mounts.MOUNT_TABLE", table)
    assert needs_polling(tmp_path / "incoming")


def test_a_watch_says_what_it_may_have_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.folder.watch.MOST_PATHS", 3)
    watch = Watch(str(folder), recursive=False, polling=False)
    try:
        for i in range(10):
            put(folder / f"{i}.png")
        seen: list[str] = []

        def missed() -> bool:
            taken = watch.take(0.1)
            seen.extend(taken.finished)
            return taken.missed

        wait_until(missed, "it is missed")
        assert len(seen) >= 3
    finally:
        watch.close()


def bmp(value: int, side: int = 32) -> bytes:
    return cv2.imencode(".bmp", np.full((side, side, 3), value, np.uint8))[1].tobytes()


def put(path: Path, *, seed: int = 0, at: float | None = None) -> Path:
    """A whole picture, written and closed, with `seed` as its first red."""
    path.write_bytes(png(gradient(20, 30, seed)))
    if at is not None:
        os.utime(path, (at, at))
    return path


@contextmanager
def unprivileged() -> Iterator[tuple[Path, Journal]]:
    """A folder to put pictures in and a journal, with nobody's rights."""
    with unprivileged_folder() as home:
        journal = Journal.open(f"sqlite:///{home / 'journal.db'}")
        (home / "incoming").mkdir()
        try:
            yield home / "incoming", journal
        finally:
            (home / "incoming").chmod(0o700)
            journal.close()


def inotify_instances() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # such as the one that listed them
            found += [name] if "inotify" in os.readlink(f"/proc/self/fd/{name}") else []
    return found


def says(caplog: pytest.LogCaptureFixture, text: str) -> None:
    wait_until(lambda: text in caplog.text, f"it says {text!r}", state=lambda: caplog.text)


def wait_until_watched(line: Line, folder: Path) -> None:
    put(folder / "probe.png", seed=49)
    assert line.names(1) == ["probe.png"]


def record(journal: Journal, frame: Frame) -> None:
    one = inspected(evaluation=Evaluation.NOT_DECIDABLE, reason=frame.fault or "no detector here")
    journal.record(replace(one, frame=frame), Evidence(), ())
