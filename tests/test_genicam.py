"""GenICam cameras through the simulated producer of the genicam wheel: three cameras, in each of which a coloured ball moves."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import genicam
import numpy as np
import pytest

from edge_agent.config.load import load_config
from edge_agent.errors import ConfigError
from edge_agent.sources.camera.genicam.features import Features
from edge_agent.sources.camera.genicam.pixels import is_understood, to_bgr
from edge_agent.sources.camera.genicam.producers import Producers
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Settings
from tests.conftest import wait_until
from tests.test_camera import Watcher, camera, captures

PRODUCER = str(Path(genicam.__file__).with_name("viky.cti"))
RED, GREEN, BLUE = "genicam:0", "genicam:1", "genicam:2"
FAST = {"AcquisitionFrameRate": 100}


def ball(pixels: np.ndarray) -> tuple[int, ...]:
    """Return the colour of what is not background, which is white."""
    coloured = pixels[pixels.min(axis=2) < 128]
    return tuple(int(value) for value in coloured.mean(axis=0))


def lost(**keys: object) -> str:
    """Return why a camera cannot be used."""
    with Watcher(camera(GREEN, **{"producer": PRODUCER, **keys})) as seen:
        seen.is_tried_again()
        return str(seen.source.status().reason)


def test_two_cameras_of_one_producer_give_their_colours_at_once() -> None:
    keys = {"producer": PRODUCER, "features": FAST}
    with Watcher(camera(RED, **keys)) as red, Watcher(camera(BLUE, **keys)) as blue:
        red.sees(3)
        blue.sees(3)
        assert ball(red.frames[0].pixels) == (255, 0, 0)
        assert ball(blue.frames[0].pixels) == (0, 0, 255)
        assert red.frames[0].pixels.shape == (400, 400, 3)
        counts = red.source.counts()
    assert counts.captured >= 3


def test_a_capture_that_is_killed_is_replaced_and_its_pictures_are_right_again() -> None:
    with Watcher(camera(GREEN, producer=PRODUCER, features=FAST)) as seen:
        seen.sees(3)
        (pid,) = captures()
        os.kill(pid, signal.SIGKILL)
        assert ball(seen.comes_back().pixels) == (0, 255, 0)
        wait_until(lambda: seen.source.counts().events["losses"] == 1, "the loss is counted")
        wait_until(lambda: captures() not in ([], [pid]), "another process captures")


def test_features_and_pixel_format_are_set_and_gray_becomes_three_equal_channels() -> None:
    keys = {"pixel_format": "Mono8", "features": {"Width": 120, "Height": 100, **FAST}, "rotate": 90}
    with Watcher(camera(GREEN, producer=PRODUCER, **keys)) as seen:
        seen.sees()
        pixels = seen.frames[0].pixels
    assert pixels.shape == (120, 100, 3)
    assert (pixels == pixels[..., :1]).all()


@pytest.fixture(scope="module")
def features() -> Iterator[Features]:
    producers = Producers([PRODUCER])
    camera = producers.harvester.create(producers.of_serial("2").index)
    yield Features(camera.remote_device.node_map)
    camera.destroy()
    producers.harvester.reset()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"features": {"Width": "33"}}, "refuses Width: 33; it takes whole numbers from 100 to 800"),
        ({"features": {"Width": "wide"}}, "refuses Width: wide; it takes whole numbers from 100 to 800"),
        ({"features": {"BouncingBallSize": "0x100"}}, "refuses BouncingBallSize: 0x100; it takes whole numbers from 1 to 40"),
        ({"features": {"AcquisitionFrameRate": "500"}}, "refuses AcquisitionFrameRate: 500; it takes numbers from 1 to 200 Hz"),
        ({"features": {"Widht": "200"}}, "has no feature Widht; did you mean Width?"),
        ({"features": {"AspectRatio": "2.0"}}, "does not let AspectRatio be set now"),
        ({"features": {"AcquisitionStop": "3"}}, "has the command AcquisitionStop, which takes no value: write AcquisitionStop: true"),
        ({"features": {"EventSelector": "None"}}, "refuses EventSelector: None; it takes GameProgress"),
        ({"features": {"ChunkModeActive": "2"}}, "refuses ChunkModeActive: 2; it takes true or false"),
        ({"pixel_format": "BayerRG8"}, "refuses PixelFormat: BayerRG8; it takes RGBa8, Mono8"),
        ({"exposure_us": 500}, "has no feature ExposureTime"),
        ({"trigger_source": "Line0"}, "has no feature TriggerSource"),
        ({"packet_size": 1500}, "has no feature GevSCPSPacketSize"),
    ],
)  # fmt: skip
def test_a_refused_feature_is_named_with_the_value_and_what_it_takes(
    features: Features, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(Unreachable, match=re.escape(told)):
        features.set_up(Settings("genicam", **settings))


def test_numbers_switches_entries_and_commands_are_set_as_they_are_written(features: Features) -> None:
    written = {
        "Width": "0x80", "Height": "200.0", "AcquisitionFrameRate": "50", "ChunkModeActive": "On", "GenDCStreamingMode": "Off",
        "FancyBallOperation": "true",
    }  # fmt: skip
    features.set_up(Settings("genicam", features=written, pixel_format="Mono8"))
    assert (features.number("Width"), features.number("Height"), features.number("AcquisitionFrameRate")) == (
        128,
        200,
        50,
    )
    assert features.node("ChunkModeActive").value is True
    assert features.node("PixelFormat").value == "Mono8"


def test_a_camera_that_refuses_is_tried_again_and_says_why() -> None:
    assert lost(features={"Width": 33}) == "refuses Width: 33; it takes whole numbers from 100 to 800"


def test_a_serial_number_that_is_not_there_is_told_with_those_that_are() -> None:
    with Watcher(camera("genicam:77", producer=PRODUCER)) as seen:
        seen.is_tried_again()
        told = str(seen.source.status().reason)
    assert "no camera has this serial number; there are 0 (Machine Vision Games Ltd. Viky), 1 (" in told


def test_a_producer_that_is_missing_or_no_library_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    with pytest.raises(
        ConfigError, match=r"station cam1: the GenTL producer .*none\.cti is not there: install the camera"
    ):
        camera(GREEN, producer=str(tmp_path / "none.cti"))
    with pytest.raises(ConfigError, match="no GenTL producer is known, as GENICAM_GENTL64_PATH is empty: install"):
        camera(GREEN)
    broken = tmp_path / "broken.cti"
    broken.write_text("no library")
    assert "broken.cti cannot be loaded (" in lost(producer=str(broken))


def test_the_variable_that_vendors_set_leads_to_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"/nowhere:{Path(PRODUCER).parent}")
    with Watcher(camera(GREEN, features=FAST)) as seen:
        seen.sees()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{camera: 'genicam:'}", "camera: names no serial number: edge-agent cameras lists what there is"),
        ("{camera: 'rtsp://host/x', gain: 3}", "has gain, which is for a GenICam camera: camera: genicam:SERIAL"),
        ("{camera: genicam:1, size: [640, 480]}", "has size, which has no use for a GenICam camera"),
        ("{camera: 0, trigger: {software: true}}", "trigger: software and line are for a GenICam camera"),
        ("{camera: genicam:1, trigger: {software: true, line: Line0}}", "line: and software exclude each other"),
        ("{camera: genicam:1, trigger: {software: true}}", "trigger: mqtt wants a broker"),
        ("{camera: genicam:1, features: {Exposure Time: 3}}", "features"),
    ],
)
def test_each_mistake_with_a_genicam_camera_has_its_sentence(tmp_path: Path, source: str, told: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"stations: [{{name: cam1, source: {source}}}]")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value)


# Pixel formats, against a picture whose four quarters are red, green, blue and gray

QUARTERS = np.array([[[200, 0, 0], [0, 150, 0]], [[0, 0, 250], [100, 100, 100]]], np.uint8)
COLOURS = QUARTERS.repeat(8, axis=0).repeat(8, axis=1)  # (16, 16, 3) RGB
BAYER = {"BayerRG": "RGGB", "BayerGR": "GRBG", "BayerGB": "GBRG", "BayerBG": "BGGR"}


def mosaic(order: str) -> np.ndarray:
    """Return what a sensor sees of COLOURS. order: of the colours of its first two rows."""
    seen = np.empty(COLOURS.shape[:2], np.uint8)
    for place, colour in enumerate(order):
        seen[place // 2 :: 2, place % 2 :: 2] = COLOURS[place // 2 :: 2, place % 2 :: 2, "RGB".index(colour)]
    return seen


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("name", BAYER)
def test_a_colour_mosaic_becomes_its_colours(name: str, depth: int) -> None:
    samples = mosaic(BAYER[name])
    deep = samples if depth == 8 else np.round(samples / 255 * (2**depth - 1)).astype(np.uint16)
    picture = to_bgr(deep.reshape(-1), f"{name}{depth}", 16, 16)
    centres = picture[4::8, 4::8, ::-1]  # far from where the colours meet
    assert np.abs(centres.astype(int) - QUARTERS).max() <= 1


@pytest.mark.parametrize(
    ("name", "channels"), [("RGB8", (0, 1, 2)), ("BGR8", (2, 1, 0)), ("RGBa8", (0, 1, 2, 0)), ("BGRa8", (2, 1, 0, 0))]
)
def test_colours_have_their_order_whatever_that_of_the_format_is(name: str, channels: tuple[int, ...]) -> None:
    picture = to_bgr(COLOURS[..., list(channels)].reshape(-1), name, 16, 16)
    assert (picture[..., 2::-1] == COLOURS).all()


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_a_deep_gray_is_scaled_by_its_depth_and_not_by_what_the_picture_holds(depth: int) -> None:
    top = 2**depth - 1
    samples = np.array([0, top // 4, top // 2, top] * 4, np.uint16)
    assert to_bgr(samples, f"Mono{depth}", 4, 4)[0].tolist() == [0, 64, 127, 255]
    assert to_bgr(samples // 16, f"Mono{depth}", 4, 4).max() == 16


def test_padding_after_each_row_belongs_to_no_pixel() -> None:
    padded = np.pad(np.arange(12, dtype=np.uint8).reshape(3, 4), ((0, 0), (0, 2)), constant_values=99)
    assert (to_bgr(padded.reshape(-1), "Mono8", 4, 3, 2) == np.arange(12).reshape(3, 4)).all()


def test_a_format_that_is_not_understood_is_not_taken_for_another() -> None:
    assert not [name for name in ("YUV422_8", "Coord3D_C16", "Mono1p", "RGB565p") if is_understood(name)]
    assert is_understood("BayerGB12Packed")


def test_fewer_samples_than_the_size_needs_are_no_picture() -> None:
    with pytest.raises(ValueError, match="reshape"):
        to_bgr(np.zeros(100, np.uint8), "Mono8", 16, 16)
