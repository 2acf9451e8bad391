"""A stored source gives every picture and video frame once, in a natural order, and says what it cannot give."""

from __future__ import annotations

import os
import re
import struct
import threading
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.core import Frame
from edge_agent.errors import EdgeAgentError
from edge_agent.sources.folder.config import FolderConfig
from edge_agent.sources.stored import StoredSource
from tests.made import gradient, png, unprivileged_folder


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for name in ("part10.png", "part2.png", "Part1.png", "bad/part3.png", "good/part1.png"):
        put(tmp_path / name)
    for name in (".hidden.png", ".thumbnails/a.png", "notes.txt", "truth.json"):
        put(tmp_path / name)
    assert names(StoredSource("cam1", [tmp_path]), tmp_path) == [
        "bad/part3.png", "good/part1.png", "Part1.png", "part2.png", "part10.png",
    ]  # fmt: skip


def test_paths_come_in_the_order_given_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("b/1.png", "b/2.png", "a/1.png", "a/2.png", "a/3.jpg"):
        put(tmp_path / name)
    paths = [tmp_path / "b" / "2.png", str(tmp_path / "a" / "*.png"), tmp_path / "b", tmp_path / "a"]
    assert names(StoredSource("cam1", paths), tmp_path) == ["b/2.png", "a/1.png", "a/2.png", "b/1.png", "a/3.jpg"]


def test_globs_reach_into_folders_and_take_pictures_only(tmp_path: Path) -> None:
    for name in ("day1/a.png", "day1/notes.txt", "day2/deep/b.png", "[odd].png"):
        put(tmp_path / name)
    assert names(StoredSource("cam1", [f"{tmp_path}/day*"]), tmp_path) == ["day1/a.png", "day2/deep/b.png"]
    assert names(StoredSource("cam1", [f"{tmp_path}/**/*.png"]), tmp_path)[-1] == "day2/deep/b.png"
    assert names(StoredSource("cam1", [f"{tmp_path}/[odd].png"]), tmp_path) == ["[odd].png"], "what is there is no glob"


def test_relative_paths_are_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "part.png")
    monkeypatch.chdir(tmp_path)
    (frame,) = frames(StoredSource("cam1", ["part.png"]))
    assert frame.origin == str(tmp_path / "part.png")


def test_a_picture_frame_tells_where_it_is_from(tmp_path: Path) -> None:
    path = put(tmp_path / "SN123.png", seed=7)
    os.utime(path, (1_500_000_000.5, 1_500_000_000.5))
    (frame,) = frames(StoredSource("cam1", [path]))
    assert (frame.station, frame.seq, frame.part_id, frame.origin) == ("cam1", 0, "SN123", str(path))
    assert frame.taken_at == datetime.fromtimestamp(1_500_000_000.5, timezone.utc)
    assert np.array_equal(frame.pixels, gradient(20, 30, 7))
    assert frame.file is None
    assert frame.fault is None


def test_sixteen_bits_are_scaled_by_the_stations_bit_depth(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png(np.full((20, 20), 4095, np.uint16)))
    (frame,) = frames(StoredSource("cam1", [tmp_path], bit_depth=12))
    assert frame.pixels.min() == 255


def test_what_cannot_be_decoded_keeps_its_place_in_the_row(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(png(gradient(20, 30))[:-40])
    (tmp_path / "3.png").write_bytes(b"")
    put(tmp_path / "4.png", size=(10, 10))
    put(tmp_path / "5.png", size=(400, 300))
    put(tmp_path / "6.png")
    source = StoredSource("cam1", [tmp_path], max_megapixels=0.1)
    (tmp_path / "6.png").unlink()
    found = frames(source)
    assert [frame.seq for frame in found] == [0, 1, 2, 3, 4, 5]
    words = [None, "cut off", "empty, 0 bytes", "too small to inspect", "raise max_megapixels", "No such file"]
    for frame, expected in zip(found, words, strict=True):
        assert (expected is None) == (frame.fault is None)
        assert (expected or "") in (frame.fault or "")
        assert frame.origin in (frame.fault or frame.origin or "")
        assert frame.pixels.shape[2] == 3
        assert frame.pixels.size == 0 or expected is None
        assert frame.taken_at.tzinfo is not None


def test_a_file_asked_for_by_name_is_answered_for_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture\n")
    (frame,) = frames(StoredSource("cam1", [tmp_path / "notes.txt"]))
    assert "not a picture" in (frame.fault or "")


def test_paths_that_give_nothing_are_all_named_before_anything_starts(tmp_path: Path) -> None:
    put(tmp_path / "part.png")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "part.png", tmp_path / "missing.png", tmp_path / "empty", f"{tmp_path}/*.jpg"]
    with pytest.raises(EdgeAgentError) as caught:
        StoredSource("cam1", paths)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/missing.png: no such file or folder: correct the path",
        f"{tmp_path}/empty: no picture or video there: give files, folders or globs of them",
        f"{tmp_path}/*.jpg: no picture or video there: give files, folders or globs of them",
    ]
    with pytest.raises(EdgeAgentError, match="nothing to inspect"):
        StoredSource("cam1", [])


def test_what_is_not_looked_at_is_told_once_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "lot/b.png", "@eaDir/a.png", "phone.HEIC", "phone2.heic", "x.pgm", "SNAP0001", "notes.txt"):
        put(tmp_path / name)
    put(tmp_path / "windows.jfif")
    assert names(StoredSource("cam1", [tmp_path]), tmp_path) == ["a.png", "lot/b.png", "windows.jfif"]
    assert caplog.messages == [
        "station cam1: not looked at: 2 .heic (phone pictures: switch the phone to JPEG), "
        "1 .pgm (store them as png, jpg, bmp, tiff or webp), "
        "1 without a suffix (add a suffix such as .png, or name them by patterns), 1 .txt"
    ]
    caplog.clear()
    assert names(StoredSource("cam1", [tmp_path], recursive=False), tmp_path) == ["a.png", "windows.jfif"]
    assert "1 in subfolders (write recursive: true)" in caplog.text
    put(tmp_path / "gifs" / "a.gif")
    with pytest.raises(EdgeAgentError, match=r"no picture or video there, but 1 \.gif"):
        StoredSource("cam1", [tmp_path / "gifs"])


@pytest.mark.parametrize(
    ("written", "expected"), [({}, True), ({"recursive": False}, False), ({"recursive": True}, True)]
)
def test_a_replay_by_a_station_reads_subfolders_as_the_station_does(written: dict[str, bool], expected: bool) -> None:
    assert FolderConfig.model_validate({"folder": "/in", **written}).stored_recursive is expected


def test_a_folder_that_may_not_be_listed_is_named_too() -> None:
    with unprivileged_folder() as folder:
        put(folder / "day1" / "part.png")
        put(folder / "day2" / "part.png")
        (folder / "day2").chmod(0)
        with pytest.raises(EdgeAgentError, match=r"day2: cannot be read \(Permission denied\): let user"):
            StoredSource("cam1", [folder])
        (folder / "day2").chmod(0o700)


def test_the_number_of_frames_is_known_for_pictures_alone(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"{i}.png")
    assert StoredSource("cam1", [tmp_path]).count == 3
    write_video(tmp_path / "run.avi", 5)
    assert StoredSource("cam1", [tmp_path]).count is None


@pytest.mark.parametrize("name", ["run.avi", "run.mkv"])
def test_a_video_gives_its_frames_in_rgb(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, 12)
    found = frames(StoredSource("cam1", [tmp_path / name]))
    assert len(found) == 12
    for i, frame in enumerate(found):
        assert np.array_equal(frame.pixels, gradient(48, 64, 4 * i)), "it is stored without loss"
        assert frame.pixels.flags.c_contiguous
        assert (frame.origin, frame.seq, frame.fault, frame.part_id) == (f"{tmp_path / name}#{i}", i, None, f"run-{i}")


def test_of_a_video_every_nth_frame_can_be_taken(tmp_path: Path) -> None:
    write_video(tmp_path / "run.avi", 12)
    put(tmp_path / "zz.png")
    found = frames(StoredSource("cam1", [tmp_path], every=5))
    assert [Path(frame.origin or "").name for frame in found] == ["run.avi#0", "run.avi#5", "run.avi#10", "zz.png"]
    assert [frame.seq for frame in found] == [0, 1, 2, 3]
    assert np.array_equal(found[1].pixels, gradient(48, 64, 20))


def test_a_video_that_breaks_off_says_so_after_its_last_frame(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "run.mkv", 25).read_bytes()
    (tmp_path / "run.mkv").write_bytes(whole[: len(whole) // 2])
    *whole_frames, last = frames(StoredSource("cam1", [tmp_path]))
    assert 0 < len(whole_frames) < 25
    assert last.origin == str(tmp_path / "run.mkv")
    assert f"ends after {len(whole_frames)} of 25 frames" in (last.fault or "")


@pytest.mark.parametrize("content", [b"", b"this is no video\n", b"\0" * 5000])
def test_a_broken_or_empty_video_is_one_frame_with_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.mp4").write_bytes(content)
    put(tmp_path / "z.png")
    bad, good = frames(StoredSource("cam1", [tmp_path]))
    assert f"{tmp_path / 'run.mp4'}: cannot be opened as a video" in (bad.fault or "")
    assert (bad.pixels.shape, good.fault) == ((0, 0, 3), None)


def test_of_an_mjpeg_video_each_damaged_frame_is_told_of_with_the_reason(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "run.avi", 20, "MJPG").read_bytes()
    intact = frames(StoredSource("cam1", [tmp_path]))
    assert [frame.fault for frame in intact] == [None] * 20
    assert np.abs(intact[3].pixels.astype(int) - gradient(48, 64, 12)).mean() < 3
    starts = [found.start() for found in re.finditer(rb"\xff\xd8\xff", whole)]
    hole = (starts[7] + starts[8]) // 2
    (tmp_path / "run.avi").write_bytes(whole[:hole] + bytes(60) + whole[hole + 60 :])
    damaged = frames(StoredSource("cam1", [tmp_path]))
    assert [frame.seq for frame in damaged if frame.fault] == [7]
    assert f"{tmp_path / 'run.avi'}#7: cut off or damaged, its JPEG data" in (damaged[7].fault or "")
    assert damaged[7].pixels.shape == (0, 0, 3)


def test_frames_that_an_mjpeg_video_has_lost_are_told_of(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "run.avi", 20, "MJPG").read_bytes()
    starts = [found.start() for found in re.finditer(rb"\xff\xd8\xff", whole)]
    (tmp_path / "run.avi").write_bytes(whole[: starts[7]] + bytes(starts[10] - starts[7]) + whole[starts[10] :])
    *rest, last = frames(StoredSource("cam1", [tmp_path]))
    assert len(rest) < 20
    assert "of 20 frames, cut off or damaged" in (last.fault or "")


def test_a_video_that_is_too_large_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "run.avi", 3)
    (frame,) = frames(StoredSource("cam1", [tmp_path], max_megapixels=0.001))
    assert "raise max_megapixels" in (frame.fault or "")


def test_pictures_need_no_utf8_in_their_names_but_videos_do(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/part\xff.png")))
    write_video(tmp_path / "run.avi", 3).rename(os.fsdecode(os.fsencode(tmp_path) + b"/run\xff.avi"))
    picture, video = frames(StoredSource("cam1", [tmp_path]))
    assert (picture.part_id, picture.fault) == (r"part\xff", None)
    assert rf"{tmp_path}/run\xff.avi: its name is not UTF-8" in (video.fault or "")


def test_a_stop_ends_it_between_two_frames(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"{i}.png")
    stop = threading.Event()
    found = StoredSource("cam1", [tmp_path]).frames(stop)
    assert next(found).seq == 0
    stop.set()
    assert list(found) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_known_is_left_out_and_the_rest_keeps_its_place(tmp_path: Path, workers: int) -> None:
    put(tmp_path / "1.png")
    whole = write_video(tmp_path / "2.mkv", 25).read_bytes()
    (tmp_path / "2.mkv").write_bytes(whole[: len(whole) // 2])
    put(tmp_path / "3.png")
    put(tmp_path / "4.png")
    (tmp_path / "5.png").symlink_to("nowhere.png")
    source = StoredSource("cam1", [tmp_path], workers=workers)
    given = frames(source)
    known = [given[0], *given[1:4], *(frame for frame in given if frame.fault), given[-2]]
    by_origin = {frame.origin: frame.taken_at for frame in known}
    source.skip(lambda origin, taken_at: origin in by_origin and taken_at in (None, by_origin[origin]))
    rest = frames(source)
    assert [frame.seq for frame in rest] == [frame.seq for frame in given if frame.origin not in by_origin]
    assert [frame.origin for frame in rest][-1] == str(tmp_path / "3.png")
    os.utime(tmp_path / "1.png", (1e9, 1e9))
    assert frames(source)[0].origin == str(tmp_path / "1.png"), "it is another picture now"
    assert [frame.origin for frame in frames(source.part([str(tmp_path / "4.png")]))] == [str(tmp_path / "4.png")]


def test_it_can_be_run_again(tmp_path: Path) -> None:
    put(tmp_path / "part.png")
    source = StoredSource("cam1", [tmp_path])
    assert len(frames(source)) == len(frames(source)) == 1


def frames(source: StoredSource) -> list[Frame]:
    return list(source.frames(threading.Event()))


def names(source: StoredSource, folder: Path) -> list[str]:
    return [str(Path(frame.origin or "").relative_to(folder)) for frame in frames(source)]


def put(path: Path, *, seed: int = 0, size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(gradient(*size, seed)))
    return path


@pytest.mark.parametrize("shown", [20, 96])
def test_a_trimmed_video_has_the_frames_that_it_shows_and_no_fault(tmp_path: Path, shown: int) -> None:
    path = write_video(tmp_path / "trimmed.mp4", 100, "mp4v")
    content = bytearray(path.read_bytes())
    edits = content.index(b"elst")
    version, count, duration = struct.unpack_from(">III", content, edits + 4)
    assert (version, count) == (0, 1)
    struct.pack_into(">I", content, edits + 12, duration * shown // 100)
    path.write_bytes(content)
    found = frames(StoredSource("cam1", [path]))
    assert [frame.fault for frame in found] == [None] * shown


def write_video(path: Path, count: int, coding: str = "FFV1") -> Path:
    video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*coding), 10, (64, 48))
    for i in range(count):
        video.write(np.ascontiguousarray(gradient(48, 64, 4 * i)[..., ::-1]))
    video.release()
    return path
