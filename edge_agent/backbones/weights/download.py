"""Downloads one file from one http(s) address, resuming where the last attempt stopped; fetch.py verifies the file.

Beside FILE.part lies FILE.part.json with the server's description of the file, so that bytes of two versions never mix.
Uses urllib, which honours the system's certificates and proxies and adds no dependency.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edge_agent import __version__
from edge_agent.backbones.weights.digests import BLOCK, stated
from edge_agent.errors import CheckpointError
from edge_agent.io.backoff import Backoff

log = logging.getLogger(__name__)

Report = Callable[[int, "int | None"], None]  # bytes done, bytes in all where known

_LONGEST_PAUSE = 30.0  # seconds
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_NOT_THERE = {401, 403, 404, 410}  # some stores answer 403 for what they do not have


class Unreachable(CheckpointError):
    """A file cannot be downloaded; the message names the address and the reason."""


class NotThere(Unreachable):
    """The server answers, but has no such file, or refuses it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a download is retried.

    attempts: how many in a row may bring no new bytes. pause: seconds before the second one, doubled each time.
    timeout: seconds without a byte after which an attempt has failed.
    """

    attempts: int = 5
    pause: float = 1.0
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A downloaded file of the length that its source stated.

    stated: digests (algorithm to hex) that its source gives. pieced: assembled from several responses, so that damage may
    come from that.
    """

    origin: str
    stated: dict[str, str]
    pieced: bool = False


@dataclass(frozen=True, slots=True)
class _Description:
    """The first response's description of the file. total: bytes, None where not stated."""

    url: str
    validator: str | None
    total: int | None
    stated: dict[str, str]


class _Dropped(Exception):
    """A failure that another attempt may overcome. stale: the bytes received so far are to be discarded."""

    def __init__(self, reason: object, stale: bool = False) -> None:
        super().__init__(str(reason) or type(reason).__name__)
        self.stale = stale


def download(url: str, part: Path, report: Report, policy: RetryPolicy) -> Downloaded:
    """Download `url`, resuming what an earlier attempt of the same address left in `part`.

    Args:
        url: http(s) address.
        part: the file to write; it keeps the received bytes when this raises.
        report: called with bytes done and bytes in all, where known.
        policy: how long to retry.

    Raises Unreachable when the server refuses or the policy ends, CheckpointError when the disk has no room, OSError
    when writing fails.
    """
    opener = _opener()
    failures, furthest, pieced = 0, _so_far(url, part)[1], False
    while True:
        try:
            digests, start = _resume(opener, url, part, report, policy.timeout)
            return Downloaded(url, digests, pieced or start > 0)
        except _Dropped as error:
            if error.stale:
                discard(part)
            reached = _so_far(url, part)[1]
            failures = 0 if reached > furthest else failures + 1
            furthest, pieced = max(reached, furthest), True
            if failures >= policy.attempts:
                raise Unreachable(f"{url}: {error} (tried {failures} times)") from None
            log.warning("%s: %s; resuming from byte %d", url, error, reached)
            time.sleep(Backoff(policy.pause, _LONGEST_PAUSE, least=1.0).pause_s(failures))


def discard(part: Path) -> None:
    """Delete what was received of a file, and its description."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def check_room(folder: Path, origin: str, needed: int) -> None:
    """Raise CheckpointError when a disk has too little room.

    Args:
        folder: a folder on that disk.
        origin: what is to be stored, for the message.
        needed: bytes.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"{folder}: no room for {origin}: it needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free; "
            "make room, or choose another folder for models"
        )


def _resume(
    opener: urllib.request.OpenerDirector, url: str, part: Path, report: Report, timeout: float
) -> tuple[dict[str, str], int]:
    """Receive one response. Returns the stated digests and the byte that it resumed from."""
    note, start = _so_far(url, part)
    if note and start == note.total:
        return note.stated, start
    request = urllib.request.Request(url)
    if note and start and note.validator:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", note.validator)  # a file that has changed comes whole, as 200
    with _open(opener, request, timeout) as response:
        if response.status == 206 and note:
            if _range_start(response.headers) != start or _validator(response.headers) != note.validator:
                raise _Dropped("the file has changed on the server", stale=True)
        else:
            part.write_bytes(b"")
            start, note = 0, _Description(url, _validator(response.headers), response.length, stated(response.headers))
            _note_path(part).write_text(json.dumps(asdict(note)))
        _receive(response, part, note.total, start, report)
    return note.stated, start


def _receive(response: http.client.HTTPResponse, part: Path, total: int | None, start: int, report: Report) -> None:
    """Append the body to `part`, which holds `start` bytes of `total`."""
    if total is not None:
        check_room(part.parent, response.url, total - start)
    done = start
    report(done, total)
    with part.open("ab", buffering=0) as file:  # unbuffered: received bytes survive a kill
        for block in _blocks(response, None if total is None else total - start):
            _write(file, block)
            done += len(block)
            report(done, total)
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _Dropped(f"the connection ended after {done} of {total} bytes")


def _open(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float
) -> http.client.HTTPResponse:
    """Open a response that holds a file. Raises Unreachable, which is final, or _Dropped."""
    url = request.full_url
    request.add_header("User-Agent", f"edge-agent/{__version__}")
    request.add_header("Accept-Encoding", "identity")
    try:
        response = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(url, error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"{url}: {error.reason.verify_message}; if a proxy of yours signs for the internet, "
                "let SSL_CERT_FILE name its certificate"
            ) from None
        raise _Dropped(error.reason) from None
    except (http.client.InvalidURL, UnicodeError) as error:
        raise Unreachable(f"{url}: not an address ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(error) from None
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise NotThere(f"{url}: the answer is a web page, not a file; does the network ask for a login?")
    return response


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    status = f"HTTP {error.code} {error.reason}"
    if error.code == 416:  # we have more than the server has
        return _Dropped(status, stale=True)
    if error.code in _WORTH_ANOTHER_TRY:
        return _Dropped(status)
    return (NotThere if error.code in _NOT_THERE else Unreachable)(f"{url}: {status}")


def _blocks(response: http.client.HTTPResponse, expected: int | None) -> Iterator[bytes]:
    """Yield the body in blocks as they arrive, at most `expected` bytes."""
    left = BLOCK if expected is None else expected
    while left > 0:
        try:
            block = response.read1(min(BLOCK, left))
        except (OSError, http.client.HTTPException) as error:
            raise _Dropped(error) from None
        if not block:
            return
        if expected is not None:
            left -= len(block)
        yield block


def _write(file: IO[bytes], block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _opener() -> urllib.request.OpenerDirector:
    """Build an opener for http and https only: build_opener() would add ftp, file and data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _CarefulRedirects(),
    ):
        opener.add_handler(handler)
    return opener


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, never from https back to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise Unreachable(f"{req.full_url}: not following a redirect to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _so_far(url: str, part: Path) -> tuple[_Description | None, int]:
    """Return what an earlier attempt of this address left: its description and size in bytes; (None, 0) if nothing usable."""
    note = _read_note(part)
    return (note, _size(part)) if note and note.url == url else (None, 0)


def _validator(headers: Message) -> str | None:
    """Return what identifies this version of the file; a weak ETag does not promise equal bytes."""
    etag = headers["ETag"]
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _range_start(headers: Message) -> int | None:
    match = re.match(r"bytes (\d+)-", headers["Content-Range"] or "")
    return int(match[1]) if match else None


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> _Description | None:
    try:
        return _Description(**json.loads(_note_path(part).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # none yet, or truncated by a power cut: the download starts again


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0
