"""Serves /metrics and /healthz over HTTP to this machine alone; knows nothing of what it serves."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from edge_agent.io.backoff import Backoff

log = logging.getLogger(__name__)

TRY_AGAIN = Backoff(0.5, 30.0)  # a port that is taken
LOOPBACK = "127.0.0.1"
Health = Callable[[], tuple[bool, Mapping[str, object]]]  # whether it is well, and what else is to be said


@contextmanager
def serving(port: int, registry: CollectorRegistry, health: Health) -> Iterator[None]:
    """Answer on 127.0.0.1 until the end of the block. A port that is taken is logged and tried again: inspection goes on.

    Args:
        port: 1 to 65535.
        registry: what /metrics shows.
        health: gives whether all is well, and what /healthz says.
    """
    ended = threading.Event()
    opened = _opened(port, _handler(registry, health), failures=0)

    def serve() -> None:
        server, failures = opened, 1
        while server is None and not ended.wait(TRY_AGAIN.pause_s(failures)):
            server, failures = _opened(port, _handler(registry, health), failures), failures + 1
        if server is None:
            return
        log.info("health: http://%s:%d/metrics and /healthz", LOOPBACK, port)
        with server:
            threading.Thread(target=server.serve_forever, name="health-requests", daemon=True).start()
            ended.wait()
            server.shutdown()

    thread = threading.Thread(target=serve, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _opened(port: int, handler: type[BaseHTTPRequestHandler], failures: int) -> ThreadingHTTPServer | None:
    """Open the port; None if it cannot be had, which is logged the first time. failures: in a row, before this attempt."""
    try:
        return _Server((LOOPBACK, port), handler)
    except OSError as error:
        if not failures:
            log.error(
                "health: port %d of %s cannot be had (%s): choose another health.port, or end what uses it; "
                "it is tried again until then", port, LOOPBACK, error.strerror,
            )  # fmt: skip
        return None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a failure of one request; a client that hangs up is none."""
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError | TimeoutError):
            log.debug("health: the client hung up (%s)", error)
        else:
            log.error("health: a request failed", exc_info=error)


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
