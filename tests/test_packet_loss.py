"""A network camera whose packets are lost or held up: no picture is given that is not as the camera saw it, or not of now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.core import Frame
from tests.agent import station, write_config
from tests.conftest import slowness, wait_until
from tests.lossy_relay import LossyRelay
from tests.rtsp import RtspServer, number_of, texture_of
from tests.test_camera import Watcher, camera

FPS = 25


@pytest.fixture(scope="module")
def textured() -> Iterator[RtspServer]:
    with RtspServer(textured=True) as server:
        yield server


@pytest.fixture
def relay(textured: RtspServer) -> Iterator[LossyRelay]:
    with LossyRelay(textured.port) as between:
        yield between


def is_as_seen(frame: Frame) -> bool:
    """Return whether all blocks have the colours that the picture of this number has."""
    blocks = frame.pixels[:176].reshape(22, 8, 40, 8, 3)[:, 2:6, :, 2:6].mean((1, 3))
    return float(np.abs(blocks - texture_of(number_of(frame.pixels))[:22]).max()) < 60


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_a_picture_that_lost_packets_is_unreadable_and_so_are_those_that_build_on_it(
    relay: LossyRelay, loss: float
) -> None:
    with Watcher(camera(relay.url, transport="udp")) as seen:
        seen.sees(10)
        relay.loss = loss
        wait_until(lambda: relay.lost > 10, "packets are lost")
        relay.loss = 0.0
        seen.comes_back()
        seen.sees(len(seen.frames) + 5)
        counts = seen.source.counts()
    assert counts.dropped["unreadable"] > 10
    assert counts.events == {"attempts": 1, "losses": 0, "kills": 0}
    assert [number_of(frame.pixels) for frame in seen.frames if not is_as_seen(frame)] == []


def test_a_camera_of_which_nothing_arrives_whole_is_told_with_the_remedy(
    relay: LossyRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_agent.sources.camera import udp_stream
    from edge_agent.sources.camera.reachable import Unreachable

    monkeypatch.setattr(udp_stream, "WHOLE_S", 1.0)
    relay.loss = 0.2
    stream = udp_stream.UdpStream(relay.url, 10.0)
    try:
        with pytest.raises(
            Unreachable, match="no whole picture, as packets are lost on their way: write transport: tcp"
        ):
            for _ in iter(stream.grab, False):
                pass
    finally:
        stream.release()


def test_pictures_that_a_connection_has_held_up_are_stale_and_none_of_them_is_given(relay: LossyRelay) -> None:
    with Watcher(camera(relay.url)) as seen:
        seen.sees(30)
        stale = seen.source.counts().dropped.get("stale", 0)
        taken = [
            at - number_of(frame.pixels) / FPS for at, frame in zip(seen.came[-20:], seen.frames[-20:], strict=False)
        ]
        relay.stalls = True
        time.sleep(1.5)
        before = len(seen.frames)
        relay.stalls = False
        seen.sees(before + 10)
        late_s = seen.came[before] - number_of(seen.frames[before].pixels) / FPS - float(np.median(taken))
        counts = seen.source.counts()
    assert late_s < 0.5 * slowness()
    assert counts.dropped["stale"] > stale
    assert counts.events == {"attempts": 1, "losses": 0, "kills": 0}


def test_check_says_that_lost_packets_are_not_noticed_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, station(source={"camera": "rtsp://10.0.0.5/stream1", "transport": "udp"}))
    assert main(["check", "--config", str(config)]) == 0
    assert "edge-agent[video]" not in capsys.readouterr().err
    monkeypatch.setattr("edge_agent.sources.video_damage.is_installed", lambda: False)
    assert main(["check", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "write transport: tcp, or pip install 'edge-agent[video]'" in said.out + said.err
