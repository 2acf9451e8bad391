"""A GenICam camera with triggers: each has its own picture; nothing that the camera or its producer does is a wrong one."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.sources.camera.genicam.camera import opened
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Settings
from edge_agent.sources.camera.triggers.software import SoftwareTriggers
from tests.agent import Daemon, station, write_config
from tests.conftest import wait_until
from tests.gentl import SERIAL, TestCamera
from tests.mosquitto import Mosquitto
from tests.test_camera import Watcher, camera, captures
from tests.test_trigger_mqtt import send


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestCamera:
    folder = tmp_path / "camera"
    folder.mkdir()
    monkeypatch.setenv("GENTL_CAMERA", str(folder))
    return TestCamera(folder)


def watched(fake: TestCamera, **keys: object) -> Watcher:
    return Watcher(camera(fake.address, producer=fake.producer, **keys))


def count_in(pixels: np.ndarray) -> int:
    """Return which trigger or picture it is, from 1."""
    return int(pixels[-4, -4, 0]) - 10


def is_open(seen: Watcher) -> None:
    wait_until(lambda: seen.source.status().up, "the camera is open", state=lambda: seen.source.status())


# Triggers


def test_each_command_fires_the_camera_and_gets_the_picture_of_its_own_firing(fake: TestCamera, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()
    trigger = {"software": True, "folder": str(asked), "timeout_s": 60}
    with watched(fake, trigger=trigger, exposure_us=5000, gain=3) as seen:
        is_open(seen)
        for number in range(1, 6):
            (asked / f"SN{number}.trg").touch()
            seen.sees(number)
        assert [frame.part_id for frame in seen.frames] == [f"SN{number}" for number in range(1, 6)]
        assert [count_in(frame.pixels) for frame in seen.frames] == [1, 2, 3, 4, 5]
        assert seen.source.counts().captured == 5  # it takes no picture by itself


def test_a_command_over_mqtt_fires_the_camera_and_its_verdict_is_on_that_picture(
    fake: TestCamera, tmp_path: Path, broker: Mosquitto
) -> None:
    source = {"camera": fake.address, "producer": fake.producer, "trigger": {"software": True, "timeout_s": 60}}
    evidence = {"originals": "all", "folder": str(tmp_path / "kept")}
    config = write_config(tmp_path, station(source=source), broker=broker, evidence=evidence)
    with Daemon(config, GENTL_CAMERA=str(fake.folder)) as daemon:
        daemon.until("is open: 64 x 48")
        daemon.until("hears plant/line/box/cmd/trigger")
        for number in (1, 2, 3):
            send(broker, {"station": "cam1", "trigger_id": f"T{number}", "part_id": f"SN{number}"})
            wait_until(lambda number=number: len(daemon.rows) == number, "the verdict is recorded")
        assert [(row["trigger_id"], row["part_id"]) for row in daemon.rows] == [
            ("T1", "SN1"),
            ("T2", "SN2"),
            ("T3", "SN3"),
        ]
        wait_until(lambda: all(row["image_uri"] for row in daemon.rows), "the pictures are kept")
        shown = [count_in(cv2.imread(row["image_uri"].removeprefix("file://"))) for row in daemon.rows]
    assert shown == [1, 2, 3]


def test_a_picture_that_comes_too_late_is_not_taken_for_that_of_the_next_part(fake: TestCamera, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()
    fake.begins("late_ms", "1800")
    with watched(fake, trigger={"software": True, "folder": str(asked), "timeout_s": 1.5}) as seen:
        is_open(seen)
        (asked / "A.trg").touch()
        seen.sees(1)
        assert "no picture within 1.5 s of the trigger" in str(seen.frames[0].fault)
        fake.begins("late_ms", "600")  # that of A would come before it
        (asked / "B.trg").touch()
        seen.sees(2)
        assert (seen.frames[1].part_id, count_in(seen.frames[1].pixels)) == ("B", 2)


def test_an_input_line_starts_each_picture_and_a_camera_that_waits_for_it_is_not_lost(fake: TestCamera) -> None:
    with watched(fake, trigger={"line": "Line0"}, timeout_s=1.5) as seen:
        is_open(seen)
        for number in range(1, 4):
            if number == 2:
                time.sleep(3)  # twice as long as a camera without a trigger may be silent
            fake.begins("pulse")
            seen.sees(number)
        assert [count_in(frame.pixels) for frame in seen.frames] == [1, 2, 3]
        assert seen.source.counts().events == {"attempts": 1, "losses": 0, "kills": 0}


# What may happen to a camera and to its producer


def test_a_camera_without_a_trigger_is_switched_from_the_trigger_that_a_program_before_has_left(
    fake: TestCamera,
) -> None:
    with watched(fake, features={"TriggerMode": "On", "TriggerSource": "Line0"}) as seen:
        seen.sees(2)


def test_incomplete_pictures_are_dropped_as_unreadable_and_told_where_there_are_no_others(fake: TestCamera) -> None:
    with watched(fake, features={"AcquisitionFrameRate": 20}) as seen:
        seen.sees(2)
        fake.begins("incomplete")
        wait_until(lambda: seen.source.counts().dropped.get("unreadable", 0) > 2, "they are counted")
        wait_until(lambda: "only incomplete pictures" in str(seen.source.status().reason), "it is told")
        fake.ends("incomplete")
        seen.comes_back()


@pytest.mark.parametrize("fault", ["hang", "crash"])
def test_a_producer_that_hangs_or_dies_is_ended_and_started_again(fake: TestCamera, fault: str) -> None:
    with watched(fake, timeout_s=2) as seen:
        seen.sees(2)
        (before,) = captures()
        fake.begins(fault)
        wait_until(lambda: not seen.source.status().up and before not in captures(), "its process is ended")
        fake.ends(fault)
        seen.comes_back()
        assert seen.source.counts().events["losses"] == 1


def test_a_camera_that_is_unplugged_is_told_at_once_and_is_back_when_it_is_plugged_in(fake: TestCamera) -> None:
    with watched(fake, trigger={"line": "Line0"}) as seen:
        is_open(seen)
        fake.begins("unplugged")
        wait_until(lambda: "finds no camera at all: is it on" in str(seen.source.status().reason), "it is told")
        fake.ends("unplugged")
        is_open(seen)
        fake.begins("pulse")
        seen.sees()
        assert seen.source.counts().events["kills"] == 0


# What is set and what comes, without a process


def taken(fake: TestCamera, **settings: object) -> np.ndarray:
    """Return a picture, RGB or gray."""
    wanted = Settings("genicam", producers=[fake.producer], **settings)  # type: ignore[arg-type]
    with opened(SERIAL, wanted, SoftwareTriggers(), lambda: None) as found:
        assert found.grab()
        read, picture = found.retrieve()
        assert read
        assert picture is not None
        return picture if picture.ndim == 2 else picture[..., ::-1]


@pytest.mark.parametrize("pixel_format", ["BayerRG8", "BayerGB12", "RGB8", "BGR8"])
def test_colours_come_as_they_are_seen(fake: TestCamera, pixel_format: str) -> None:
    picture = taken(fake, pixel_format=pixel_format).astype(int)
    assert picture.shape == (48, 64, 3)
    for place, colour in {(12, 16): (200, 0, 0), (12, 48): (0, 150, 0), (36, 16): (0, 0, 250)}.items():
        assert np.abs(picture[place] - colour).max() <= 1


def test_twelve_bits_of_gray_keep_their_range(fake: TestCamera) -> None:
    picture = taken(fake, pixel_format="Mono12")
    assert (picture[12, 48], picture[12, 16]) == (150, 0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pixel_format": "YUV422_8"}, "sends YUV422_8, which the agent does not read: set pixel_format to one of Mono8, Mono12"),
        ({"gain": 99}, "refuses Gain: 99; it takes numbers from 0 to 24 dB"),
        ({"exposure_us": 20000}, "refuses ExposureTime: 20000; it takes numbers from 0 to 10000 us"),
        ({"packet_size": 9001}, "refuses GevSCPSPacketSize: 9001; it takes whole numbers from 0 to 9000 in steps of 4"),
        ({"trigger_source": "Line9"}, "refuses TriggerSource: Line9; it takes Software, Line0"),
    ],
)  # fmt: skip
def test_what_the_camera_does_not_take_is_told(fake: TestCamera, settings: dict[str, object], told: str) -> None:
    with pytest.raises(Unreachable) as caught:
        taken(fake, **settings)
    assert told in str(caught.value)


def test_a_camera_that_another_program_has_open_is_told_so(fake: TestCamera) -> None:
    fake.begins("busy")
    with pytest.raises(Unreachable, match="another program has it open"):
        taken(fake)
