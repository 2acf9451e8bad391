"""A real HTTP server of weight files on localhost that can fail as servers and networks do."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

import google_crc32c


@dataclass
class WeightsServer:
    """files: contents by path. asked: the requests, as (path, Range or None). The other fields are its faults."""

    url: str
    files: dict[str, bytes]
    states: Callable[[bytes], dict[str, str]] = lambda body: {}  # headers that state a digest
    cuts: list[int] = field(default_factory=list)  # body bytes the next answers stop after
    refusals: list[int] = field(default_factory=list)  # HTTP codes of the next answers
    redirects: dict[str, str] = field(default_factory=dict)
    length_off_by: int = 0
    chunked: bool = False
    content_type: str = "application/octet-stream"
    ranges: bool = True
    if_range: bool = True
    range_off_by: int = 0
    hold: threading.Event | None = None  # a cut answer stays open until this is set
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def asked_for(self, name: str) -> list[str | None]:
        """The Range headers of all requests for this path, in order."""
        return [ranged for path, ranged in self.asked if path == f"/{name}"]


@contextmanager
def serving(files: dict[str, bytes], tls: SSLContext | None = None) -> Iterator[WeightsServer]:
    """Serve until the block ends."""
    server = WeightsServer("", files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(server, self)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    if tls:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        if server.hold:
            server.hold.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _answer(server: WeightsServer, request: BaseHTTPRequestHandler) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the client may have had enough
        _serve(server, request)


def _serve(server: WeightsServer, request: BaseHTTPRequestHandler) -> None:
    ranged = request.headers["Range"]
    server.asked.append((request.path, ranged))
    request.close_connection = True
    if server.refusals:
        return _send(request, server.refusals.pop(0), {"Content-Length": "0"})
    if request.path in server.redirects:
        return _send(request, 302, {"Location": server.redirects[request.path], "Content-Length": "0"})
    body = server.files.get(request.path.lstrip("/"))
    if body is None:
        return _send(request, 404, {"Content-Length": "0"})
    etag = f'"{hashlib.sha1(body).hexdigest()}"'
    headers = {"ETag": etag, "Content-Type": server.content_type, **server.states(body)}
    start = 0
    if ranged and server.ranges and (request.headers["If-Range"] == etag or not server.if_range):
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) + server.range_off_by
        if start >= len(body):
            return _send(request, 416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    if server.chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(len(body) - start + server.length_off_by)
    _send(request, 206 if start else 200, headers)
    cut = server.cuts.pop(0) if server.cuts else None
    rest = body[start:][:cut]
    if server.chunked:
        for chunk in (rest[at : at + 5000] for at in range(0, len(rest), 5000)):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if cut is None:
            request.wfile.write(b"0\r\n\r\n")
    else:
        request.wfile.write(rest)
    if cut is not None and server.hold:
        server.hold.wait()


def _send(request: BaseHTTPRequestHandler, code: int, headers: dict[str, str]) -> None:
    request.send_response(code)
    for name, value in {**headers, "Connection": "close"}.items():
        request.send_header(name, value)
    request.end_headers()


def google(body: bytes) -> dict[str, str]:
    """As Google Cloud Storage states digests of a file that was uploaded at once."""
    return {"X-Goog-Hash": f"crc32c={_crc32c(body)},md5={_b64(hashlib.md5(body).digest())}"}


def google_composite(body: bytes) -> dict[str, str]:
    """As Google Cloud Storage states the digest of a file that was uploaded in pieces."""
    return {"x-goog-hash": f"crc32c={_crc32c(body)}"}


def repr_digest(body: bytes) -> dict[str, str]:
    """RFC 9530."""
    return {"Repr-Digest": f"unixsum=12, sha-256=:{_b64(hashlib.sha256(body).digest())}:"}


def old_digest(body: bytes) -> dict[str, str]:
    """RFC 3230."""
    return {"Digest": f"SHA-512={_b64(hashlib.sha512(body).digest())}"}


def _crc32c(body: bytes) -> str:
    return _b64(google_crc32c.Checksum(body).digest())


def _b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
