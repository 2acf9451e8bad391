"""Checks quickly whether a server listens at a URL, before FFmpeg waits for long."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

CONNECT_S = 1.0  # within one network; a router adds milliseconds

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}


class Unreachable(Exception):
    """No server answers; the message says what to check."""


def require_reachable(url: str, timeout_s: float = CONNECT_S) -> None:
    """Connect once and disconnect; do nothing if the port of the scheme is unknown. Raises Unreachable."""
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if port is None or parts.hostname is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout_s).close()
    except ConnectionRefusedError as error:
        raise Unreachable(f"nothing listens at port {port}: is it on, and the port right?") from error
    except socket.gaierror as error:
        raise Unreachable(f"its name is not known ({error.strerror}): correct it, or give its address") from error
    except TimeoutError as error:
        raise Unreachable("does not answer: is it on, is its cable plugged in?") from error
    except OSError as error:
        raise Unreachable(f"cannot be reached ({error.strerror}): is it on, is its cable plugged in?") from error
