"""/metrics and /healthz of a running agent: what they count, that they are served to this machine alone, and never for long."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.health.metrics import in_time, register
from edge_agent.health.server import serving
from edge_agent.health.systemd import Notifier
from edge_agent.health.watchdog import Watchdog
from edge_agent.io.backoff import Backoff
from edge_agent.line.heartbeat import Stage
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.mosquitto import Mosquitto, free_port


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Values by the metric's name, without edge_agent_, and the values of its labels in the order of the alphabet."""
    return {
        (sample.name.removeprefix("edge_agent_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_running_agent_tells_what_it_has_captured_inspected_dropped_and_what_waits(tmp_path: Path) -> None:
    port, stopped = free_port(), Mosquitto(tmp_path)
    config = write_config(
        tmp_path,
        station("cam1", threshold=ALL_NOT_OK),
        station("cam2", threshold=ALL_OK),
        broker=stopped,
        health={"port": port},
    )
    for number in range(3):
        part(tmp_path / "cam1" / f"a{number}.png", number)
    part(tmp_path / "cam2" / "b.png", 9)
    broken = tmp_path / "cam2" / "broken.png"
    broken.write_bytes(b"no picture")
    os.utime(broken, (time.time() - 60,) * 2)  # old enough to be what it is
    with Daemon(config) as daemon:
        daemon.until("ready")
        kept = ("step_seconds_count", "keep")
        wait_until(lambda: samples(get(port, "/metrics")[1]).get(kept) == 4, "those not OK are kept")
        wait_until(lambda: samples(get(port, "/metrics")[1])["outbox_messages", "mqtt"] == 3, "what waits is counted")
        code, text = get(port, "/metrics")
        assert code == 200
        found = samples(text)
        assert get(port, "/healthz")[0] == 200
        assert json.loads(get(port, "/healthz")[1])["status"] == "ok"
        assert get(port, "/")[0] == 404
        daemon.stop()
    assert found["frames_inspected_total", "NotOK", "cam1"] == 3
    assert found["frames_inspected_total", "OK", "cam2"] == 1
    assert found["frames_inspected_total", "NotDecidable", "cam2"] == 1
    assert found["frames_captured_total", "cam1"] == 3
    assert not any(name[0] == "frames_dropped_total" for name in found)
    assert 0 < found["frame_age_seconds", "cam1"] < PATIENCE_S
    assert found["score_count", "cam1"] == 3
    assert found["score_bucket", "+Inf", "cam1"] == 3
    assert (found["step_seconds_count", "detect"], found["step_seconds_count", "keep"]) == (4, 4)
    assert found["step_seconds_sum", "detect"] > 0
    assert found["outbox_age_seconds", "mqtt"] > 0
    assert found["mqtt_online",] == 0
    assert (found["evidence_kept_total",], found["evidence_dropped_total",]) == (7, 0)
    assert found["disk_free_bytes", str(tmp_path / "data")] > 0
    assert ("stage_hangs", "evidence 1") in found
    assert {name[1] for name in found if name[0] == "stage_hangs" and not name[1].startswith("evidence ")} == {
        "detector",
        "writer",
        "sender",
        "periodic",
        "source cam1",
        "source cam2",
    }
    assert found["watchdog_pings_total",] >= 1
    assert sum(value for name, value in found.items() if name[0] == "collector_failures_total") == 0


def test_nothing_is_served_unless_it_is_asked_for(tmp_path: Path) -> None:
    with Daemon(write_config(tmp_path)) as daemon:
        daemon.until("ready")
        sockets = [line.split() for line in Path(f"/proc/{daemon.pid}/net/tcp").read_text().splitlines()[1:]]
        listening = {f"socket:[{fields[9]}]" for fields in sockets if fields[3] == "0A"}
        assert not listening & {str(link.readlink()) for link in Path(f"/proc/{daemon.pid}/fd").iterdir()}
        daemon.stop()


def test_a_port_that_is_taken_is_said_and_stops_no_inspection(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = write_config(tmp_path, health={"port": port})
        part(tmp_path / "cam1" / "a.png")
        with Daemon(config) as daemon:
            daemon.until(f"port {port} of 127.0.0.1 cannot be had (Address already in use): choose another health.port")
            daemon.has_inspected("a.png")
            daemon.stop()


def test_a_port_that_is_taken_is_tried_again_until_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="edge_agent")
    monkeypatch.setattr("edge_agent.health.server.TRY_AGAIN", Backoff(0.01, 0.05))
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with serving(port, CollectorRegistry(), lambda: (True, {})):
        assert "cannot be had (Address already in use)" in caplog.text
        taken.close()
        wait_until(lambda: "/metrics and /healthz" in caplog.text, "the port is open")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
    assert caplog.text.count("cannot be had") == 1


def test_a_client_that_hangs_up_leaves_no_traceback(
    port: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", logger="edge_agent")
    asked = threading.Event()
    gone = threading.Event()

    def health() -> tuple[bool, dict[str, object]]:
        asked.set()
        gone.wait(PATIENCE_S)
        return True, {"much": "x" * 5_000_000}

    with serving(port, CollectorRegistry(), health):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        asked.wait(PATIENCE_S)
        client.close()
        gone.set()
        wait_until(lambda: "the client hung up" in caplog.text, "it is noticed")
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.fixture
def port() -> int:
    return free_port()


def test_a_collector_that_fails_is_counted_and_the_others_go_on(port: int, caplog: pytest.LogCaptureFixture) -> None:
    def good() -> Iterator[Metric]:
        yield GaugeMetricFamily("edge_agent_good", "", 7)

    def broken() -> Iterator[Metric]:
        yield GaugeMetricFamily("edge_agent_half", "", 1)
        raise OSError("no such disk")

    registry = register(CollectorRegistry(), {"broken": broken, "good": good})
    with serving(port, registry, lambda: (True, {})):
        for times in (1, 2):
            found = samples(get(port, "/metrics")[1])
            assert found["good",] == 7
            assert ("half",) not in found
            assert found["collector_failures_total", "broken"] == times
            assert found["collector_failures_total", "good"] == 0
    assert caplog.text.count("the metrics of broken cannot be collected: no such disk") == 1


def test_metrics_of_a_database_that_does_not_answer_are_left_out_and_it_is_not_asked_again_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_agent.health.metrics.SLOW_S", 0.05)
    free, asked = threading.Event(), []

    def slow() -> Iterator[Metric]:
        asked.append(1)
        free.wait(PATIENCE_S)
        yield GaugeMetricFamily("edge_agent_slow", "", 7)

    registry = register(CollectorRegistry(), {"outbox": in_time(slow)})
    for times in (1, 2):
        found = samples(generate_latest(registry).decode())
        assert ("slow",) not in found
        assert found["collector_failures_total", "outbox"] == times
    assert len(asked) == 1
    assert (
        caplog.text.count("the metrics of outbox cannot be collected: the journal has not answered within 0.05 s") == 1
    )
    assert "Traceback" not in caplog.text
    free.set()
    wait_until(lambda: ("slow",) in samples(generate_latest(registry).decode()), "it is asked again once it answers")


def test_an_agent_that_hangs_or_is_not_ready_is_not_well(port: int) -> None:
    stage = Stage("detector")
    watchdog = Watchdog([stage], Notifier(None), lambda: "0 inspected", patience_s=0.05)
    ready = []
    with serving(port, CollectorRegistry(), lambda: watchdog.health(bool(ready))):
        assert get(port, "/healthz")[0] == 503
        assert json.loads(get(port, "/healthz")[1])["status"] == "starting"
        ready.append(True)
        assert get(port, "/healthz")[0] == 200
        stage.beat()
        wait_until(lambda: get(port, "/healthz")[0] == 503, "it is told to hang")
        assert json.loads(get(port, "/healthz")[1])["hanging"] == ["detector"]


def test_only_the_loopback_address_is_listened_at(port: int) -> None:
    with serving(port, CollectorRegistry(), lambda: (True, {})):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 5)
        assert get(port, "/healthz")[0] == 200


def test_who_connects_and_says_nothing_keeps_nobody_else_waiting_and_not_the_end(port: int) -> None:
    with socket.socket() as silent, serving(port, CollectorRegistry(), lambda: (True, {})):
        silent.connect(("127.0.0.1", port))
        assert get(port, "/healthz")[0] == 200
