"""`edge-agent cameras` lists what there is and takes pictures of it; the doctor knows GenICam cameras."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edge_agent.cli import main
from edge_agent.sources.camera import search
from tests.agent import station, write_config
from tests.gentl import TestCamera
from tests.mjpeg import MjpegServer


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestCamera:
    folder = tmp_path / "camera"
    folder.mkdir()
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    monkeypatch.setattr(search, "DEVICES", tmp_path / "none")
    monkeypatch.setenv("GENTL_CAMERA", str(folder))
    return TestCamera(folder)


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["cameras", *arguments])
    return code, *capsys.readouterr()


def test_what_a_producer_finds_is_listed_and_a_picture_taken_of_it(
    fake: TestCamera, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(["--producer", fake.producer], capsys)
    assert (code, out) == (0, "genicam:4711             Test & Co One 'line 4'\n")
    code, out, _ = told(["--producer", fake.producer, "--snapshot", str(tmp_path / "out"), "--json"], capsys)
    assert code == 0
    assert json.loads(out) == {
        "address": "genicam:4711",
        "kind": "genicam",
        "name": "Test & Co One 'line 4'",
        "size": [64, 48],
        "fps": 50.0,
        "problem": None,
        "picture": str(tmp_path / "out" / "genicam_4711.png"),
    }
    assert cv2.imread(json.loads(out)["picture"]).shape == (48, 64, 3)


def test_a_camera_that_gives_no_picture_says_why_and_the_exit_code_too(
    fake: TestCamera, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.begins("busy")
    code, out, _ = told(["--producer", fake.producer, "--snapshot", str(tmp_path / "out")], capsys)
    assert code == 1
    assert "cannot be opened: another program has it open" in out


@pytest.mark.parametrize(
    ("producer", "why"),
    [
        (None, "GenICam cameras: no GenTL producer is known, as GENICAM_GENTL64_PATH is empty"),
        ("none.cti", "none.cti is not there: install the camera vendor's software"),
        ("camera/camera.xml", "camera.xml cannot be loaded ("),
    ],
)
def test_what_was_not_looked_for_is_said_beside_the_list(
    fake: TestCamera, tmp_path: Path, capsys: pytest.CaptureFixture[str], producer: str | None, why: str
) -> None:
    code, out, errors = told(["--producer", str(tmp_path / producer)] if producer else [], capsys)
    assert (code, out) == (0, "")
    assert why in errors
    assert "no camera was found" in errors


def test_usb_cameras_are_listed_by_the_names_that_stay_and_without_their_metadata(
    fake: TestCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for device, index in (("video0", "0"), ("video1", "1"), ("video10", "0"), ("video2", "0")):
        (tmp_path / "sys" / device).mkdir(parents=True)
        (tmp_path / "sys" / device / "index").write_text(index + "\n")
        (tmp_path / "sys" / device / "name").write_text(f"Webcam {device}\n")
    (tmp_path / "by-id").mkdir()
    os.symlink("/dev/video2", tmp_path / "by-id" / "usb-Webcam-index0")
    monkeypatch.setattr(search, "DEVICES", tmp_path / "sys")
    monkeypatch.setattr(search, "BY_ID", tmp_path / "by-id")
    _, out, _ = told([], capsys)
    assert [line.split()[0] for line in out.splitlines()] == [
        "/dev/video0",
        str(tmp_path / "by-id" / "usb-Webcam-index0"),
        "/dev/video10",
    ]
    assert "Webcam video2" in out


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer((200, 40, 70)) as server:
        yield server


def test_the_address_of_a_network_camera_is_tried(mjpeg: MjpegServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = told([mjpeg.url], capsys)
    assert (code, errors) == (0, "")
    assert out.startswith(f"{mjpeg.url} ")
    mjpeg.stop()
    code, out, errors = told([mjpeg.url], capsys)
    assert (code, errors) == (1, "")
    assert "nothing listens at port" in out
    assert told(["http://user:secret@host/"], capsys)[0] == 78


@pytest.mark.parametrize(
    ("keys", "state", "text"),
    [
        ({"trigger": {"software": True, "folder": "asked"}}, "ok", "genicam:4711 gives 64 x 48, "),
        ({"trigger": {"line": "Line0"}}, "ok", "is open with 64 x 48; no picture was started by Line0 meanwhile"),
        ({"gain": 99}, "failed", "genicam:4711 refuses Gain: 99; it takes numbers from 0 to 24 dB"),
        ({"camera": "genicam:1"}, "failed", "no camera has this serial number; there are 4711 (Test & Co One)"),
    ],
)
def test_the_doctor_opens_it_sets_its_features_and_fires_its_trigger(
    fake: TestCamera,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, object],
    state: str,
    text: str,
) -> None:
    from edge_agent.config.load import load_config

    source = {"camera": fake.address, "producer": fake.producer, **keys}
    config = load_config(write_config(tmp_path, station(source=source)))
    finding = next(config.stations[0].source.check("cam1", max_megapixels=100))
    assert (finding.state, text in finding.text) == (state, True), finding


def test_check_warns_of_a_producer_that_is_not_there(
    fake: TestCamera, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"camera": fake.address, "producer": str(tmp_path / "none.cti")}
    assert main(["check", "--config", str(write_config(tmp_path, station(source=source)))]) == 0
    said = capsys.readouterr()
    assert "none.cti is not there: install the camera vendor's software" in said.out + said.err
