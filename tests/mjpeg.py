"""An HTTP camera that sends JPEGs one after the other, as cheap ones do, on a free loopback port."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import cv2
import numpy as np

from tests.mosquitto import free_port


class MjpegServer:
    """Sends `colour`, (red, green, blue), with a moving bar, 20 times a second."""

    def __init__(self, colour: tuple[int, int, int]) -> None:
        self.port, self._colour = free_port(), colour
        self._server: ThreadingHTTPServer | None = None
        self._stopping = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, *, ignored: int = 0, late_s: float = 0.0) -> None:
        """Start serving. ignored: number of requests that are never answered; late_s: delay of the others in seconds."""
        stopping = self._stopping = Event()
        colour, to_ignore = self._colour, iter(range(ignored))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if next(to_ignore, None) is not None:
                    stopping.wait()
                    return
                stopping.wait(late_s)
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                while not stopping.is_set():
                    number += 1
                    picture = np.full((96, 128, 3), colour[::-1], np.uint8)
                    picture[80:, : number % 128] = 255
                    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.05)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
