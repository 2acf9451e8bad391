"""A station is set up on the page: good parts from a folder, a camera or by hand, a try, and a section of config.yaml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from starlette.testclient import TestClient

from edge_agent.config.load import load_config
from edge_agent.errors import PictureError
from edge_agent.page.access.accounts import Role
from edge_agent.page.configuring import drafts, trial
from edge_agent.page.configuring.live_camera import LiveCamera
from edge_agent.sources.camera.config import CameraConfig
from tests.conftest import wait_until
from tests.drilled import folder, part
from tests.mjpeg import MjpegServer
from tests.pages import accounts_of, journal_of, page, shift, sign_in, token_in

CONFIG = "# ours\nagent: {data_dir: .}\nstations:\n- name: cam1  # the press\n  source: {folder: in}\n"


class Shop:
    """A page whose browser is an engineer's, beside an agent that does not run."""

    def __init__(self, place: Path, client: TestClient) -> None:
        self.place, self.client, self.config = place, client, place / "config.yaml"
        self.token = token_in(client.get("/set-up").text)

    def post(self, address: str, **fields: str):
        return self.client.post(address, data={"token": self.token, **fields})

    def begin(self, **fields: str):
        return self.post(
            "/set-up", **{"name": "drill", "class_name": "disc", "folder": str(self.place / "in"), **fields}
        )

    def send(self, content: bytes, name: str = "a.png", **headers: str):
        address = f"/set-up/drill/parts?name={name}"
        return self.client.post(address, content=content, headers={"x-token": self.token, **headers})

    @property
    def parts(self) -> list[str]:
        return sorted(one.name for one in (self.place / "set-up" / "drill" / "good").iterdir())


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    journal_of(tmp_path, shift()[:1])
    with page(tmp_path, local=Role.ENGINEER, stations=("cam1",), config=tmp_path / "config.yaml") as app:
        yield Shop(tmp_path, TestClient(app, base_url="http://127.0.0.1"))


def png(seed: int) -> bytes:
    return cv2.imencode(".png", part(seed))[1].tobytes()


def test_from_a_folder_of_good_parts_to_a_station_that_the_agent_takes(shop, monkeypatch):
    quick = "from trainer.station import candidates\ncandidates.TRUNKS, candidates.TIMED = (), 1\nfrom trainer.cli"
    monkeypatch.setattr(trial, "PROGRAM", trial.PROGRAM.replace("from trainer.cli", quick))
    folder(shop.place / "in", [part(seed) for seed in range(2)])
    assert "1. Good parts: 0 of 20" in shop.begin().text
    assert "1. Good parts: 2 of 20" in shop.post("/set-up/drill/take").text
    assert shop.client.get("/set-up/drill/part/001.png").headers["content-type"] == "image/jpeg"
    assert "It is being tried" in shop.post("/set-up/drill/try").text
    assert "Another station is being tried" in shop.post("/set-up/drill/try").text
    wait_until(lambda: not shop.client.get("/set-up/drill/progress").json()["runs"], "trainer station has ended")
    html = shop.client.get("/set-up?station=drill").text
    assert re.search(r"<th>as shipped, no good parts shown \*</th><td>[\d.]+</td>", html), html
    said = shop.post("/set-up/drill/go").text
    assert "it reads it when it is started" in said
    assert shop.config.read_text().startswith(CONFIG)
    made = load_config(shop.config).station("drill")
    assert (made.source.folder, made.detector.class_name) == (shop.place / "in", "disc")
    assert made.calibration.good_pictures == 2
    assert "Begun, and not ready yet" not in said
    assert "drill" in shop.client.get("/changes?what=stations").text
    assert shop.client.get("/set-up?station=drill").status_code == 404


def test_files_are_taken_only_if_they_are_pictures_and_not_there_already_and_not_too_many(shop, monkeypatch):
    shop.begin()
    assert shop.send(png(1)).json() == {"parts": 1}
    assert shop.send(png(2), "../../b.TIF").json() == {"parts": 2}
    assert shop.parts == ["001.png", "002.tif"]
    for content, said in (
        (png(1), "among the good parts already"),
        (b"<svg/>", "not a picture"),
        (b"", "empty"),
        (png(1)[:-200], "cut off or damaged"),
    ):
        answer = shop.send(content)
        assert answer.status_code == 400
        assert said in answer.json()["notice"]
    monkeypatch.setattr(drafts, "MOST", 2)
    assert "add nothing but time" in shop.send(png(3)).json()["notice"]
    assert shop.send(b"x" * (drafts.MOST_BYTES + 1)).status_code == 413
    assert shop.parts == ["001.png", "002.tif"]
    shop.post("/set-up/drill/remove", part="001.png")
    shop.post("/set-up/drill/remove", part="../draft.json")
    assert shop.parts == ["002.tif"]
    assert shop.client.get("/set-up/drill/part/draft.json").status_code == 404
    assert shop.client.get("/set-up?station=drill").status_code == 200


def test_a_full_disk_is_told_and_leaves_nothing_half_written(shop):
    shop.begin()
    (
        shop.place / "set-up" / "drill" / "good" / ".001.png.tmp"
    ).mkdir()  # in the way of the file, as root may write anywhere
    answer = shop.send(png(1))
    assert answer.status_code == 400
    assert "free some space, or let user" in answer.json()["notice"]
    assert shop.parts == [".001.png.tmp"]
    folder(shop.place / "in", [part(1)])
    assert "free some space" in shop.post("/set-up/drill/take").text
    (shop.place / "set-up" / "other").touch()
    assert "free some space" in shop.begin(name="other").text


def test_a_file_of_another_site_or_without_the_forms_token_is_not_taken(shop):
    shop.begin()
    assert shop.send(png(1), **{"x-token": "0" * 64}).status_code == 403
    assert shop.send(png(1), **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert shop.parts == []


def test_only_an_engineer_sets_up(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    journal_of(tmp_path, shift()[:1])
    accounts = accounts_of(tmp_path)
    with page(tmp_path, accounts=accounts, stations=("cam1",), config=tmp_path / "config.yaml") as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        sign_in(client, "oscar")
        for address in ("/set-up", "/set-up/x/live.jpg", "/set-up/x/progress"):
            assert client.get(address).status_code == 403
        for address in ("/set-up", "/set-up/x/take", "/set-up/x/try", "/set-up/x/go", "/set-up/x/parts"):
            assert client.post(address).status_code == 403


def test_settings_that_the_agent_would_refuse_are_refused_and_stay_in_the_form(shop):
    for fields, said in (
        ({"name": "../x"}, "A name has 1 to 40 letters"),
        ({"name": "cam1"}, "a station of this name already"),
        ({"folder": ""}, "source"),
        ({"kind": "camera", "camera": "filesrc location=/etc/passwd ! fakesink"}, "A camera is rtsp://"),
        ({"kind": "camera", "camera": "rtsp://user:secret@10.0.0.5/x"}, "password"),
        ({"kind": "camera", "camera": "rtsp://10.0.0.5/x", "fps": "-1"}, "fps"),
    ):
        answer = shop.begin(**fields)
        assert answer.status_code == 400, fields
        assert said in answer.text
        assert "disc" in answer.text
    assert not (shop.place / "set-up").exists()


def test_a_try_that_is_stopped_says_so_and_writes_nothing(shop):
    shop.begin()
    assert "Take or choose good parts first" in shop.post("/set-up/drill/try").text
    assert shop.post("/set-up/drill/go").status_code == 400
    shop.send(png(1))
    shop.post("/set-up/drill/try")
    shop.post("/set-up/drill/stop")
    wait_until(lambda: not shop.client.get("/set-up/drill/progress").json()["runs"], "trainer station has ended")
    html = shop.client.get("/set-up?station=drill").text
    assert "It was stopped. No station was written." in html
    assert "Add the station" not in html
    assert not (shop.place / "set-up" / "drill" / "station").exists()
    assert shop.config.read_text() == CONFIG


def test_a_try_ends_with_the_page_however_that_ends(tmp_path):
    """The process is told by the kernel."""
    script = (
        "import subprocess, sys, time\nfrom edge_agent.page.configuring import trial\n"
        "program = trial.PROGRAM.replace('from trainer.cli import main', 'print(0, flush=True); import time; time.sleep(600)')\n"
        "import os\nprocess = subprocess.Popen([sys.executable, '-c', program, str(os.getpid())], stdout=subprocess.PIPE)\n"
        "process.stdout.readline()\nprint(process.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child has ended")


def test_without_the_trainer_the_page_says_how_to_get_it(shop, monkeypatch):
    monkeypatch.setattr(trial, "NEEDS", ("trainer", "no_such_package"))
    shop.begin()
    shop.send(png(1))
    assert "pip install 'edge-agent[trainer]'" in shop.client.get("/set-up?station=drill").text
    assert shop.post("/set-up/drill/try").status_code == 409


def test_a_station_that_was_tried_before_a_restart_can_be_added_until_its_parts_are_others(shop):
    shop.begin()
    shop.send(png(1))
    place = shop.place / "set-up" / "drill"
    (place / drafts.TABLE).write_text("   of 100\nas shipped <b>   1.0     33.3   7\n\n* is it.\n")
    html = shop.client.get("/set-up?station=drill").text
    assert "<th>as shipped &lt;b&gt;</th><td>1.0</td><td>33.3</td>" in html
    assert "<p>* is it.</p>" in html
    assert "Add the station" in html
    assert "try it first" in shop.post("/set-up/drill/go").text
    shop.send(png(2))
    assert "Add the station" not in shop.client.get("/set-up?station=drill").text
    assert "drill" in shop.client.get("/set-up").text
    shop.post("/set-up/drill/discard")
    assert not place.exists()


def test_what_the_trainer_has_written_becomes_a_station_with_paths_that_hold_anywhere(tmp_path):
    (tmp_path / "draft" / "station").mkdir(parents=True)
    (tmp_path / "draft" / "station" / "config.yaml").write_text(
        "stations:\n- name: drill\n  source: {folder: incoming}\n  detector:\n    class_name: it's a disc\n    together:\n"
        "    - model: embedded\n    - {model: efficientnet-lite0, checkpoint: drill.safetensors}\n"
        "  calibration: drill-calibration.json\n"
    )
    draft = drafts.Draft("drill", "disc", {"camera": "rtsp://10.0.0.5/x", "fps": "2"}, tmp_path / "draft", [])
    station = tmp_path / "draft" / "station"
    assert drafts.added_station(draft) == {
        "name": "drill",
        "source": "{camera: 'rtsp://10.0.0.5/x', fps: 2}",
        "detector": "{class_name: 'it''s a disc', together: [{model: embedded}, "
        f"{{model: efficientnet-lite0, checkpoint: {station}/drill.safetensors}}]}}",
        "calibration": f"{station}/drill-calibration.json",
    }


def test_the_picture_of_a_camera_is_shown_and_taken(shop, monkeypatch):
    monkeypatch.setattr("edge_agent.page.configuring.live_camera.IDLE_S", 60.0)
    with MjpegServer((200, 30, 40)) as camera:
        assert "What the camera sees now" in shop.begin(kind="camera", camera=camera.url).text
        assert shop.client.get("/set-up/drill/live.jpg").headers["content-type"] == "image/jpeg"
        shop.post("/set-up/drill/take")
        assert shop.parts == ["001.png"]
        assert cv2.imread(str(shop.place / "set-up" / "drill" / "good" / "001.png"))[10, 10].tolist()[2] > 190
    shop.post("/set-up/drill/discard")


def test_a_camera_that_is_not_there_is_told():
    camera = LiveCamera()
    with pytest.raises(PictureError, match="video nothing listens at port 9: is it on"):
        camera.picture("one", CameraConfig(camera="http://127.0.0.1:9/video"), 100)
    camera.close()
