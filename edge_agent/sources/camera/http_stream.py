"""Pictures of an HTTP camera: the parts of a multipart stream, or single pictures that are asked for again and again.

FFmpeg completes a JPEG that was cut in transit with the picture before, and refuses much that a browser shows. Here each
picture is taken as the bytes that were sent, and decoded whole or not at all. Other streams, such as MPEG-TS, are FFmpeg's.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from email.message import Message
from typing import Protocol
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import cv2
import httpx2
import numpy as np

from edge_agent.errors import PictureError
from edge_agent.io.pictures import decode_bytes, max_bytes
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Pace, Settings

POLL_FPS = 5.0  # how often a single picture is asked for where the config names no fps
UNREADABLE_S = 3.0  # a camera that gives nothing else for so long is lost
MOST_REDIRECTS = 3
MOST_HEADER = 1 << 14  # bytes
SNIFFED = 64  # bytes that tell what a server sends that does not say it

_HEADER_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*:")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]+)", re.IGNORECASE | re.MULTILINE)
_PICTURE = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"RIFF", b"II*\0", b"MM\0*")


class Video(Protocol):
    """An open camera, as cv2.VideoCapture is one."""

    def get(self, what: int) -> float: ...

    def set(self, what: int, value: float) -> bool: ...

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, np.ndarray | None]: ...

    def release(self) -> None: ...


def open_http(address: str, settings: Settings, timeout_s: float) -> HttpPictures | None:
    """Open an HTTP camera; return None if it gives what only FFmpeg reads.

    Args:
        address: http:// or https://, with user and password.
        settings: how to capture.
        timeout_s: seconds that the server may be silent.

    Raises:
        Unreachable: it gives nothing, or nothing that can be inspected; the message says why.
    """
    client = httpx2.Client(
        timeout=timeout_s, trust_env=False, headers={"Accept": "multipart/x-mixed-replace, image/*, */*"}
    )
    try:
        server = _Server(client, address)
        found = _reader(server, server.get(), settings)
        if found is None:
            client.close()
        return found
    except httpx2.HTTPError as error:
        client.close()
        if isinstance(error.__cause__ or error.__context__, ssl.SSLError) or "CERTIFICATE" in str(error):
            return None  # FFmpeg takes certificates that nobody has signed, as most cameras have
        raise Unreachable(_told(error)) from error
    except BaseException:
        client.close()
        raise


def _reader(server: _Server, response: httpx2.Response, settings: Settings) -> HttpPictures | None:
    content_type = Message()
    content_type["Content-Type"] = response.headers.get("Content-Type", "")
    kind, main = content_type.get_content_type(), content_type.get_content_maintype()
    declared = "Content-Type" in response.headers
    if declared and kind == "text/html":
        response.close()
        raise Unreachable("gives a web page, no pictures: correct the path in the address, see the camera's manual")
    if declared and main in ("audio", "video"):
        response.close()
        return None
    stream = _Bytes(response)
    begin = stream.peek(SNIFFED).lstrip(b"\r\n")
    if main == "multipart" or begin.startswith(b"--") or _HEADER_LINE.match(begin):
        boundary = content_type.get_param("boundary")
        return MultipartStream(server, stream, settings, boundary if isinstance(boundary, str) else None)
    if main == "image" or begin.startswith(_PICTURE):
        return Snapshots(server, stream, settings)
    response.close()
    return None


class _Server:
    """Asks for one address, with the user and the password in whichever way the server wants them."""

    def __init__(self, client: httpx2.Client, address: str) -> None:
        parts = urlsplit(address)
        self.client = client
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._auth: httpx2.Auth | None = None

    def get(self) -> httpx2.Response:
        """Return the response to a new request, with its content still to be read. Raises Unreachable, httpx2.HTTPError."""
        for _ in range(MOST_REDIRECTS):
            response = self._send()
            if response.status_code == 401 and self._auth is None and (auth := self._wanted(response)):
                response.close()
                self._auth = auth
                response = self._send()
            if not response.is_redirect:
                break
            response.close()
            target = urljoin(self._url, response.headers["Location"])
            if urlsplit(target).hostname != urlsplit(self._url).hostname:  # it is not told the password
                raise Unreachable(f"sends the agent on to {urlsplit(target).hostname}: give the address there")
            self._url = target
        if response.status_code == 401:
            response.close()
            raise Unreachable("answers 401 Unauthorized")
        if response.status_code >= 300:
            response.close()
            raise Unreachable(f"answers {response.status_code} {response.reason_phrase}")
        return response

    def _send(self) -> httpx2.Response:
        return self.client.send(self.client.build_request("GET", self._url), stream=True, auth=self._auth)

    def _wanted(self, response: httpx2.Response) -> httpx2.Auth | None:
        """Return how the server wants user and password; None where there is no user. Digest goes before Basic."""
        if not self._user:
            return None
        schemes = [value.split(" ")[0].lower() for value in response.headers.get_list("WWW-Authenticate")]
        if "digest" in schemes:
            return httpx2.DigestAuth(self._user, self._password)
        return httpx2.BasicAuth(self._user.encode(), self._password.encode())


class _Bytes:
    """The content of a response, as it comes."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response, self._chunks = response, response.iter_bytes()
        self.buffer = bytearray()

    def more(self) -> bool:
        """Wait for more bytes in the buffer; return False at the end."""
        chunk = next(self._chunks, b"")
        self.buffer += chunk
        return bool(chunk)

    def peek(self, count: int) -> bytes:
        """Return the first `count` bytes, or fewer at the end, without taking them."""
        while len(self.buffer) < count and self.more():
            pass
        return bytes(self.buffer[:count])

    def take(self, count: int) -> bytes:
        """Take `count` bytes from the buffer."""
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def close(self) -> None:
        self._response.close()


class HttpPictures:
    """A Video whose pictures come as whole files. pace: how they come."""

    pace = Pace.SENT

    def __init__(self, server: _Server, settings: Settings) -> None:
        self._server, self._settings = server, settings
        self._picture = b""
        self._is_first = True
        self._read_at, self._fault = time.monotonic(), ""
        self._size = (0, 0)

    def _start(self) -> None:
        """Wait for the first picture, which says how large they are. Raises Unreachable."""
        if not self._next():
            raise Unreachable("gives no picture")
        self.retrieve()

    def get(self, what: int) -> float:
        """See cv2.VideoCapture. The rate is not known, 0."""
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: self._size[0], cv2.CAP_PROP_FRAME_HEIGHT: self._size[1]}
        return float(sizes.get(what, 0))

    def set(self, what: int, value: float) -> bool:
        """See cv2.VideoCapture."""
        return False

    def grab(self) -> bool:
        """Wait for the next picture; return False at the end. Raises Unreachable."""
        if self._is_first:
            self._is_first = False
            return True
        if self._fault and time.monotonic() - self._read_at > UNREADABLE_S:
            raise Unreachable(f"gives only pictures that cannot be decoded ({self._fault})")
        try:
            return self._next()
        except httpx2.HTTPError as error:
            raise Unreachable(_told(error)) from error

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode the picture to (H, W, 3) uint8 BGR; (False, None) if it is not whole."""
        try:
            pixels = decode_bytes(self._picture, "the picture", max_megapixels=self._settings.max_megapixels)
        except PictureError as error:
            self._fault = str(error)
            return False, None
        self._read_at, self._fault, self._size = time.monotonic(), "", (pixels.shape[1], pixels.shape[0])
        return True, pixels[..., ::-1]

    def release(self) -> None:
        """Close the connection."""
        self._server.client.close()

    def _next(self) -> bool:
        """Read the next picture into self._picture; return False at the end."""
        raise NotImplementedError


class MultipartStream(HttpPictures):
    """The parts of a multipart/x-mixed-replace response, one picture each, however carelessly it is written.

    A part ends after its Content-Length, or at the next boundary, whichever comes first. The boundary is the one that is
    sent; the one that is announced is needed only if the first part has none.
    """

    def __init__(self, server: _Server, stream: _Bytes, settings: Settings, boundary: str | None) -> None:
        """Read the first part.

        Args:
            server: whom the connection is closed with.
            stream: the content of the response.
            settings: how to capture.
            boundary: as announced; None if it was not.

        Raises:
            Unreachable, httpx2.HTTPError: there is no first part.
        """
        super().__init__(server, settings)
        self._stream, self._most = stream, max_bytes(settings.max_megapixels)
        self._delimiter = f"--{boundary.lstrip('-')}".encode() if boundary else b"--"
        self._start()

    def _next(self) -> bool:
        header = self._header()
        if header is None:
            return False
        length = _LENGTH.search(header)
        body = self._body(int(length[1]) if length else None)
        if body is None:
            return False
        self._picture = body
        return True

    def _header(self) -> bytes | None:
        """Take the lines before a picture: boundary and headers; b"" if there are none, None at the end."""
        buffer, lines = self._stream.buffer, b""
        while len(lines) < MOST_HEADER:
            if self._stream.peek(4).startswith(_PICTURE):
                return lines
            end = buffer.find(b"\n")
            while end < 0:
                if len(buffer) > MOST_HEADER:
                    raise Unreachable("sends a multipart stream that cannot be read: its parts have no headers")
                if not self._stream.more():
                    return None
                end = buffer.find(b"\n")
            line = self._stream.take(end + 1)
            if line.startswith(b"--"):
                self._delimiter, lines = line.strip(), b""
                if len(self._delimiter) > 4 and self._delimiter.endswith(b"--"):  # the boundary at the very end
                    self._delimiter = self._delimiter[:-2]
            elif line.strip():
                lines += line
            elif lines:
                return lines
        raise Unreachable("sends a multipart stream that cannot be read: its headers do not end")

    def _body(self, length: int | None) -> bytes | None:
        """Take a picture. length: its Content-Length; None if there is none. Return None if the stream ends within it."""
        buffer, searched = self._stream.buffer, 0
        delimiter = b"\n" + self._delimiter
        while True:
            end = buffer.find(delimiter, max(0, searched - len(delimiter)), None if length is None else length)
            if end >= 0:
                return self._stream.take(end)
            if length is not None and len(buffer) >= length:
                return self._stream.take(length)
            searched = len(buffer)
            if searched > self._most:
                raise Unreachable("sends more bytes than any picture has: raise limits.max_megapixels")
            if not self._stream.more():
                return None


class Snapshots(HttpPictures):
    """Single pictures, asked for at the rate of the station."""

    pace = Pace.POLLED

    def __init__(self, server: _Server, stream: _Bytes, settings: Settings) -> None:
        """Read the picture that has come.

        Args:
            server: gives the further ones.
            stream: the content of the first response.
            settings: how to capture.

        Raises:
            Unreachable, httpx2.HTTPError: it could not be read.
        """
        super().__init__(server, settings)
        self._responses = self._all_responses(stream)
        self._pause_s, self._due_at = 1.0 / (settings.fps or POLL_FPS), 0.0
        self._start()

    def get(self, what: int) -> float:
        """See cv2.VideoCapture."""
        return 1.0 / self._pause_s if what == cv2.CAP_PROP_FPS else super().get(what)

    def _next(self) -> bool:
        time.sleep(max(0.0, self._due_at - time.monotonic()))
        self._due_at = max(self._due_at, time.monotonic() - self._pause_s) + self._pause_s
        stream, most = next(self._responses), max_bytes(self._settings.max_megapixels)
        try:
            self._picture = stream.peek(most + 1)
        finally:
            stream.close()
        if len(self._picture) > most:
            raise Unreachable("sends more bytes than any picture has: raise limits.max_megapixels")
        return True

    def _all_responses(self, first: _Bytes) -> Iterator[_Bytes]:
        yield first
        while True:
            yield _Bytes(self._server.get())


def _told(error: httpx2.HTTPError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "does not answer in time"
    return f"broke off the connection ({str(error) or type(error).__name__})"
