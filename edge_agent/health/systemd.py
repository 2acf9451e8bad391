"""Reports to systemd how the agent is, as sd_notify(3) describes it; where no service manager listens, nothing happens."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """address: $NOTIFY_SOCKET, a path or @NAME; None where there is none. May be called from any thread."""

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._failed = False

    def send(self, *assignments: str) -> None:
        """Send `KEY=VALUE` lines, all in one message. A service manager that does not take them is no reason to stop."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(1.0)
                channel.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("the service manager cannot be reached, so it does not know how the agent is: %s", error)
            self._failed = True

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self.send("READY=1", status_line(status))

    def reloading(self) -> None:
        """The configuration is read again; ready() says that it is done."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The agent ends in good order."""
        self.send("STOPPING=1", status_line("finishing what was taken in"))


def status_line(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"


def notifier(environment: Mapping[str, str]) -> Notifier:
    return Notifier(environment.get("NOTIFY_SOCKET") or None)


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """After how many seconds without a sign of life systemd ends process `pid`; None: it does not watch it."""
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or not int(text) or environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(text) / 1e6
