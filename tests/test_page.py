"""The page: what it shows of a journal, what it keeps to itself, and how it answers whoever means harm."""

from __future__ import annotations

import re
import sqlite3
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from edge_agent.core import Evaluation
from edge_agent.journal.review import Selection, open_review
from edge_agent.page.pictures import KINDS
from tests.made import gradient
from tests.pages import TEN, journal_of, mean, page, part, shift

UNKNOWN = "01234567-89ab-7def-8123-456789abcdef"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A page of the journal of a shift, and what that journal holds."""
    folder = tmp_path_factory.mktemp("page")
    held = journal_of(folder, shift())
    with page(folder) as app:
        yield TestClient(app, base_url="http://127.0.0.1"), held


@pytest.fixture
def page_of(tmp_path):
    """Gives the page of a journal of its own, and that journal's inspections."""
    with ExitStack() as opened:

        def made(*inspections, keep_bytes: float = 1e6):
            held = journal_of(tmp_path, inspections)
            app = opened.enter_context(page(tmp_path, keep_bytes=keep_bytes))
            return TestClient(app, base_url="http://localhost"), held

        yield made


def titles(html: str) -> list[str]:
    return re.findall(r"<b>(.*?)</b>", html)


def decoded(content: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_the_page_begins_with_what_is_worth_a_look_the_newest_first(shown):
    client, _ = shown
    assert titles(client.get("/").text) == ["SN-bad-3", "SN-bad-2", "SN-border", "SN-bad-1"]


def test_all_of_a_station_and_an_hour_are_shown_on_request(shown):
    client, held = shown
    query = {"station": "cam1", "since": "2026-11-20T10:00", "until": "2026-11-20T11:00", "show": "all"}
    assert titles(client.get("/review", params=query).text) == ["SN-border", "SN-bad-1", held[0].part_id]


def test_the_hours_of_a_day_are_one_tap_away(shown):
    client, _ = shown
    html = client.get("/review", params={"since": "2026-11-20T06:00", "until": "2026-11-20T14:00"}).text
    link = re.search(r'href="(/review\?[^"]*10%3A00%3A00Z[^"]*11%3A00%3A00Z)"', html)[1].replace("&amp;", "&")
    assert titles(client.get(link).text) == ["SN-bad-2", "SN-border", "SN-bad-1"]


def test_a_long_selection_is_read_page_by_page_and_each_inspection_is_on_one_of_them(page_of, monkeypatch):
    monkeypatch.setattr("edge_agent.page.review.A_PAGE", 4)
    # Three at the same moment: the order goes by the number, too.
    client, held = page_of(*(part(minute // 3, Evaluation.NOT_OK, 0.9, part_id=f"P{minute}") for minute in range(10)))
    address, seen = "/review", []
    while address:
        html = client.get(address).text
        seen += titles(html)
        further = re.search(r'rel="next" href="([^"]+)"', html)
        address = further and further[1].replace("&amp;", "&")
    assert seen == [one.part_id for one in reversed(held)]


def test_an_inspection_says_why_it_was_judged_so_and_leads_to_its_neighbours(shown):
    client, held = shown
    html = client.get(f"/inspection/{held[2].id}").text
    assert "score 0.600 of 0.620" in html
    for digest in (held[2].trace.model_sha256, held[2].trace.config_sha256, held[2].evidence.image.sha256):
        assert digest in html
    assert f'rel="prev" data-key="ArrowLeft" href="/inspection/{held[1].id}"' in html
    assert f'rel="next" data-key="ArrowRight" href="/inspection/{held[4].id}"' in html


def test_scores_that_read_alike_are_told_apart(page_of):
    client, held = page_of(part(0, Evaluation.NOT_OK, 0.62001))
    assert "score 0.62001 of 0.62000" in client.get(f"/inspection/{held[0].id}").text


def test_the_picture_is_that_of_the_inspection_and_the_map_lies_exactly_on_it(shown):
    client, held = shown
    original, overlay = (
        decoded(client.get(f"/picture/{held[0].id}/{kind}.jpg").content) for kind in ("original", "map")
    )
    assert original.shape == overlay.shape
    assert np.abs(original.astype(int) - overlay).mean() < 3  # good: nothing is drawn on it but JPEG's own noise
    assert np.abs(np.subtract(mean(original), mean(gradient(48, 64, seed=0)))).max() < 3


def test_a_small_picture_is_made_once_and_kept_for_its_owner_alone(shown):
    client, held = shown
    first = client.get(f"/picture/{held[1].id}/thumbnail.jpg")
    kept = next(iter(sorted(Path(held[1].evidence.image.uri[7:]).parents[3].glob("cache/*thumbnail.jpg"))))
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert max(decoded(first.content).shape) == 320
    assert first.headers["cache-control"] == "private, max-age=3600"
    assert client.get(f"/picture/{held[1].id}/thumbnail.jpg").content == first.content


def test_the_cache_never_takes_more_than_it_may(page_of, tmp_path):
    client, held = page_of(*shift(), keep_bytes=120_000)
    for one in held:
        for kind in KINDS:
            assert client.get(f"/picture/{one.id}/{kind}.jpg").status_code == 200
            files = list((tmp_path / "cache").iterdir())
            assert sum(file.stat().st_size for file in files) <= 120_000
    assert files


def test_a_cache_that_cannot_be_written_costs_no_picture(page_of, tmp_path):
    client, held = page_of(part(0, Evaluation.OK, 0.1))
    (tmp_path / "cache").write_text("a file is in its place")
    assert client.get(f"/picture/{held[0].id}/thumbnail.jpg").status_code == 200


def test_a_picture_that_was_changed_or_deleted_is_not_shown_and_the_page_says_so(page_of):
    client, held = page_of(part(0, Evaluation.OK, 0.1), part(1, Evaluation.OK, 0.1))
    changed, gone = (Path(one.evidence.image.uri[7:]) for one in held)
    changed.write_bytes(gone.read_bytes())
    gone.unlink()
    assert "changed since" in client.get(f"/picture/{held[0].id}/original.jpg").text
    assert "no longer there" in client.get(f"/picture/{held[1].id}/original.jpg").text


# Attacks


@pytest.mark.parametrize(
    "path",
    [
        "/picture/..%2f..%2fetc%2fpasswd/original.jpg",
        "/picture/../../etc/passwd",
        f"/picture/{UNKNOWN}/..%2foriginal.jpg",
        f"/picture/{UNKNOWN}%00/original.jpg",
        f"/picture/{UNKNOWN}/original.jpg",
        f"/picture/{UNKNOWN.upper()}/original.jpg",
        f"/inspection/{UNKNOWN}",
        "/inspection/' OR 1=1 --",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
    ],
)
def test_no_path_leads_to_a_file_that_is_no_picture_of_an_inspection(shown, path):
    client, _ = shown
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert "def application" not in answer.text


def test_a_journal_that_names_another_file_as_its_picture_shows_none_of_it(page_of, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(cv2.imencode(".png", gradient(48, 64))[1].tobytes())
    client, held = page_of(part(0, Evaluation.OK, 0.1))
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database, database:
        for uri in (
            secret.as_uri(),
            "file:///etc/passwd",
            "file:///dev/zero",
            "http://10.0.0.1/",
            "file:///" + "a/" * 3000,
        ):
            database.execute("UPDATE inspections SET image_uri = ?", [uri])
            database.commit()
            assert client.get(f"/picture/{held[0].id}/original.jpg").status_code == 404


def test_what_comes_from_outside_never_becomes_markup(page_of):
    one = part(0, Evaluation.NOT_OK, 0.9, part_id=HOSTILE, reason=HOSTILE, station=HOSTILE)
    client, held = page_of(one)
    for address in ("/review", f"/inspection/{held[0].id}", f"/review?station={HOSTILE}", "/review?station=<script>"):
        html = client.get(address).text
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert re.findall(r"<script[^>]*>", html) == ['<script src="/static/page.js" defer>']


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-11-20T11:00&until=2026-11-20T10:00",
        "since=9999-99-99",
        "since=0001-01-01T00:00%2B23:59",
        "show=everything",
        "older=1",
        "older=99999999999999999.1",
        "older=-1.-1",
        "older=1.1;DROP TABLE inspections",
    ],
)
def test_a_question_without_sense_is_answered_with_a_sentence(shown, query):
    client, _ = shown
    answer = client.get(f"/review?{query}")
    assert answer.status_code in (200, 400)
    assert "Traceback" not in answer.text
    assert answer.status_code == 400 or "older" in query


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_a_name_that_is_not_the_pages_own_is_refused(shown, host):
    """Or a web page of evil.example, whose name leads to 127.0.0.1 for a moment, could read this one."""
    client, _ = shown
    assert client.get("/review", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("address", ["/review", "/static/page.js", "/nothing", f"/picture/{UNKNOWN}/map.jpg"])
def test_every_answer_forbids_what_the_page_does_not_need(shown, address):
    client, _ = shown
    headers = client.get(address).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "no-store" in headers["cache-control"] or address.startswith("/static")
    assert "server" not in headers


def test_the_templates_have_no_script_and_no_style_of_their_own():
    folder = Path("edge_agent/page/templates")
    served = {path for path in (Path(__file__).parents[1] / folder).iterdir() if path.name != "report.html"}
    for path in served:  # a report is a file of its own, which the page never serves
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:|https?://", path.read_text()), path


def test_nothing_can_be_changed_without_a_configuration(shown):
    client, held = shown
    for address in ("/review", f"/inspection/{held[0].id}"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, address).status_code in (403, 405)


# The journal


def test_neighbours_are_those_of_the_selection(shown):
    client, held = shown
    html = client.get(f"/inspection/{held[2].id}?show=all&station=cam1&until=2026-11-20T11:00").text
    assert f'href="/inspection/{held[1].id}?' in html
    assert 'rel="next"' not in html


def test_stations_are_found_one_step_for_each(tmp_path):
    journal_of(tmp_path, shift())
    with open_review(f"sqlite:///{tmp_path}/journal.db") as journal:
        assert journal.stations() == ["cam1", "cam2"]
        assert journal.neighbours(UNKNOWN, Selection()) == (None, None)
        newest = journal.page(Selection(since=TEN, until=TEN + timedelta(hours=2), which="all"), 100)
        assert len(newest.inspections) == 6
        assert newest.older is None
