"""Stored pictures become exactly the pixels they hold, or an error that says what is wrong; never half of them."""

from __future__ import annotations

import hashlib
import os
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from edge_agent.errors import PictureError
from edge_agent.io.pictures import MIN_SIDE, decode, decode_bytes, printable, read
from tests.made import gradient, png, png_of, unprivileged_folder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged files, on the way to the error

H, W = 37, 53
_random = np.random.default_rng(7)
GRAY8 = _random.integers(0, 256, (H, W), np.uint8)
RGB8 = _random.integers(0, 256, (H, W, 3), np.uint8)
RGBA8 = _random.integers(0, 256, (H, W, 4), np.uint8)
GRAY16 = _random.integers(0, 1 << 16, (H, W), np.uint16)
RGB16 = _random.integers(0, 1 << 16, (H, W, 3), np.uint16)
RGBA16 = _random.integers(0, 1 << 16, (H, W, 4), np.uint16)
SAMPLES = {"gray": GRAY8, "rgb": RGB8, "rgba": RGBA8, "gray16": GRAY16, "rgb16": RGB16, "rgba16": RGBA16}


def test_every_png_keeps_its_samples() -> None:
    for name, samples in SAMPLES.items():
        assert_pixels(png(samples), samples, name)
        assert_pixels(opencv(".png", samples), samples, name)
    assert_pixels(png(RGBA8[..., :2]), RGBA8[..., 0], "gray with alpha")
    assert_pixels(png(RGBA16[..., :2]), RGBA16[..., 0], "16-bit gray with alpha")


def test_png_of_few_colours_keeps_its_samples() -> None:
    black_and_white = Image.fromarray(GRAY8).convert("1")
    assert_pixels(pillow(black_and_white, "PNG"), np.array(black_and_white.convert("L")))
    palette = Image.fromarray(RGB8).convert("P", palette=Image.Palette.ADAPTIVE, colors=100)
    assert_pixels(pillow(palette, "PNG"), np.array(palette.convert("RGB")))
    assert_pixels(pillow(palette, "PNG", transparency=bytes(100)), np.array(palette.convert("RGB")))


@pytest.mark.parametrize("compression", [cv2.IMWRITE_TIFF_COMPRESSION_NONE, cv2.IMWRITE_TIFF_COMPRESSION_LZW, 8])
def test_every_tiff_of_opencv_keeps_its_samples(compression: int) -> None:
    for name, samples in SAMPLES.items():
        assert_pixels(opencv(".tiff", samples, cv2.IMWRITE_TIFF_COMPRESSION, compression), samples, name)


@pytest.mark.parametrize("order", "<>")
def test_every_raw_tiff_keeps_its_samples_in_both_byte_orders(order: str) -> None:
    for name, samples in SAMPLES.items():
        assert_pixels(tiff(samples, order), samples, name)
    assert_pixels(tiff(GRAY8, order, photometric=0), 255 - GRAY8, "white is zero")
    if order == "<":  # Pillow knows no other; it is refused.
        assert_pixels(tiff(GRAY16, order, photometric=0), 65535 - GRAY16, "white is zero, 16 bits")


def test_every_tiff_of_pillow_keeps_its_samples() -> None:
    palette = Image.fromarray(RGB8).convert("P")
    black_and_white = Image.fromarray(GRAY8).convert("1")
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        assert_pixels(pillow(GRAY8, "TIFF", compression=compression), GRAY8)
        assert_pixels(pillow(RGB8, "TIFF", compression=compression), RGB8)
        assert_pixels(pillow(RGBA8, "TIFF", compression=compression), RGBA8)
        assert_pixels(pillow(palette, "TIFF", compression=compression), np.array(palette.convert("RGB")))
    assert_pixels(pillow(black_and_white, "TIFF", compression="group4"), np.array(black_and_white.convert("L")))


def test_every_bmp_keeps_its_samples() -> None:
    for samples in (GRAY8, RGB8, RGBA8):
        assert_pixels(pillow(samples, "BMP"), samples)
        assert_pixels(opencv(".bmp", samples), samples)
    black_and_white = Image.fromarray(GRAY8).convert("1")
    assert_pixels(pillow(black_and_white, "BMP"), np.array(black_and_white.convert("L")))


def test_lossless_webp_keeps_its_samples() -> None:
    assert_pixels(pillow(RGB8, "WEBP", lossless=True), RGB8)
    assert_pixels(pillow(RGBA8, "WEBP", lossless=True, exact=True), RGBA8)
    assert_pixels(opencv(".webp", RGB8, cv2.IMWRITE_WEBP_QUALITY, 101), RGB8)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_pictures_come_back_nearly_as_they_were(kind: str) -> None:
    picture = gradient(64, 96)
    for options in ({}, {"progressive": True}) if kind == "JPEG" else ({},):
        decoded = decode_bytes(pillow(picture, kind, quality=95, **options), "picture")
        assert np.abs(decoded.astype(int) - picture).mean() < 4
        gray = decode_bytes(pillow(picture[..., 0], kind, quality=95, **options), "picture")
        assert np.abs(gray.astype(int) - picture[..., :1]).mean() < 4
    assert picture[0, -1, 0] != picture[0, -1, 2], "else the test would not notice red and blue in each other's place"


def test_a_file_of_several_pages_or_frames_is_refused_as_one_alone_would_be_inspected(tmp_path: Path) -> None:
    others = {"save_all": True, "append_images": [Image.fromarray(255 - RGB8)]}
    for kind, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        path = tmp_path / f"stack.{kind}"
        path.write_bytes(pillow(RGB8, kind, **others, **options))
        assert "2 pages or frames in one file: store each as a picture" in complaint(path)


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("thumbnail_first", [False, True])
def test_a_thumbnail_in_a_tiff_is_passed_over(deep: bool, thumbnail_first: bool) -> None:
    picture = RGB16 if deep else RGB8
    pages = [Image.fromarray(RGB8[::4, ::4]), Image.fromarray(RGB8)]
    tags = [TiffImagePlugin.ImageFileDirectory_v2(), TiffImagePlugin.ImageFileDirectory_v2()]
    tags[0][254] = 1
    if not thumbnail_first:
        pages, tags = pages[::-1], tags[::-1]
    if deep:  # Pillow cannot write these.
        both = [RGB8[::4, ::4], RGB16] if thumbnail_first else [RGB16, RGB8[::4, ::4]]
        encoded = bytearray(cv2.imencodemulti(".tiff", [page[..., ::-1].copy() for page in both])[1])
        mark_as_thumbnail(encoded, 0 if thumbnail_first else 1)
    else:
        with BytesIO() as file, TiffImagePlugin.AppendingTiffWriter(file) as writer:
            for page, tag in zip(pages, tags, strict=True):
                page.save(writer, "TIFF", tiffinfo=tag)
                writer.newFrame()
            encoded = bytearray(file.getvalue())
    assert_pixels(bytes(encoded), picture)


def test_colours_that_a_tiff_calls_invisible_are_inspected() -> None:
    transparent = RGBA8.copy()
    transparent[..., 3] = 0
    unassociated = struct.pack("<HHI", 338, 3, 1)
    associated = tiff(transparent).replace(unassociated + struct.pack("<H", 2), unassociated + struct.pack("<H", 1))
    assert associated != tiff(transparent)
    assert_pixels(associated, RGBA8)


@pytest.mark.parametrize("exif", [b"Exif\0\0Exif\0\0", b"Exif\0\0", b""], ids=["prefix twice", "prefix", "none"])
def test_side_information_is_read_however_its_program_has_begun_it(exif: bytes) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    exif += turned.tobytes().removeprefix(b"Exif\0\0")
    whole = png(RGB8)
    assert np.array_equal(decode_bytes(with_png_chunk(whole, b"eXIf", exif), "picture"), RGB8[::-1, ::-1])


def test_side_information_that_is_odd_or_long_does_not_keep_a_picture_from_being_read() -> None:
    whole = png(RGB8)
    for kind, body in (
        (b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03"),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_200_000))),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_800_000)),
    ):
        assert_pixels(with_png_chunk(whole, kind, body), RGB8, str(kind))
    assert_pixels(pillow(RGB8, "WEBP", lossless=True, exif=b"nonsense"), RGB8, "WebP")


@pytest.mark.parametrize("bits", [12, 16])
def test_the_range_of_values_tells_whether_a_camera_uses_twelve_bits_or_sixteen(bits: int) -> None:
    levels = sixteen_bits_of(GRAY8, bits)
    for encoded in (png(levels), tiff(levels)):
        assert np.array_equal(decode_bytes(encoded, "picture")[..., 0], GRAY8)


@pytest.mark.parametrize("bits", [8, 10, 14])
def test_a_range_that_a_darker_picture_of_more_bits_may_have_asks_for_the_bit_depth(tmp_path: Path, bits: int) -> None:
    levels = sixteen_bits_of(GRAY8, bits)
    (tmp_path / "part.png").write_bytes(png(levels))
    assert f"go up to {(1 << bits) - 1}, which does not tell" in complaint(tmp_path / "part.png")
    assert np.array_equal(decode(tmp_path / "part.png", bit_depth=bits)[..., 0], GRAY8)


def test_decoded_pictures_belong_to_the_caller() -> None:
    for samples in SAMPLES.values():
        pixels = decode_bytes(png(samples), "picture")
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous


def test_sixteen_bits_are_scaled_by_the_bit_depth_alone() -> None:
    samples = np.full((20, 20), 2048, np.uint16)
    samples[0, :4] = [0, 4095, 4096, 65535]
    for encoded in (png(samples), tiff(samples), png(np.dstack([samples] * 3))):
        twelve = decode_bytes(encoded, "picture", bit_depth=12)
        assert twelve[0, :4, 0].tolist() == [0, 255, 255, 255]
        assert twelve[10, 10].tolist() == [128, 128, 128], "brightness does not depend on what else the picture holds"
        sixteen = decode_bytes(encoded, "picture")
        assert sixteen[0, :4, 0].tolist() == [0, 16, 16, 255]
        assert sixteen[10, 10].tolist() == [8, 8, 8]


def test_alpha_is_dropped_and_hides_nothing() -> None:
    transparent = RGBA8.copy()
    transparent[..., 3] = 0
    assert_pixels(png(transparent), RGBA8)


def test_pictures_are_turned_upright_as_viewers_show_them() -> None:
    upright = gradient(24, 40)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1),
    }  # fmt: skip
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
            encoded = pillow(np.ascontiguousarray(pixels), kind, exif=exif, **options)
            assert_pixels(encoded, upright, f"{kind} {orientation}")
        jpeg = decode_bytes(pillow(np.ascontiguousarray(pixels), "JPEG", quality=100, exif=exif), "picture")
        assert jpeg.shape == upright.shape
        assert np.abs(jpeg.astype(int) - upright).mean() < 4, orientation
        deep = tiff(pixels.astype(np.uint16) * 257, orientation=orientation)
        assert_pixels(deep, upright, f"16-bit TIFF {orientation}")


@pytest.mark.parametrize("cut", [0.02, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("zeros", [False, True], ids=["cut off", "filled up with zeros"])
def test_half_a_picture_is_never_taken_for_a_whole_one(tmp_path: Path, cut: float, zeros: bool) -> None:
    picture = gradient(200, 300) ^ _random.integers(0, 4, (200, 300, 3), np.uint8)
    files = {
        "a.png": pillow(picture, "PNG"), "b.jpg": pillow(picture, "JPEG"),
        "c.jpg": pillow(picture, "JPEG", progressive=True), "d.png": png(picture.astype(np.uint16) << 8),
        "e.jpg": opencv(".jpg", picture, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    }  # fmt: skip
    if not zeros:  # Without a checksum, zeros may be what these were meant to hold.
        files |= {
            "f.bmp": pillow(picture, "BMP"), "g.tif": pillow(picture, "TIFF"), "h.webp": pillow(picture, "WEBP"),
            "i.tif": pillow(picture, "TIFF", compression="tiff_lzw"), "j.tif": tiff(picture.astype(np.uint16) << 8),
            "k.tif": opencv(".tiff", picture), "l.webp": pillow(picture, "WEBP", lossless=True),
        }  # fmt: skip
    for name, whole in files.items():
        kept = int(len(whole) * cut)
        (tmp_path / name).write_bytes(whole[:kept] + (bytes(len(whole) - kept) if zeros else b""))
        assert "cut off" in complaint(tmp_path / name)


def test_a_damaged_png_is_refused_whatever_its_decoder_would_make_of_it(tmp_path: Path) -> None:
    encoded = bytearray(png(RGB8))
    encoded[len(encoded) // 2] ^= 1
    (tmp_path / "part.png").write_bytes(encoded)
    assert "damaged" in complaint(tmp_path / "part.png")


def test_a_thumbnail_does_not_stand_in_for_the_end_of_a_jpeg(tmp_path: Path) -> None:
    picture = gradient(200, 300)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(inner := pillow(picture[::8, ::8], "JPEG"))) + inner
    whole = pillow(picture, "JPEG")
    whole = whole[:2] + thumbnail + whole[2:]
    assert decode_bytes(whole, "picture").shape == picture.shape
    (tmp_path / "part.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    assert "cut off" in complaint(tmp_path / "part.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty, 0 bytes"),
        (b"serial;result\n1;OK\n", r"not a picture, by its first bytes: store pictures as png"),
        (b"GIF89a" + bytes(100), "not a picture"),
        (b"BM", "cut off"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
    ],
)
def test_what_is_no_picture_is_named_as_such(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "part.png").write_bytes(content)
    assert words in complaint(tmp_path / "part.png")


def test_samples_without_a_fixed_scale_are_refused(tmp_path: Path) -> None:
    for samples in (GRAY16.astype(np.float32), GRAY16.astype(np.int32)):
        (tmp_path / "part.tiff").write_bytes(pillow(samples, "TIFF"))
        assert "no fixed scale" in complaint(tmp_path / "part.tiff")


def test_a_layout_that_one_decoder_misreads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part.tiff").write_bytes(tiff(RGB16, planes_apart=True))
    assert "store it as png" in complaint(tmp_path / "part.tiff")
    assert_pixels(tiff(RGB8, planes_apart=True), RGB8)


def test_a_picture_that_is_too_large_is_refused_before_memory_is_spent(tmp_path: Path) -> None:
    side = 20_000
    rows = zlib.compress(bytes(1 + side // 8) * side, 1)
    bombs = {
        "bomb.png": png_of(side, side, 1, 0, rows),
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        "bomb.tiff": tiff(RGB8, width=side, height=side),
        "bomb.jpg": pillow(RGB8, "JPEG").replace(struct.pack(">HH", H, W), struct.pack(">HH", side, side)),
        "bomb.webp": webp_header(16_000, 16_000),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        with memory_limited(50_000_000):
            words = complaint(tmp_path / name)
        assert "raise max_megapixels" in words
        assert "20000 x 20000" in words or "16000 x 16000" in words


def test_a_file_with_more_bytes_than_any_picture_is_known_by_its_first_mebibyte_and_not_kept(tmp_path: Path) -> None:
    huge = tmp_path / "huge.bmp"
    with huge.open("wb") as file:
        file.write(b"BM")
        file.truncate(30_000_000)
    with pytest.raises(PictureError, match="raise max_megapixels"):
        decode(huge, max_megapixels=1)
    stored, data = read(huge, max_bytes=1_000_000)
    assert data is None
    assert stored.sha256 == hashlib.sha256(huge.read_bytes()[: 1 << 20]).hexdigest()


def test_the_largest_allowed_picture_is_taken() -> None:
    assert decode_bytes(png(np.zeros((1000, 1000), np.uint8)), "picture", max_megapixels=1).shape == (1000, 1000, 3)


def test_one_pixel_decodes_but_is_too_small_to_inspect(tmp_path: Path) -> None:
    pixel = tmp_path / "pixel.png"
    pixel.write_bytes(png(RGB8[:1, :1]))
    assert np.array_equal(decode(pixel), RGB8[:1, :1])
    with pytest.raises(PictureError, match="1 x 1 pixels, too small to inspect"):
        decode(pixel, min_side=MIN_SIDE)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "vanished.png")
    assert "Is a directory" in complaint(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in complaint(tmp_path / "pipe.png")


def test_what_may_not_be_read_says_who_must_be_let() -> None:
    with unprivileged_folder() as folder:
        secret = folder / "secret.png"
        secret.write_bytes(png(RGB8))
        secret.chmod(0)
        assert f"let user {os.geteuid()}" in complaint(secret)


def test_names_that_are_not_utf8_can_be_told(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/part\xff.png")
    Path(odd).write_bytes(b"")
    assert r"part\xff.png" in complaint(Path(odd))
    stored, _ = read(odd, max_bytes=0)
    stored.path.encode()


def test_reading_tells_the_ledger_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(png(RGB8))
    stored, data = read(path, max_bytes=1 << 20)
    known = path.stat()
    assert (stored.path, stored.inode, stored.size, stored.mtime_ns) == (
        str(path), known.st_ino, known.st_size, known.st_mtime_ns,
    )  # fmt: skip
    assert data == path.read_bytes()
    assert stored.sha256 == hashlib.sha256(data).hexdigest()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_a_picture_error_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE), label="whole"))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8), label="places"):
        content[place] = data.draw(st.integers(0, 255), label="byte")
    del content[data.draw(st.integers(len(content) // 2, len(content)), label="cut") :]
    with suppress(PictureError):
        pixels = decode_bytes(bytes(content), "picture", max_megapixels=1)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


@contextmanager
def memory_limited(more_bytes: int) -> Iterator[None]:
    """So much more memory than now can be had inside the with."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def complaint(path: Path) -> str:
    """The error that decoding gives; it names the file, and what to do after the last colon."""
    with pytest.raises(PictureError) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{printable(path)}: ")
    assert str(caught.value).count(": ") >= 2
    return str(caught.value)


def assert_pixels(encoded: bytes, samples: np.ndarray, what: str = "") -> None:
    """The picture decodes to these samples: gray in all three channels, alpha dropped, 16 bits rounded to 8."""
    expected = np.dstack([samples] * 3) if samples.ndim == 2 else samples[..., :3]
    if samples.dtype == np.uint16:
        expected = np.round(expected * (255 / 65535)).astype(np.uint8)
    assert np.array_equal(decode_bytes(encoded, "picture"), expected), what


def pillow(picture: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(encoded := BytesIO(), kind, **options)
    return encoded.getvalue()


def opencv(suffix: str, samples: np.ndarray, *options: int) -> bytes:
    order = {2: slice(None), 3: [2, 1, 0], 4: [2, 1, 0, 3]}
    swapped = samples if samples.ndim == 2 else samples[..., order[samples.shape[2]]]
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(swapped), options)[1])


def tiff(
    samples: np.ndarray,
    order: str = "<",
    *,
    photometric: int | None = None,
    orientation: int = 1,
    planes_apart: bool = False,
    width: int | None = None,
    height: int | None = None,
) -> bytes:
    """An uncompressed TIFF of one strip (or one a plane), written byte by byte as the specification says."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    planes = [samples[..., i] for i in range(channels)] if planes_apart else [samples]
    strips = [np.ascontiguousarray(plane).astype(f"{order}u{samples.itemsize}").tobytes() for plane in planes]
    blocks = {  # What takes more than the 4 bytes of an entry lies before the pixels.
        "bits": struct.pack(f"{order}{channels}H", *[8 * samples.itemsize] * channels),
        "counts": struct.pack(f"{order}{len(strips)}I", *map(len, strips)),
        "offsets": bytes(4 * len(strips)),
    }
    entries_size = 8 + 2 + 12 * 11 + 4
    starts = [entries_size + 64 + sum(map(len, strips[:i])) for i in range(len(strips))]
    blocks["offsets"] = struct.pack(f"{order}{len(strips)}I", *starts)
    places, spare = {}, b""
    for name, block in blocks.items():
        places[name] = entries_size + len(spare)
        spare += block

    def entry(tag: int, kind: int, count: int, name_or_value: str | int) -> bytes:
        size = {3: 2, 4: 4}[kind] * count
        head = struct.pack(f"{order}HHI", tag, kind, count)
        if isinstance(name_or_value, int):
            return head + struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", name_or_value)
        if size <= 4:
            return head + blocks[name_or_value].ljust(4, b"\0")
        return head + struct.pack(f"{order}I", places[name_or_value])

    if photometric is None:
        photometric = 1 if channels == 1 else 2
    entries = [
        entry(256, 4, 1, width or samples.shape[1]),
        entry(257, 4, 1, height or samples.shape[0]),
        entry(258, 3, channels, "bits"),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, photometric),
        entry(273, 4, len(strips), "offsets"),
        entry(274, 3, 1, orientation),
        entry(277, 3, 1, channels),
        entry(279, 4, len(strips), "counts"),
        entry(284, 3, 1, 2 if planes_apart else 1),
        entry(338, 3, 1, 2) if channels == 4 else entry(296, 3, 1, 1),
    ]
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return header + directory + spare.ljust(64, b"\0") + b"".join(strips)


def sixteen_bits_of(gray: np.ndarray, bits: int) -> np.ndarray:
    """The same picture as a camera of so many bits gives it; its white is the highest value."""
    assert gray.max() == 255
    return np.round(gray.astype(float) * ((1 << bits) - 1) / 255).astype(np.uint16)


def mark_as_thumbnail(encoded: bytearray, page: int) -> None:
    """Turn a tag that no decoder needs, of a little-endian TIFF's page, into NewSubfileType 1."""
    at = struct.unpack_from("<I", encoded, 4)[0]
    for _ in range(page):
        at = struct.unpack_from("<I", encoded, at + 2 + 12 * struct.unpack_from("<H", encoded, at)[0])[0]
    assert struct.unpack_from("<H", encoded, at + 2)[0] == 254, "OpenCV writes it for every page of several"
    struct.pack_into("<I", encoded, at + 10, 1)


def with_png_chunk(whole: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return whole[:33] + chunk + whole[33:]


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas


WHOLE = [
    *(png(samples[:20, :20]) for samples in SAMPLES.values()),
    *(tiff(samples[:20, :20]) for samples in SAMPLES.values()),
    *(pillow(RGB8[:20, :20], kind) for kind in ("JPEG", "BMP", "WEBP", "TIFF")),
    pillow(RGB8[:20, :20], "TIFF", compression="tiff_lzw"),
]


def test_a_picture_of_countless_parts_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    chunk = (0).to_bytes(4, "big") + b"teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    whole = png(gradient(20, 30))
    (tmp_path / "chunks.png").write_bytes(whole[:33] + chunk * 300_000 + whole[33:])
    jpeg = cv2.imencode(".jpg", gradient(20, 30))[1].tobytes()
    (tmp_path / "segments.jpg").write_bytes(jpeg[:2] + b"\xff\xe1\x00\x08Exif\0\0" * 400_000 + jpeg[2:])
    for name in ("chunks.png", "segments.jpg"):
        begun = time.process_time()
        with pytest.raises(PictureError, match="parts before its end"):
            decode(tmp_path / name)
        assert time.process_time() - begun < 2
