"""A service manager as sd_notify(3) sees it: a datagram socket, and the messages it received."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from tests.conftest import wait_until


class Manager:
    """address: the value for $NOTIFY_SOCKET. messages: (monotonic seconds, assignments) in the order of arrival."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.messages: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.sendto(b"", self.address)  # wakes the thread
        self._thread.join()
        self._socket.close()

    def values(self, key: str) -> list[str]:
        return [message[key] for _, message in list(self.messages) if key in message]

    def until(self, key: str, value: str, times: int = 1) -> None:
        wait_until(lambda: self.values(key).count(value) >= times, f"{key}={value}, {times} times")

    def pings_since(self, moment: float) -> int:
        return sum("WATCHDOG" in message for at, message in list(self.messages) if at >= moment)

    def _listen(self) -> None:
        while content := self._socket.recv(65536):
            words = dict(line.split("=", 1) for line in content.decode().split("\n"))
            self.messages.append((time.monotonic(), words))
