"""Digests of files: stated in a server's headers, listed in a SHA256SUMS file, or measured."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

import google_crc32c

BLOCK = 1 << 20

_HEADERS = ("X-Goog-Hash", "Repr-Digest", "Digest")  # Google Cloud Storage; RFC 9530; RFC 3230
_BYTES = {"crc32c": 4, "md5": 16, "sha256": 32, "sha512": 64}
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


def stated(headers: Message) -> dict[str, str]:
    """Return the digests (algorithm to hex) of the whole file that a response's headers state, also of a partial response."""
    found = {}
    for header in _HEADERS:
        for item in ",".join(headers.get_all(header, [])).split(","):
            algorithm, _, value = item.strip().partition("=")
            algorithm = algorithm.lower().replace("sha-", "sha")
            try:
                digest = base64.b64decode(value.strip(":"), validate=True)
            except ValueError:
                continue  # not base64: skipped
            if len(digest) == _BYTES.get(algorithm):
                found[algorithm] = digest.hex()
    return found


def measure(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Measure a file's digests (algorithm to hex) in one pass. Algorithms: crc32c, md5, sha256, sha512."""
    sums = {algorithm: _new(algorithm) for algorithm in algorithms}
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for checksum in sums.values():
                checksum.update(block)
    return {algorithm: checksum.digest().hex() for algorithm, checksum in sums.items()}


def parse_sums(text: str) -> dict[str, str]:
    """Parse what `sha256sum` writes: file name to SHA-256 (hex); other lines are skipped."""
    matches = (_SUMS_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[2]: match[1].lower() for match in matches if match}


def format_sums(sums: dict[str, str]) -> str:
    """Format digests by file name as `sha256sum -c` reads them."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _new(algorithm: str) -> hashlib._Hash | google_crc32c.Checksum:
    if algorithm == "crc32c":  # the only digest that Google Cloud Storage has of files uploaded in parts
        return google_crc32c.Checksum()
    return hashlib.new(algorithm, usedforsecurity=False)
