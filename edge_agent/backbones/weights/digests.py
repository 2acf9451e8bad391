"""Digests of files: what a server states in its headers, what a SHA256SUMS file lists, and what a file really has."""

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
    """Digests (algorithm to hex) of the whole file that an answer's headers state, whichever part of it is sent."""
    found = {}
    for header in _HEADERS:
        for item in ",".join(headers.get_all(header, [])).split(","):
            algorithm, _, value = item.strip().partition("=")
            algorithm = algorithm.lower().replace("sha-", "sha")
            try:
                digest = base64.b64decode(value.strip(":"), validate=True)
            except ValueError:
                continue  # a digest that nobody can read is none
            if len(digest) == _BYTES.get(algorithm):
                found[algorithm] = digest.hex()
    return found


def measure(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Digests (algorithm to hex) of a file's bytes, in one pass. Algorithms: crc32c, md5, sha256, sha512."""
    sums = {algorithm: _new(algorithm) for algorithm in algorithms}
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for checksum in sums.values():
                checksum.update(block)
    return {algorithm: checksum.digest().hex() for algorithm, checksum in sums.items()}


def parse_sums(text: str) -> dict[str, str]:
    """File name to SHA-256 (hex) of what `sha256sum` writes; other lines are passed over."""
    matches = (_SUMS_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[2]: match[1].lower() for match in matches if match}


def format_sums(sums: dict[str, str]) -> str:
    """What `sha256sum -c` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _new(algorithm: str) -> hashlib._Hash | google_crc32c.Checksum:
    if algorithm == "crc32c":  # the only digest Google Cloud Storage has of files that were uploaded in pieces
        return google_crc32c.Checksum()
    return hashlib.new(algorithm, usedforsecurity=False)
