"""`edge-agent cameras`: the cameras of this machine, and a picture of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.exits import FAILED, OK

if TYPE_CHECKING:
    import numpy as np

    from edge_agent.sources.camera.config import CameraConfig
    from edge_agent.sources.camera.search import Listed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    cameras = commands.add_parser(
        "cameras", help="list the GenICam and USB cameras of this machine, or try the address of a network camera"
    )
    cameras.add_argument(
        "addresses",
        nargs="*",
        metavar="ADDRESS",
        help="try these instead, as written for camera: rtsp://..., http://...",
    )
    cameras.add_argument(
        "--producer",
        type=Path,
        metavar="FILE",
        help="GenTL producer (.cti) of the camera's vendor; default: those that GENICAM_GENTL64_PATH leads to",
    )
    cameras.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password of the user in ADDRESS")
    cameras.add_argument("--snapshot", type=Path, metavar="DIR", help="take a picture of each camera, and put it there")
    cameras.add_argument("--json", action="store_true", help="one JSON object a camera on stdout")
    cameras.set_defaults(run=_cameras)


def _cameras(options: argparse.Namespace) -> int:
    failed, count = False, 0
    for camera, config in _found(options):
        picture: Path | None = None
        if options.snapshot or options.addresses:
            from edge_agent.sources.camera.search import tried

            camera, pixels = tried(camera, config)
            failed |= pixels is None
            if pixels is not None and options.snapshot:
                picture = _write(options.snapshot, camera.address, pixels)
        count += 1
        _show(camera, picture, as_json=options.json)
    if not count:
        print("no camera was found", file=sys.stderr)
    return FAILED if failed else OK


def _found(options: argparse.Namespace) -> Iterator[tuple[Listed, CameraConfig]]:
    """Yield the cameras, and how to open each. What was not looked at is said on standard error."""
    from edge_agent.errors import ConfigError, EdgeAgentError
    from edge_agent.sources.camera.genicam.producers import missing_producer, producer_files, require_genicam
    from edge_agent.sources.camera.search import Listed, genicam_cameras, usb_cameras

    if options.addresses:
        yield from [
            (Listed(one.camera, _kind(one)), one) for one in [_config(text, options) for text in options.addresses]
        ]
        return
    producer = str(options.producer.absolute()) if options.producer else None
    try:
        require_genicam()
        if missing := missing_producer(producer):
            raise ConfigError(missing)
        for camera in genicam_cameras(producer_files(producer)):
            yield camera, _config(camera.address, options)
    except EdgeAgentError as error:
        print(f"GenICam cameras: {error}", file=sys.stderr)
    for camera in usb_cameras():
        yield camera, _config(camera.address, options)


def _kind(config: CameraConfig) -> str:
    return {"genicam": "genicam", "v4l2": "usb"}.get(config.chosen_backend, "network")


def _config(address: str, options: argparse.Namespace) -> CameraConfig:
    """Return how to open a camera. Raises ConfigError if the address is none."""
    from pydantic import ValidationError

    from edge_agent.errors import ConfigError
    from edge_agent.sources.camera.address import is_genicam
    from edge_agent.sources.camera.config import CameraConfig

    keys: dict[str, object] = {"camera": address}
    if options.producer and is_genicam(address):
        keys["producer"] = str(options.producer)
    if options.password_file:
        keys["password"] = {"file": str(options.password_file)}
    try:
        return CameraConfig.model_validate(keys)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{address} {one['msg']}" for one in error.errors())) from None


def _write(folder: Path, address: str, pixels: np.ndarray) -> Path:
    """Write a picture as PNG; return its path. Raises EdgeAgentError."""
    import cv2

    from edge_agent.io.files import write_durably, write_errors
    from edge_agent.io.names import file_part

    path = folder / f"{file_part(address.rpartition('@')[2].removeprefix('/dev/'), 'camera')}.png"
    with write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    return path


def _show(camera: Listed, picture: Path | None, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        print(json.dumps({**asdict(camera), "picture": str(picture) if picture else None}), flush=True)
        return
    size = f"{camera.size[0]} x {camera.size[1]}" if camera.size else ""
    rate = f"{camera.fps:.4g} pictures a second" if camera.fps else ""
    said = [camera.name, size, rate, camera.problem or "", str(picture) if picture else ""]
    print(f"{camera.address:24} {', '.join(filter(None, said))}".rstrip(), flush=True)
