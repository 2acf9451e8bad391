"""HTTP cameras write streams carelessly; each picture is taken as it was sent, whole or not at all, and refusals are told."""

from __future__ import annotations

import hashlib
import os
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.sources.camera.address import with_password
from edge_agent.sources.camera.child import CameraReader
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.camera.http_stream import HttpPictures, open_http
from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Settings
from edge_agent.sources.camera.slot import Slot
from tests.test_camera import Watcher, camera

PASSWORD = "p@ss:w/rd#%? ü"
MULTIPART = "multipart/x-mixed-replace; boundary=frame"
# By path: Content-Type of the response, what comes before the first part, headers of a part, and the end of a line.
HABITS: dict[str, tuple[str | None, str, str, str]] = {
    "plain": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
    "no-first-boundary": (MULTIPART, "", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
    "image-jpg": (MULTIPART, "--frame\r\n", "Content-Type: image/jpg\r\nContent-Length: {}\r\n", "\r\n"),
    "charset": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg; charset=utf-8\r\nContent-Length: {}\r\n", "\r\n"),
    "no-type": (MULTIPART, "--frame\r\n", "Content-Length: {}\r\n", "\r\n"),
    "no-headers": (MULTIPART, "--frame\r\n", "", "\r\n"),
    "no-length": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg\r\n", "\r\n"),
    "lower-case": (MULTIPART, "--frame\r\n", "content-type: image/jpeg\r\ncontent-length: {}\r\n", "\r\n"),
    "line-feeds": (MULTIPART, "--frame\n", "Content-Type: image/jpeg\nContent-Length: {}\n", "\n"),
    "dashes": ("multipart/x-mixed-replace; boundary=--frame", "--frame\r\n", "Content-Length: {}\r\n", "\r\n"),
    "quotes": ('multipart/x-mixed-replace; boundary="frame"', "--frame\r\n", "Content-Length: {}\r\n", "\r\n"),
    "other-boundary": ("multipart/x-mixed-replace; boundary=x", "--frame\r\n", "Content-Type: image/jpeg\r\n", "\r\n"),
    "no-boundary": ("multipart/x-mixed-replace", "--frame\r\n", "Content-Length: {}\r\n", "\r\n"),
    "undeclared": (None, "--frame\r\n", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
    "cut": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
    "cut-on-the-way": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
    "only-cut": (MULTIPART, "--frame\r\n", "Content-Type: image/jpeg\r\nContent-Length: {}\r\n", "\r\n"),
}


def jpeg(number: int) -> bytes:
    """A picture whose brightness says its number."""
    noise = np.random.default_rng(number).integers(0, 4, (48, 64, 3), np.uint8)
    return cv2.imencode(".jpg", noise + np.uint8(8 * number))[1].tobytes()


def number_of(pixels: np.ndarray) -> int:
    return round((float(pixels.mean()) - 1.5) / 8)


class _Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.strip("/")
        if path.startswith(("basic", "digest")) and not self._is_allowed(path):
            return
        if path == "snapshot":
            self.server.asked += 1  # type: ignore[attr-defined]
            self._answer(200, {"Content-Type": "image/jpeg"}, jpeg(self.server.asked % 30))  # type: ignore[attr-defined]
        elif path == "page":
            self._answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
        elif path == "moved":
            self._answer(302, {"Location": "/plain"})
        elif path == "elsewhere":
            self._answer(302, {"Location": "http://camera.example/plain"})
        elif path == "transport":
            self._answer(200, {"Content-Type": "video/mp2t"}, b"G" * 188)
        elif path.partition("?")[0] in HABITS or path.startswith(("basic", "digest")):
            self._stream(path)
        else:
            self._answer(404, {})

    def _stream(self, path: str) -> None:
        kind, first, headers, newline = HABITS.get(path, HABITS["plain"])
        self._answer(200, {"Content-Type": kind} if kind else {}, first.encode())
        for number in range(1, 31):
            content = jpeg(number)
            sent = (
                content[: len(content) // 2] if path == "only-cut" or ("cut" in path and number % 3 == 0) else content
            )
            length = len(content if path == "cut-on-the-way" else sent)
            part = (headers.format(length) + newline).encode() + sent + f"{newline}--frame{newline}".encode()
            try:
                self.wfile.write(part)
            except OSError:
                return
            time.sleep(self.server.pause_s)  # type: ignore[attr-defined]

    def _is_allowed(self, path: str) -> bool:
        given = self.headers.get("Authorization") or ""
        if path.startswith("basic"):
            challenge = 'Basic realm="cam"'
            is_right = given == "Basic bGluZTQ6cEBzczp3L3JkIyU/IMO8"
        else:
            name = "SHA-256" if "256" in path else "MD5"
            challenge = f'Digest realm="cam", nonce="abc", qop="auth", algorithm={name}'
            fields = {key: value.strip('"') for key, value in re.findall(r'(\w+)=("[^"]*"|[^,\s]+)', given)}

            def digest(text: str) -> str:
                return hashlib.new(name.replace("-", ""), text.encode()).hexdigest()

            user, uri = digest(f"line4:cam:{PASSWORD}"), digest(f"GET:{fields.get('uri')}")
            counted = ":".join(str(fields.get(key)) for key in ("nonce", "nc", "cnonce", "qop"))
            is_right = fields.get("response") == digest(f"{user}:{counted}:{uri}")
        if not is_right:
            self._answer(401, {"WWW-Authenticate": challenge})
        return is_right

    def _answer(self, code: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    asked, pause_s = 0, 0.0


@pytest.fixture(scope="module")
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Camera) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def url(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/"


def opened(address: str) -> HttpPictures:
    pictures = open_http(address, Settings("ffmpeg", fps=50), 5.0)
    assert pictures is not None
    return pictures


def numbers(pictures: HttpPictures, count: int) -> list[int | None]:
    """The numbers of the next pictures; None for one that cannot be decoded."""
    found = []
    for _ in range(count):
        assert pictures.grab()
        is_read, pixels = pictures.retrieve()
        found.append(number_of(pixels) if is_read and pixels is not None else None)
    pictures.release()
    return found


@pytest.mark.parametrize("habit", [habit for habit in HABITS if "cut" not in habit])
def test_whatever_a_browser_shows_is_read_picture_for_picture(url: str, habit: str) -> None:
    assert numbers(opened(url + habit), 30) == list(range(1, 31))


@pytest.mark.parametrize("habit", ["cut", "cut-on-the-way"])
def test_a_picture_that_was_cut_is_unreadable_and_the_next_one_is_whole(url: str, habit: str) -> None:
    assert numbers(opened(url + habit), 9) == [1, 2, None, 4, 5, None, 7, 8, None]


def test_a_stream_that_ends_says_so(url: str) -> None:
    pictures = opened(url + "plain")
    numbers_seen = sum(1 for _ in iter(pictures.grab, False))
    assert numbers_seen == 30


def test_single_pictures_are_asked_for_at_the_rate_of_the_station(url: str) -> None:
    begun = time.monotonic()
    seen = numbers(opened(url + "snapshot"), 6)
    assert len(set(seen)) == 6
    assert time.monotonic() - begun >= 5 / 50


@pytest.mark.parametrize("way", ["basic", "digest", "digest-256"])
def test_a_password_is_given_in_the_way_that_is_asked_for(url: str, way: str) -> None:
    with_user = url.replace("http://", "http://line4@") + way
    assert numbers(opened(with_password(with_user, PASSWORD)), 2) == [1, 2]
    with pytest.raises(Unreachable, match="401 Unauthorized"):
        opened(with_password(with_user, "wrong"))
    with pytest.raises(Unreachable, match="401 Unauthorized"):
        opened(url + way)


@pytest.mark.parametrize(
    ("path", "words"),
    [("nothing", "404"), ("page", "gives a web page"), ("elsewhere", "sends the agent on to camera.example")],
)
def test_an_answer_that_is_no_picture_is_told(url: str, path: str, words: str) -> None:
    with pytest.raises(Unreachable, match=words):
        opened(url + path)


def test_a_redirect_on_the_same_camera_is_followed(url: str) -> None:
    assert numbers(opened(url + "moved"), 1) == [1]


def test_other_streams_are_left_to_ffmpeg(url: str) -> None:
    assert open_http(url + "transport", Settings("ffmpeg"), 5.0) is None


def test_a_camera_that_gives_only_cut_pictures_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.camera.http_stream.UNREADABLE_S", 0.0)
    pictures = opened(url + "only-cut")
    with pytest.raises(Unreachable, match=r"only pictures that cannot be decoded .*cut off"):
        numbers(pictures, 3)


def test_a_station_drops_cut_pictures_and_counts_them(
    server: _Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "pause_s", 0.05)
    with Watcher(camera(url + "cut")) as watcher:
        watcher.sees(8)
    assert {number_of(frame.pixels) % 3 for frame in watcher.frames} == {1, 2}
    assert watcher.source.counts().dropped["unreadable"] >= 2


def test_pictures_that_are_decoded_more_slowly_than_they_come_do_not_queue_up(
    server: _Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "pause_s", 0.03)
    pictures = opened(url + "plain")
    decode = pictures.retrieve

    def slowly() -> tuple[bool, np.ndarray | None]:
        time.sleep(0.1)
        return decode()

    monkeypatch.setattr(pictures, "retrieve", slowly)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    slot = Slot()
    try:
        reader, begun = CameraReader(Settings("ffmpeg"), slot, nowhere), time.monotonic()
        with pytest.raises(Exception, match="the stream ended"):
            reader.run(pictures, pictures.pace)
        assert time.monotonic() - begun < 2.0, "30 pictures in 0.9 s, of which each takes 0.1 s to decode"
    finally:
        pictures.release()
        slot.close()
        os.close(nowhere)
    assert reader.state.captured == 30
    assert reader.state.published >= 3
    assert reader.state.published + reader.state.stale == 30


def test_the_doctor_names_the_cause(url: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    address = url.replace("http://", "http://line4@") + "digest-256"
    config = CameraConfig.model_validate({"camera": address, "password": {"file": str(tmp_path / "password")}})
    (found,) = config.check("cam1", max_megapixels=100)
    assert found.state == "failed"
    assert "401 Unauthorized: give its user in the address, and its password as password:" in found.text
