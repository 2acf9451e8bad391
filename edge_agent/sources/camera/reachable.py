"""Whether somebody listens where a camera's URL leads: a quick answer, in words, before FFmpeg waits for long."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

CONNECT_S = 1.0  # in one network; a router between adds milliseconds

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}


class Unreachable(Exception):
    """Nobody answers there, and what to look at."""


def require_reachable(url: str, timeout_s: float = CONNECT_S) -> None:
    """Connect once, and hang up. Raises Unreachable. Does nothing where it is not known how to connect."""
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
