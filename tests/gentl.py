"""A GenICam camera with triggers, colour mosaics and faults, through a GenTL producer of our own that the C compiler makes."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SERIAL = "4711"
FORMATS = {
    "Mono8": 0x01080001, "Mono12": 0x01100005, "BayerRG8": 0x01080009, "BayerGB12": 0x01100012, "RGB8": 0x02180014,
    "BGR8": 0x02180015, "YUV422_8": 0x02100032,
}  # fmt: skip


@functools.cache
def _library() -> Path:
    compiler = shutil.which("cc") or pytest.skip(
        "no C compiler for the GenTL producer of the tests; Debian: apt install gcc"
    )
    folder = tempfile.mkdtemp(prefix="gentl-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Path(folder) / "camera.cti"
    source = Path(__file__).with_name("gentl_producer.c")
    command = [
        compiler,
        "-std=gnu11",
        "-O1",
        "-fPIC",
        "-shared",
        "-w",
        "-fvisibility=hidden",
        "-o",
        str(made),
        str(source),
    ]
    subprocess.run(command, check=True)
    return made


def _register(name: str, address: int, *, kind: str = "IntReg", length: int = 4, access: str = "RW") -> str:
    signed = "" if kind == "FloatReg" else "<Sign>Unsigned</Sign>"
    return (
        f'<{kind} Name="{name}Reg"><Address>{address}</Address><Length>{length}</Length><AccessMode>{access}</AccessMode>'
        f"<pPort>Device</pPort><Cachable>NoCache</Cachable>{signed}<Endianess>LittleEndian</Endianess></{kind}>"
    )


def _integer(name: str, address: int, low: int, high: int, step: int = 1) -> str:
    limits = f"<Min>{low}</Min><Max>{high}</Max><Inc>{step}</Inc>"
    return f'<Integer Name="{name}"><pValue>{name}Reg</pValue>{limits}</Integer>' + _register(name, address)


def _float(name: str, address: int, low: float, high: float, unit: str) -> str:
    limits = f"<Min>{low}</Min><Max>{high}</Max><Unit>{unit}</Unit>"
    register = _register(name, address, kind="FloatReg", length=8)
    return f'<Float Name="{name}"><pValue>{name}Reg</pValue>{limits}</Float>' + register


def _choice(name: str, address: int, **entries: int) -> str:
    listed = "".join(f'<EnumEntry Name="{key}"><Value>{value}</Value></EnumEntry>' for key, value in entries.items())
    return f'<Enumeration Name="{name}">{listed}<pValue>{name}Reg</pValue></Enumeration>' + _register(name, address)


def _command(name: str, address: int) -> str:
    return f'<Command Name="{name}"><pValue>{name}Reg</pValue><CommandValue>1</CommandValue></Command>' + _register(
        name, address
    )


def _features() -> str:
    nodes = [
        _integer("Width", 0, 16, 640, 4),
        _integer("Height", 4, 16, 480),
        _choice("PixelFormat", 8, **FORMATS),
        _integer("PayloadSize", 12, 0, 1 << 24),
        _command("AcquisitionStart", 16),
        _command("AcquisitionStop", 20),
        _choice("TriggerMode", 24, Off=0, On=1),
        _choice("TriggerSource", 28, Software=0, Line0=1),
        _command("TriggerSoftware", 32),
        _choice("TriggerSelector", 36, FrameStart=0, AcquisitionStart=1),
        _choice("ExposureAuto", 40, Continuous=0, Off=1),
        _integer("TLParamsLocked", 44, 0, 1),
        _float("ExposureTime", 48, 0.0, 10000.0, "us"),
        _float("Gain", 56, 0.0, 24.0, "dB"),
        _float("AcquisitionFrameRate", 64, 1.0, 200.0, "Hz"),
        _choice("AcquisitionMode", 72, SingleFrame=1, Continuous=0),
        _integer("GevSCPSPacketSize", 76, 0, 9000, 4),
    ]
    return _description("".join(nodes))


def _description(nodes: str) -> str:
    return (
        '<?xml version="1.0"?><RegisterDescription ModelName="One" VendorName="Test" StandardNameSpace="None"'
        ' SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1" MinorVersion="0"'
        ' SubMinorVersion="0" ProductGuid="1" VersionGuid="1" xmlns="http://www.genicam.org/GenApi/Version_1_1">'
        f'{nodes}<Port Name="Device"/></RegisterDescription>'
    )


class TestCamera:
    """The camera 4711. keys: of the source of a station, without those that a test gives. See gentl_producer.c for faults."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """Write its features into a folder, which $GENTL_CAMERA has to name to the producer."""
        self.folder = folder
        (folder / "camera.xml").write_text(_features())
        (folder / "module.xml").write_text(_description(""))
        self.address, self.producer = f"genicam:{SERIAL}", str(_library())

    def begins(self, fault: str, content: str = "") -> None:
        """Let a fault begin: unplugged, incomplete, hang, crash, busy, late_ms."""
        (self.folder / fault).write_text(content)

    def ends(self, fault: str) -> None:
        """Let a fault end."""
        (self.folder / fault).unlink()
