"""Entry points for bytes from outside: each takes any bytes, and raises AssertionError if the agent answers wrongly.

Any other exception is a finding, too: bad input has an error of its own.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import jsonschema
import numpy as np
from PIL import Image

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.config.load import load_config
from edge_agent.core import Evidence, OutboxRow, SavedFile
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.errors import CheckpointError, ConfigError, PictureError
from edge_agent.io.names import file_part, topic_level
from edge_agent.io.pictures import MIN_SIDE, decode_bytes
from edge_agent.line.calibration import read_calibration
from edge_agent.mqtt.messages import delivery, encode, result_message, schema, station_topic
from edge_agent.mqtt.triggers import LARGEST, LONGEST, parse
from tests.line import NOON, inspected
from tests.made import gradient

ROOT = Path(__file__).parents[2]


def picture(data: bytes) -> None:
    """A file in a watched folder."""
    try:
        pixels = decode_bytes(data, "picture", max_megapixels=1, min_side=MIN_SIDE)
    except PictureError as error:
        _names("picture: ", error)
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(pixels.shape[:2]) >= MIN_SIDE
    assert pixels.shape[0] * pixels.shape[1] <= 1e6


def config(data: bytes) -> None:
    """config.yaml."""
    path = _file("config.yaml", data)
    try:
        load_config(path)
    except ConfigError as error:
        _names(str(path), error)


def calibration(data: bytes) -> None:
    """A calibration file."""
    path = _file("calibration.json", data)
    try:
        read_calibration(path)
    except ConfigError as error:
        _names(str(path), error)


def checkpoint(data: bytes) -> None:
    """A file of prompts."""
    path = _file("prompts.safetensors", data)
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        _names(str(path), error)


def payload(data: bytes) -> None:
    """Names and texts that end up in topics, payloads and file names: of stations, parts, files, reasons."""
    station, part, reason, uri = (data.decode("utf-8", "surrogateescape").split("\0", 3) + [""] * 4)[:4]
    made = inspected(station=station or "cam1", part_id=part, reason=reason)
    made = replace(made, frame=replace(made.frame, origin=uri))
    message = result_message(made, Evidence(SavedFile(f"file:///{uri}", "0" * 64, 1), None))
    sent = json.loads(encode(delivery(OutboxRow(1, message, NOON, str(uuid4())), "box", False)))
    _results().validate(sent)
    place = station_topic("plant/line", "box", station, "result")
    assert place.startswith("plant/line/")
    assert place.endswith("/result")
    assert place.count("/") == 4
    assert not set("+#$\0 ") & set(place)
    assert topic_level(station) == place.split("/")[3]
    for text in (station, part):
        name = file_part(text)
        assert name not in ("", ".", "..")
        assert not set("/\\\0") & set(name)
        assert not name.startswith(".")
        assert len(name) <= 64


def command(data: bytes) -> None:
    """A message on the topic of commands."""
    found = parse(data)
    if isinstance(found, str):
        assert found
        return
    assert len(data) <= LARGEST
    for text in (found.station, found.trigger_id, found.part_id):
        assert text is None or (0 < len(text) <= LONGEST and text.isprintable())
    assert "/" not in found.file.path


ENTRIES: Mapping[str, Callable[[bytes], None]] = {
    entry.__name__: entry for entry in (picture, config, calibration, checkpoint, payload, command)
}


def seeds(name: str) -> list[bytes]:
    """Good inputs to start from."""
    if name == "picture":
        return [*_pictures()]
    if name == "config":
        return [(ROOT / "config.yaml").read_bytes(), (ROOT / "config.yaml").read_bytes().replace(b"#: ", b"")]
    if name == "calibration":
        return [json.dumps(_CALIBRATION).encode()]
    if name == "checkpoint":
        return [EMBEDDED_CHECKPOINT.read_bytes()[:4096], checkpoint_of(GOOD_HEADER)]
    if name == "command":
        return [b'{"station": "cam1", "trigger_id": "4711", "part_id": "SN123"}', b'{"station": "a", "trigger_id": 7}']
    return [b"cam1\0SN123\0cut off\0file:///a.png", "späne/鉄\0../..\0\n\0%00".encode()]


def _names(what: str, error: Exception) -> None:
    """Each line of an error has to begin with what it is about."""
    assert str(error)
    assert all(line.startswith(what) for line in str(error).splitlines()), error


@cache
def _results() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema("result"))


def _pictures() -> list[bytes]:
    made = []
    for kind, options in (
        ("png", {}),
        ("jpeg", {}),
        ("bmp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("webp", {}),
    ):
        file = io.BytesIO()
        Image.fromarray(gradient(20, 24)).save(file, kind, **options)
        made.append(file.getvalue())
    for samples in (gradient(20, 24).astype(np.uint16) * 257, gradient(20, 24)[..., 0].astype(np.uint16) * 257):
        made += [cv2.imencode(ending, samples)[1].tobytes() for ending in (".png", ".tiff")]
    return made


def checkpoint_of(said: object) -> bytes:
    """A file of one number whose header says this."""
    header = {
        "__metadata__": {"header": json.dumps(said)},
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


GOOD_HEADER: dict[str, Any] = {
    "format": "edge-agent/checkpoint/1", "method": "tipsomaly", "backbone": "embedded", "backbone_sha256": "0" * 64,
    "image_size": 112, "fitted_on": "x", "threshold": 0.5, "map_threshold": 0.5,
}  # fmt: skip
_CALIBRATION: dict[str, Any] = {
    "id": "c12", "threshold": 0.5, "false_alarm_rate": 0.01, "good_pictures": 100, "model_sha256": "0" * 64,
    "checkpoint_sha256": "1" * 64, "created": "2026-11-20T08:15:30Z",
}  # fmt: skip


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="edge-agent-fuzz-"))
