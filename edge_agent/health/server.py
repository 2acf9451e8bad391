"""Serves /metrics and /healthz over HTTP to this machine alone; knows nothing of what it serves."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
Health = Callable[[], tuple[bool, Mapping[str, object]]]  # whether it is well, and what else is to be said


@contextmanager
def serving(port: int, registry: CollectorRegistry, health: Health) -> Iterator[None]:
    """Answer on 127.0.0.1 until the end of the block. A port that is taken is logged: inspection goes on without.

    Args:
        port: 1 to 65535.
        registry: what /metrics shows.
        health: gives whether all is well, and what /healthz says.
    """
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), _handler(registry, health))
    except OSError as error:
        log.error(
            "health: port %d of %s cannot be had (%s): choose another health.port", port, LOOPBACK, error.strerror
        )
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    log.info("health: http://%s:%d/metrics and /healthz", LOOPBACK, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(registry: CollectorRegistry, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # for who connects and says nothing
        server_version, sys_version = "edge-agent", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                well, said = health()
                self._answer(200 if well else 503, "application/json", json.dumps(said).encode() + b"\n")
            else:
                self._answer(404, "text/plain", b"there is /metrics, and /healthz\n")

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, code: int, content_type: str, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            log.debug("health: " + format, *args)

    return Handler
