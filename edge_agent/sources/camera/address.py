"""The address of a camera: a URL, a video device, a GStreamer pipeline, a GenICam camera or a video file. Opens nothing."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

Backend = Literal["ffmpeg", "v4l2", "gstreamer", "genicam"]

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "tcp")
GENICAM = "genicam:"  # before the serial number of a camera
PLACEHOLDER = "{password}"  # marks where the password goes, if not after the user

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SECRET = re.compile(r"(?:pass(?:word|wd)?|pwd|user-pw|token)\s*=\s*(?!\{password\})[^\s&!]", re.IGNORECASE)


def is_url(address: str) -> bool:
    """Return whether the address is a URL."""
    return bool(_URL.match(address))


def is_pipeline(address: str) -> bool:
    """Return whether the address is a GStreamer pipeline."""
    return not is_url(address) and "!" in address


def is_device(address: str) -> bool:
    """Return whether the address is a number, or a path in /dev."""
    return address.isdecimal() or address.startswith("/dev/")


def is_genicam(address: str) -> bool:
    """Return whether the address is a GenICam camera's serial number."""
    return address.startswith(GENICAM)


def serial_of(address: str) -> str:
    """Return the serial number in the address of a GenICam camera."""
    return address.removeprefix(GENICAM).strip()


def backend_of(address: str) -> Backend:
    """Return the backend that opens the address by default."""
    if is_genicam(address):
        return "genicam"
    return "gstreamer" if is_pipeline(address) else "v4l2" if is_device(address) else "ffmpeg"


def fault_of(address: str) -> str | None:
    """Return why this cannot be a camera's address, without showing what may be secret; None if it can."""
    if _SECRET.search(address):
        return (
            f"has a password in it, in plain text: write {PLACEHOLDER} in its place, and give password: {{file: PATH}}"
        )
    if is_genicam(address):
        return None if serial_of(address) else "names no serial number: edge-agent cameras lists what there is"
    if is_pipeline(address):
        return None if "appsink" in address else "is a pipeline without an end: let it end in ... ! appsink"
    if not is_url(address):
        return None
    try:
        url = urlsplit(address)
        port, host, password = url.port, url.hostname, url.password
    except ValueError:
        return "is not a valid URL: check the host and the port"
    if url.scheme not in SCHEMES:
        return f"begins with {url.scheme}://; wants one of {', '.join(SCHEMES)}"
    if password not in (None, PLACEHOLDER):
        return "has a password in it, in plain text: take it out, and give password: {file: PATH} beside it"
    if not host or port == 0:
        return "names no host: wants something like rtsp://USER@10.0.0.5/stream1"
    return None


def takes_password(address: str) -> bool:
    """Return whether the address has a place for a password."""
    return PLACEHOLDER in address or (is_url(address) and urlsplit(address).username is not None)


def with_password(address: str, password: str | None) -> str:
    """Return the address with the password; never log it. In a pipeline the password is quoted, as in user-pw={password}."""
    if password is None:
        return address
    if PLACEHOLDER in address:
        if is_pipeline(address):
            return address.replace(PLACEHOLDER, in_pipeline(password))
        return address.replace(PLACEHOLDER, quote(password, safe=""))
    url = urlsplit(address)
    user, _, host = url.netloc.rpartition("@")
    return urlunsplit(url._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def in_pipeline(word: str) -> str:
    """Return a value quoted for a GStreamer pipeline."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
