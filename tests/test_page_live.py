"""The line as it is now: what a tile looks like, and an alarm that somebody has seen."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import jsonschema
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from starlette.testclient import TestClient

from edge_agent.core import MQTT, AlarmEvent, Evaluation
from edge_agent.health import metrics
from edge_agent.health.drift import Drift, DriftWatch, Window
from edge_agent.health.server import serving
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from edge_agent.journal.review import open_review
from edge_agent.mqtt.messages import acknowledged_message, acknowledgement_id, delivery, schema
from edge_agent.page.access.accounts import Role
from edge_agent.page.agent_state import AgentState, agent_state
from edge_agent.page.live import Tiles
from tests.conftest import wait_until
from tests.line import inspected
from tests.mosquitto import free_port
from tests.pages import journal_of, page, token_in

WELL = AgentState()


def recent(alarm=None, **more):
    """An inspection of a moment ago."""
    return inspected(alarm, taken_at=datetime.now(timezone.utc), **more)


@contextmanager
def line_of(folder, *inspections, stations=("cam1",), agent=lambda: WELL, local=Role.OPERATOR):
    """A browser of the page beside an agent with these inspections."""
    journal_of(folder, inspections)
    with page(folder, stations=stations, agent=agent, local=local) as app:
        yield TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def state_of(html, station="cam1"):
    return re.search(rf'<section class="tile (\w+)" aria-label="{station}">', html)[1]


def test_the_line_is_the_first_view_beside_an_agent(tmp_path):
    with line_of(tmp_path, recent()) as client:
        assert client.get("/").headers["location"] == "/line"


@pytest.mark.parametrize(
    ("inspection", "agent", "state"),
    [
        ({}, WELL, "good"),
        ({"evaluation": Evaluation.NOT_OK}, WELL, "bad"),
        ({"evaluation": Evaluation.NOT_DECIDABLE, "reason": "no picture"}, WELL, "blind"),
        ({"alarm": AlarmEvent.RAISED}, WELL, "alarm"),
        ({"alarm": AlarmEvent.CLEARED}, WELL, "good"),
        ({"alarm": AlarmEvent.RAISED, "simulated": True}, WELL, "bad"),
        ({}, AgentState("the agent does not answer"), "blind"),
        ({}, AgentState(away={"cam1": "no answer"}), "blind"),
        ({}, AgentState(away={"cam2": "no answer"}), "good"),
        ({}, None, "good"),
    ],
)
def test_a_tile_looks_like_its_station_is(tmp_path, inspection, agent, state):
    with line_of(tmp_path, recent(**inspection), agent=lambda: agent) as client:
        assert state_of(client.get("/line").text) == state


def test_a_station_without_parts_never_looks_good(tmp_path):
    with line_of(tmp_path, recent(), stations=("cam1", "cam9")) as client:
        assert state_of(client.get("/line").text, "cam9") == "none"


def test_where_nobody_knows_whether_the_agent_runs_an_old_part_never_looks_good(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.page.live.OLD", timedelta(0))
    with line_of(tmp_path, recent(), agent=lambda: None) as client:
        html = client.get("/line").text
    assert state_of(html) == "none"
    assert "whether the agent runs" in html


def test_stations_in_alarm_come_first_and_the_day_is_counted(tmp_path):
    inspections = [recent(), recent(station="cam2"), recent(AlarmEvent.RAISED, station="cam2")]
    with line_of(tmp_path, *inspections, stations=("cam1", "cam2")) as client:
        html = client.get("/line").text
    assert re.findall(r'data-station="(\w+)"', html) == ["cam2", "cam1"]
    assert "today: 2 parts, 1 not OK (50.0 %)" in html


def test_who_has_seen_an_alarm_says_so_once_and_the_agent_publishes_it_while_the_alarm_stands(tmp_path):
    alarms = [recent(AlarmEvent.RAISED), recent(AlarmEvent.REPEATED)]
    with line_of(tmp_path, *alarms) as client:
        html = client.get("/line").text
        form = {
            "token": token_in(html),
            "station": "cam1",
            "alarm": re.search(r'name="alarm" value="([^"]+)"', html)[1],
        }
        assert form["alarm"] == alarms[0].id
        for _ in range(2):
            assert client.post("/line/acknowledge", data=form).headers["location"] == "/line"
    with line_of(tmp_path, *[]) as client:
        html = client.get("/line").text
        assert state_of(html) == "alarm"
        assert "seen by this machine" in html
        assert "I have seen it" not in html
    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db")
    (row,) = journal.outbox(MQTT).pending(10)
    journal.close()
    assert (row.message.kind, row.message.station) == ("acknowledged", "cam1")
    jsonschema.validate(delivery(row, "box", False), schema("acknowledged"))
    assert row.message.payload["alarm_id"] == alarms[0].id


def test_an_alarm_that_does_not_stand_cannot_be_acknowledged(tmp_path):
    alarms = [recent(AlarmEvent.RAISED), recent(AlarmEvent.CLEARED)]
    with line_of(tmp_path, *alarms) as client:
        token = token_in(client.get(f"/inspection/{alarms[0].id}").text)
        for alarm, station in ((alarms[0].id, "cam1"), (alarms[1].id, "cam1"), (alarms[0].id, "cam2"), ("x", "cam1")):
            answer = client.post("/line/acknowledge", data={"token": token, "station": station, "alarm": alarm})
            assert answer.status_code in (404, 409)


def test_a_viewer_cannot_acknowledge(tmp_path):
    with line_of(tmp_path, recent(AlarmEvent.RAISED), local=Role.VIEWER) as client:
        assert "I have seen it" not in client.get("/line").text
        assert client.post("/line/acknowledge", data={}).status_code == 403


def test_an_alarm_that_was_raised_again_waits_to_be_seen_again(tmp_path):
    alarms = [recent(AlarmEvent.RAISED), recent(AlarmEvent.CLEARED), recent(AlarmEvent.RAISED)]
    with line_of(tmp_path, alarms[0]) as client:
        form = {"token": token_in(client.get("/line").text), "station": "cam1", "alarm": alarms[0].id}
        client.post("/line/acknowledge", data=form)
    with line_of(tmp_path, *alarms[1:]) as client:
        assert "I have seen it" in client.get("/line").text
    with open_review(f"sqlite:///{tmp_path}/journal.db") as journal:
        assert journal.standing_alarm("cam1", acknowledgement_id).raised.id == alarms[2].id


@contextmanager
def answering(status, said):
    """An agent's /healthz that says this; gives its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "said", "state"),
    [
        (200, {"status": "ok", "sources_away": {}}, AgentState()),
        (200, {"status": "ok", "sources_away": {"cam1": "no route"}}, AgentState(None, {"cam1": "no route"})),
        (503, {"status": "hangs", "sources_away": {}}, AgentState("hangs")),
        (503, {"status": "not recording", "not_recording": "disk full", "sources_away": {}}, AgentState("disk full")),
        (
            503,
            {"status": "twin", "sources_away": {}, "alarms": {"a": ["source"]}},
            AgentState(alarms={"a": ["source"]}),
        ),
        (200, ["something else"], None),
        (404, {}, None),
    ],
)
def test_the_agent_says_how_it_is(status, said, state):
    with answering(status, json.dumps(said).encode()) as port:
        assert agent_state(port) == (state or AgentState(f"something else answers at port {port}: see health.port"))


def test_an_agent_that_does_not_answer_inspects_nothing():
    with answering(200, b"") as port:
        pass
    assert agent_state(port).trouble == "the agent does not answer"


def test_a_tile_says_what_has_drifted_and_what_waits(tmp_path):
    state = AgentState(drifted={"cam1": ("score", "brightness")}, waiting={"cam1": 7}, unsent=12)
    with line_of(tmp_path, recent(), stations=("cam1", "cam2"), agent=lambda: state) as client:
        html = client.get("/line").text
    assert html.count("not as calibrated: score, brightness") == 1
    assert html.count("7 pictures wait, 12 messages wait to be sent") == 1
    assert html.count("0 pictures wait") == 1
    with line_of(tmp_path, agent=lambda: AgentState()) as client:
        assert "pictures wait" not in client.get("/line").text


def test_what_the_agent_counts_tells_what_has_drifted_and_what_waits():
    collected = CollectorRegistry()

    class Counted:
        def collect(self):
            watch = DriftWatch(lambda *_: None)
            window = Window({"50": 0.5}, 100, 0.0)
            window.drift, window.active = Drift(9.0, 0.7, 0.5), True
            watch.windows["cam1"] = {"score": window}
            yield from metrics.drift(watch)
            yield from metrics.outbox({"mqtt": Waiting(), "other": Waiting()})
            for name, labels, count in (
                ("frames_captured", ("cam1",), 9),
                ("frames_captured", ("cam2",), 4),
                ("frames_inspected", ("cam1", "OK"), 4),
                ("frames_inspected", ("cam2", "OK"), 4),
                ("frames_dropped", ("cam1", "superseded"), 2),
            ):
                family = CounterMetricFamily(f"edge_agent_{name}", "", labels=("station", "x")[: len(labels)])
                family.add_metric(labels, count)
                yield family

    class Waiting:
        def outbox_depth(self):
            return 3, None

    collected.register(Counted())
    with serving_health(collected, lambda: (True, {"status": "ok", "sources_away": {}})) as port:
        wanted = AgentState(drifted={"cam1": ("score",)}, waiting={"cam1": 3}, unsent=6)
        wait_until(lambda: agent_state(port) == wanted, "the agent answers")


@contextmanager
def serving_health(registry, health):
    port = free_port()
    with serving(port, registry, health):
        yield port


def test_the_glossary_has_every_word_that_views_link_to(tmp_path):
    held = journal_of(tmp_path, [recent(AlarmEvent.RAISED, station="cam1")])
    state = AgentState(drifted={"cam1": ("score",)})
    with line_of(tmp_path, agent=lambda: state) as client:
        entries = set(re.findall(r'<div id="([\w-]+)">', client.get("/glossary").text))
        linked = set()
        for address in ("/line", f"/inspection/{held[0].id}", "/numbers"):
            linked |= set(re.findall(r'href="/glossary#([\w-]+)"', client.get(address).text))
    assert len(linked) >= 9
    assert linked <= entries


def test_only_stations_with_news_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.page.live.EVERY_S", 0.0)
    first = [recent(station="cam1"), recent(station="cam2"), recent(AlarmEvent.RAISED, station="cam2")]
    journal_of(tmp_path, first)
    with open_review(f"sqlite:///{tmp_path}/journal.db") as journal:
        read, newest = [], journal.newest
        monkeypatch.setattr(journal, "newest", lambda station: read.append(station) or newest(station))
        tiles = Tiles(journal, ["cam1", "cam2"], lambda: WELL, timezone.utc)
        assert [tile.station for tile in tiles.now()] == ["cam2", "cam1"]
        assert read == ["cam1", "cam2"]
        tiles.now()
        assert read == ["cam1", "cam2"]
        (news,) = journal_of(tmp_path, [recent(station="cam1")])
        assert {tile.station: tile.newest.id for tile in tiles.now()}["cam1"] == news.id
        assert read == ["cam1", "cam2", "cam1"]
        message = acknowledged_message(first[2].id, "cam2", "anna", datetime.now(timezone.utc), (MQTT,))
        with open_reader(f"sqlite:///{tmp_path}/journal.db") as outbox:
            assert outbox.queue(message, first[2].id)
            assert not outbox.queue(message, first[2].id)
        assert tiles.now()[0].alarm.acknowledged_by == "anna"
        assert read == ["cam1", "cam2", "cam1", "cam2"]
