"""Pictures made to eat memory or time: small files that claim, or unpack to, far more than they hold. All stay within bounds."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.made import gradient, png, png_of

SPENT_MB = 150  # beyond what Python and the decoders take themselves; the largest picture allowed here is 60
MEGAPIXELS = 20

DECODE = """
import json, resource, sys, time
from edge_agent.errors import PictureError
from edge_agent.io.pictures import decode
decode(sys.argv[1])
for path in sys.argv[2:]:
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    try:
        said = str(decode(path, max_megapixels=%d).shape)
    except PictureError as error:
        said = str(error)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss
    print(json.dumps([path, said, spent / 1024, time.process_time() - begun]))
"""


def squeezed(byte: bytes, count: int) -> bytes:
    """So many megabytes of one byte, deflated: one megabyte that refers to nothing before it, again and again."""
    compressor, checksum = zlib.compressobj(6, wbits=-15), 1
    megabyte = byte * (1 << 20)
    deflated = compressor.compress(megabyte) + compressor.flush(zlib.Z_FULL_FLUSH)
    for _ in range(count):
        checksum = zlib.adler32(megabyte, checksum)
    return b"\x78\x9c" + deflated * count + b"\x03\x00" + struct.pack(">I", checksum)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(extra: bytes) -> bytes:
    """A good PNG with one more chunk behind its header."""
    good = png(gradient(32, 32))
    return good[:33] + extra + good[33:]


def tiff(width: int, height: int, *more: tuple[int, int, int, int]) -> bytes:
    """A TIFF header that says so; more: further entries (tag, type, count, value)."""
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100), *more,
    ]  # fmt: skip
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    data = squeezed(b"\0", 1)[:100].ljust(100, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + body + b"\0\0\0\0"


def webp(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def jpeg(width: int, height: int) -> bytes:
    sizes = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(sizes) + 2) + sizes + b"\xff\xd9"


BOMBS: dict[str, Callable[[], bytes]] = {
    "more rows than claimed.png": lambda: png_of(64, 64, 8, 0, squeezed(b"\0", 300)),
    "a huge claim.png": lambda: png_of(2**31 - 1, 2**31 - 1, 8, 2, b""),
    "a huge true one.png": lambda: png_of(20_000, 20_000, 8, 0, squeezed(b"\0", 382)),
    "a text that unpacks.png": lambda: with_chunk(chunk(b"zTXt", b"note\0\0" + squeezed(b"a", 300))),
    "a profile that unpacks.png": lambda: with_chunk(chunk(b"iCCP", b"sRGB\0\0" + squeezed(b"\0", 300))),
    "many texts.png": lambda: with_chunk(b"".join(chunk(b"tEXt", b"n%d\0" % n + b"a" * 1000) for n in range(20_000))),
    "a huge claim.tif": lambda: tiff(60_000, 60_000),
    "a huge tile.tif": lambda: tiff(64, 64, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8), (325, 4, 1, 100)),
    "many samples.tif": lambda: tiff(4000, 4000, (338, 3, 1, 0))[:-4].replace(
        struct.pack("<HHII", 277, 3, 1, 1), struct.pack("<HHII", 277, 3, 1, 60_000)
    ),
    "a huge strip.tif": lambda: tiff(64, 64).replace(
        struct.pack("<HHII", 279, 4, 1, 100), struct.pack("<HHII", 279, 4, 1, 2**32 - 1)
    ),
    "a huge claim.webp": lambda: webp(16_384, 16_384),
    "a huge claim.bmp": lambda: bmp(2**31 - 1, 2**31 - 1),
    "upside down.bmp": lambda: bmp(60_000, -60_000),
    "a huge claim.jpg": lambda: jpeg(65_535, 65_535),
}  # fmt: skip


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, float]]:
    """What each bomb, decoded in one process after a good picture, was said of, and its megabytes and seconds."""
    folder = tmp_path_factory.mktemp("bombs")
    good = folder / "good.png"
    good.write_bytes(png(gradient(32, 32)))
    for name, make in BOMBS.items():
        (folder / name).write_bytes(make())
    assert all((folder / name).stat().st_size < 25e6 for name in BOMBS)
    paths = [good, *(folder / name for name in BOMBS)]
    done = subprocess.run(
        [sys.executable, "-c", DECODE % MEGAPIXELS, *paths],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(path).name: (said, megabytes, seconds) for path, said, megabytes, seconds in told}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_read_within_bounds(name: str, spent: dict[str, tuple[str, float, float]]) -> None:
    said, megabytes, _ = spent[name]
    assert megabytes < SPENT_MB, said
    assert name in said or said == "(32, 32, 3)" or said == "(64, 64, 3)", said


def test_what_claims_too_much_is_refused_for_it(spent: dict[str, tuple[str, float, float]]) -> None:
    assert "400 megapixels where 20 are allowed" in spent["a huge true one.png"][0]
    for name in ("a huge claim.tif", "a huge claim.webp", "a huge claim.jpg", "upside down.bmp"):
        assert "megapixels where 20 are allowed" in spent[name][0]
