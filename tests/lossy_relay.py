"""Stands between an RTSP camera and its viewer on loopback: loses packets of RTP over UDP, or stalls a TCP connection."""

from __future__ import annotations

import random
import re
import select
import socket
import threading


class LossyRelay:
    """Listens at `url`. loss: share of the video packets that are lost, in [0, 1]; may be changed. lost: how many were.

    stalls: while it does, nothing is passed on over TCP, and the camera keeps on sending.
    """

    def __init__(self, camera_port: int, loss: float = 0.0) -> None:
        self.loss, self.lost, self.passed = loss, 0, 0
        self.stalls = False
        self._camera_port = camera_port
        self._random = random.Random(1)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._server.getsockname()[1]}/line"

    def __enter__(self) -> LossyRelay:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _start(self, work, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if select.select([self._server], [], [], 0.1)[0]:
                self._start(self._connection, self._server.accept()[0])

    def _connection(self, viewer: socket.socket) -> None:
        """Relay one RTSP session; in SETUP the relay's own ports stand in place of the viewer's."""
        ports: list[tuple[int, int]] = []  # of the relay, for the two of the viewer
        with viewer, socket.create_connection(("127.0.0.1", self._camera_port)) as camera:
            while not self._stopping.is_set():
                for ready in select.select([viewer, camera], [], [], 0.1)[0]:
                    try:
                        data = ready.recv(1 << 16)
                    except OSError:
                        return
                    if not data:
                        return
                    while self.stalls and not self._stopping.is_set():
                        self._stopping.wait(0.01)
                    if ready is viewer:
                        camera.sendall(
                            re.sub(rb"client_port=(\d+)-(\d+)", lambda found: self._own_ports(found, ports), data)
                        )
                    else:
                        for relayed, viewers in ports:
                            data = data.replace(b"client_port=%d" % relayed, b"client_port=%d" % viewers)
                        viewer.sendall(data)

    def _own_ports(self, found: re.Match[bytes], ports: list[tuple[int, int]]) -> bytes:
        viewers = int(found[1])
        while True:
            first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            first.bind(("127.0.0.1", 0))
            second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
                break
            except OSError:
                first.close()
                second.close()
        relayed = first.getsockname()[1]
        ports.append((relayed, viewers))
        self._start(self._datagrams, first, second, viewers)
        return b"client_port=%d-%d" % (relayed, relayed + 1)

    def _datagrams(self, video: socket.socket, control: socket.socket, viewers: int) -> None:
        with video, control:
            while not self._stopping.is_set():
                for ready in select.select([video, control], [], [], 0.1)[0]:
                    data = ready.recv(1 << 16)
                    if ready is control:
                        control.sendto(data, ("127.0.0.1", viewers + 1))
                    elif self._random.random() < self.loss:
                        self.lost += 1
                    else:
                        self.passed += 1
                        video.sendto(data, ("127.0.0.1", viewers))
