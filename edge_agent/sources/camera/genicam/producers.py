"""GenTL producers: which .cti files there are, loading them, and the cameras that they find. Only a child process loads them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.sources.camera.reachable import Unreachable

PATH_VARIABLE = "GENICAM_GENTL64_PATH"  # vendors' installers set it to the folders of their producers
EXTRA = "pip install 'edge-agent[genicam]'"


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that a producer has found. index: among the cameras of the harvester that found it."""

    serial: str
    vendor: str
    model: str
    user_name: str
    index: int


def require_genicam() -> None:
    """Raise ConfigError if the extra is not installed."""
    for package in ("harvesters", "genicam"):
        if find_spec(package) is None:
            raise ConfigError(f"GenICam cameras need {package}, which is not installed: {EXTRA}")


def producer_files(producer: str | None) -> list[str]:
    """Return the files of the producers: the one that is given, else all in the folders of GENICAM_GENTL64_PATH."""
    if producer is not None:
        return [producer]
    folders = filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep))
    return sorted({str(file) for folder in folders for file in Path(folder).glob("*.cti")})


def missing_producer(producer: str | None) -> str | None:
    """Return why there is no producer to load, with a remedy; None if there is one."""
    if producer is not None and not os.path.isfile(producer):
        return f"the GenTL producer {producer} is not there: install the camera vendor's software, or correct producer:"
    if not producer_files(producer):
        folders = os.environ.get(PATH_VARIABLE)
        looked = (
            f"{PATH_VARIABLE} names no folder with a .cti file ({folders})" if folders else f"{PATH_VARIABLE} is empty"
        )
        return (
            f"no GenTL producer is known, as {looked}: install the camera vendor's software, and give its .cti file as"
            " producer:"
        )
    return None


class Producers:
    """The producers of one process, from construction on. They are loaded anew by each find()."""

    def __init__(self, files: Sequence[str]) -> None:
        """Check that the files can be loaded. Raises Unreachable."""
        from harvesters.core import Harvester

        log = logging.getLogger("edge_agent.genicam")  # what it would log is raised, or reported by the camera
        log.addHandler(logging.NullHandler())
        log.setLevel(logging.CRITICAL + 1)
        log.propagate = False
        self.harvester = Harvester(logger=log)
        for file in files:
            if missing := missing_producer(file):
                raise Unreachable(f"cannot be opened: {missing}")
            try:
                CDLL(file)
            except OSError as error:
                raise Unreachable(
                    f"cannot be opened: the GenTL producer {file} cannot be loaded ({error}): install the version for this"
                    " system and processor"
                ) from error
            self.harvester.add_file(file)

    def find(self) -> list[FoundCamera]:
        """Search for cameras; a camera that was open is closed. Raises Unreachable if no producer works."""
        from genicam import genapi, gentl

        try:
            self.harvester.update()
            worked = self.harvester.has_revised_device_info_list
        except (genapi.GenericException, gentl.GenericException):
            worked = False
        if not worked:
            raise Unreachable("cannot be opened: the GenTL producer fails to search for cameras, see its vendor's log")
        found = []
        for index, device in enumerate(self.harvester.device_info_list):
            known = device.property_dict
            vendor, model, serial, name = (
                str(known.get(key) or "") for key in ("vendor", "model", "serial_number", "user_defined_name")
            )
            found.append(FoundCamera(serial, vendor, model, name, index))
        return found

    def of_serial(self, serial: str) -> FoundCamera:
        """Search for one camera. Raises Unreachable, with what is there."""
        found = self.find()
        for camera in found:
            if camera.serial == serial:
                return camera
        if not found:
            raise Unreachable(
                "cannot be opened: the GenTL producer finds no camera at all: is it on, its cable plugged in, and a network"
                " camera's address in the network of this machine? Another program that has it open may hide it"
            )
        there = ", ".join(f"{camera.serial} ({camera.vendor} {camera.model})" for camera in found)
        raise Unreachable(f"cannot be opened: no camera has this serial number; there are {there}")
