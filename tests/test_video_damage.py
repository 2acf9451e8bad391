"""A video with a hole: no picture of it that is not as it was recorded is inspected, and what is whole is."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.core import Frame
from edge_agent.sources import stored
from edge_agent.sources.stored import StoredSource
from tests.agent import station, write_config
from tests.conftest import wait_until
from tests.test_camera import Watcher, camera

SIDE, COUNT, KEY_EVERY = 96, 60, 20
CODECS = {"line.mp4": "libx264", "line.avi": "mpeg4", "line.mkv": "libx264"}
PLACES = (0.2, 0.4, 0.6, 0.8)


def scene(number: int) -> np.ndarray:
    """Return a picture that moves, with noise, as a camera's has."""
    drawn = np.random.default_rng(0)
    texture = cv2.GaussianBlur(drawn.integers(0, 256, (SIDE, SIDE, 3), np.uint8), (0, 0), 2)
    noise = np.random.default_rng(number).integers(-6, 7, texture.shape)
    return np.clip(np.roll(texture, 2 * number, 1).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import av

    folder = tmp_path_factory.mktemp("videos")
    scenes = [av.VideoFrame.from_ndarray(scene(number), "rgb24") for number in range(COUNT)]
    for name, codec in CODECS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = SIDE
            stream.pix_fmt, stream.bit_rate = "yuv420p", 600_000
            stream.codec_context.gop_size = KEY_EVERY
            for frame in scenes:
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def frames(path: Path) -> list[Frame]:
    return list(StoredSource("cam1", [path]).frames(Event()))


def coarse(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (SIDE // 8, SIDE // 8), interpolation=cv2.INTER_AREA).astype(int)


def harmed(shown: list[Frame], whole: list[Frame]) -> list[str]:
    """Return those of the frames without a fault that look like no frame of the whole video."""
    known = [coarse(frame.pixels) for frame in whole]
    return [
        str(frame.origin)
        for frame in shown
        if frame.fault is None and min(np.abs(coarse(frame.pixels) - one).max() for one in known) > 12
    ]


@pytest.mark.parametrize("name", CODECS)
def test_a_whole_video_has_no_damage(recorded: Path, name: str) -> None:
    assert [frame.fault for frame in frames(recorded / name)] == [None] * COUNT


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("kind", ["zeros", "cut"])
def test_a_picture_beside_a_hole_is_not_decidable_and_none_that_is_shown_is_wrong(
    recorded: Path, tmp_path: Path, name: str, kind: str
) -> None:
    data, whole = (recorded / name).read_bytes(), frames(recorded / name)
    for place in PLACES:
        at = int(len(data) * place)
        path = tmp_path / name
        path.write_bytes(data[:at] + (bytes(64) + data[at + 64 :] if kind == "zeros" else data[at + 200 :]))
        shown = frames(path)
        faults = [frame.fault for frame in shown if frame.fault]
        assert faults, place
        assert "record" in faults[0]
        assert harmed(shown, whole) == [], place


def test_after_the_next_key_frame_pictures_are_inspected_again(recorded: Path, tmp_path: Path) -> None:
    data = (recorded / "line.avi").read_bytes()
    at = len(data) // 2
    path = tmp_path / "line.avi"
    path.write_bytes(data[:at] + bytes(64) + data[at + 64 :])
    faults = [frame.fault is not None for frame in frames(path)]
    assert len(faults) == COUNT
    assert 0 < sum(faults) <= KEY_EVERY
    assert not any(faults[:KEY_EVERY])
    assert not any(faults[-KEY_EVERY + 1 :])


def test_without_the_extra_the_damage_is_not_seen_which_is_said(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = (recorded / "line.avi").read_bytes()
    at = len(data) // 2
    path = tmp_path / "line.avi"
    path.write_bytes(data[:at] + bytes(64) + data[at + 64 :])
    monkeypatch.setattr(stored, "is_installed", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert harmed(frames(path), frames(recorded / "line.avi"))
    assert "holes in a video of H.264 or MPEG-4 are not noticed: pip install 'edge-agent[video]'" in caplog.text


def test_of_a_video_that_plays_as_a_camera_damaged_pictures_are_unreadable_each_time(
    recorded: Path, tmp_path: Path
) -> None:
    data = (recorded / "line.avi").read_bytes()
    at = len(data) // 2
    path = tmp_path / "line.avi"
    path.write_bytes(data[:at] + bytes(64) + data[at + 64 :])
    with Watcher(camera(path)) as seen:
        seen.sees(COUNT // 2)
        wait_until(lambda: seen.ended, "the video has ended")
    counts = seen.source.counts()
    assert counts.captured == COUNT
    assert 0 < counts.dropped["unreadable"] <= KEY_EVERY
    assert harmed(seen.frames, frames(recorded / "line.avi")) == []


def test_check_says_where_the_extra_is_missing(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, station(source={"camera": str(recorded / "line.mp4")}))
    assert main(["check", "--config", str(config)]) == 0
    assert "edge-agent[video]" not in capsys.readouterr().err
    monkeypatch.setattr("edge_agent.sources.video_damage.is_installed", lambda: False)
    assert main(["check", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "edge-agent[video]" in said.out + said.err
