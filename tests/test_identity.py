"""Who an agent is and how it stands is told on the bus, on /healthz, in metrics and in the log, and is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_agent.mqtt.messages import schema
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.mosquitto import Listener, Mosquitto, free_port
from tests.test_health import get, samples

KINDS = ("alarm", "state", "status")


def last(listener: Listener, topic: str) -> dict[str, Any]:
    """Return the newest payload of a topic; empty without one."""
    heard = [one.payload for one in listener.heard(topic.rpartition("/")[2]) if one.topic == f"plant/line/{topic}"]
    return heard[-1] if heard else {}


def alarms(listener: Listener, station: str) -> list[tuple[str, str]]:
    return [(one["kind"], one["event"]) for one in listener.payloads("alarm") if one["station"] == station]


def assert_all_keep_to_their_schemas(listener: Listener) -> None:
    for kind in KINDS:
        for heard in listener.heard(kind):
            if heard.payload:
                jsonschema.validate(heard.payload, schema(kind))


def broken(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + path.name.encode())


def test_sources_and_undecided_pictures_raise_alarms_and_a_renamed_station_takes_its_own_along(
    tmp_path: Path, broker: Mosquitto, listener: Listener
) -> None:
    port, quick = free_port(), {"source_down_s": 0.5, "source": {"folder": "./cam2", "polling": True}}
    rest = {"broker": broker, "health": {"port": port}}
    stations = [station("cam1", threshold=ALL_OK), station("cam2", **quick), station("cam3", threshold=ALL_NOT_OK)]
    for name in ("cam1", "cam2", "cam3"):
        (tmp_path / name).mkdir()
    with Daemon(write_config(tmp_path, *stations, **rest)) as daemon:
        wait_until(lambda: last(listener, "box/cam2/state").get("source", {}).get("up"), "the source is up")
        status, state = last(listener, "box/status"), last(listener, "box/cam1/state")
        assert sorted(status["stations"]) == ["cam1", "cam2", "cam3"]
        assert (status["agent"], status["epoch"], status["twin"]) == ("box", state["epoch"], None)
        assert (state["evaluation"], state["alarm_active"], state["not_recording"]) == ("Undefined", False, None)

        (tmp_path / "cam2").rename(tmp_path / "gone")
        wait_until(lambda: alarms(listener, "cam2") == [("source", "raised")], "the folder is missed")
        wait_until(lambda: last(listener, "box/cam2/state")["alarms"] == ["source"], "the state says so")
        assert "No such file" in last(listener, "box/cam2/state")["source"]["reason"]
        found = samples(get(port, "/metrics")[1])
        assert found["alarm_active", "cam2", "source"] == 1
        assert found["alarm_active", "cam1", "source"] == 0
        assert found["source_up", "cam2"] == 0
        assert found[("info", *sorted(("box", status["version"], status["config_sha256"])))] == 1
        code, health = get(port, "/healthz")
        assert (code, json.loads(health)["alarms"]) == (200, {"cam2": ["source"]})
        (tmp_path / "gone").rename(tmp_path / "cam2")
        wait_until(lambda: alarms(listener, "cam2")[1:] == [("source", "cleared")], "it is back")

        for number in range(3):
            broken(tmp_path / "cam1" / f"{number}.png")
        wait_until(lambda: alarms(listener, "cam1") == [("undecidable", "raised")], "three pictures are undecidable")
        part(tmp_path / "cam3" / "bad.png")
        wait_until(lambda: alarms(listener, "cam3") == [("defect", "raised")], "a part is bad")
        for number in range(2):
            part(tmp_path / "cam1" / f"good{number}.png", number)
        wait_until(lambda: samples(get(port, "/metrics")[1])["verdict_seconds_count", "cam1"] == 5, "two are decided")
        assert alarms(listener, "cam1") == [("undecidable", "raised")]
        part(tmp_path / "cam1" / "good2.png", 2)
        wait_until(lambda: alarms(listener, "cam1")[1:] == [("undecidable", "cleared")], "three are")
        daemon.stop()
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
        lines = daemon.log.splitlines()
        assert all(re.match(rf"{stamp} (INFO|WARNING|ERROR) box: ", line) for line in lines if line.startswith("20"))
        assert any("WARNING box: station cam2: alarm raised (source): " in line for line in lines)
        assert {row["agent"] for row in daemon.rows} == {"box"}

    renamed = [*stations[:2], station("cam4", threshold=ALL_NOT_OK)]
    (tmp_path / "cam4").mkdir()
    with Daemon(write_config(tmp_path, *renamed, **rest)) as daemon:
        wait_until(lambda: alarms(listener, "cam3")[1:] == [("defect", "cleared")], "its alarm is ended")
        wait_until(lambda: last(listener, "box/cam3/state") == {}, "its state is cleared")
        wait_until(lambda: last(listener, "box/status").get("online") is True, "the agent is there")
        assert listener.payloads("alarm")[-1]["reason"] == "the station is no longer configured"
        with Listener(broker) as later:
            wait_until(
                lambda: {one["station"] for one in later.payloads("state")} == {"cam1", "cam2", "cam4"},
                "the others are retained",
            )
        daemon.stop()
    with Daemon(write_config(tmp_path, *renamed, **rest)) as daemon:
        wait_until(lambda: len(listener.payloads("status")) >= 5, "it is there once more")
        daemon.stop()
    assert alarms(listener, "cam3") == [("defect", "raised"), ("defect", "cleared")], "and only once"
    assert sum(one.topic.endswith("cam3/state") and not one.payload for one in listener.heard("state")) == 1
    assert_all_keep_to_their_schemas(listener)


@pytest.mark.parametrize("client_id", [None, "line4"])
def test_two_agents_of_one_name_say_so_on_both_sides_and_both_go_on(
    tmp_path: Path, broker: Mosquitto, listener: Listener, client_id: str | None
) -> None:
    """Also two machines with one machine-id: by default the client ids are the same then."""
    ports, configs = (free_port(), free_port()), []
    for number, port in enumerate(ports):
        (tmp_path / str(number)).mkdir()
        mqtt = {"host": "127.0.0.1", "port": broker.port, "prefix": "plant/line"}
        mqtt |= {"client_id": client_id} if client_id else {}
        name = station(f"cam{number}")
        configs.append(write_config(tmp_path / str(number), name, mqtt=mqtt, health={"port": port}))

    def healthz(port: int) -> tuple[int, str]:
        code, text = get(port, "/healthz")
        return code, json.loads(text)["status"]

    with Daemon(configs[0]) as first:
        first.until("mqtt: online")
        first.until("ready")
        wait_until(lambda: healthz(ports[0]) == (200, "ok"), "it is alone")
        with Daemon(configs[1]) as second:
            for daemon, port in ((first, ports[0]), (second, ports[1])):
                wait_until(lambda port=port: healthz(port) == (503, "twin"), "it says so")
                daemon.until("give each agent its own agent.name")
            if client_id is None:
                said = "another agent named box is at the broker (instance "
                wait_until(lambda: said in json.loads(get(ports[0], "/healthz")[1])["twin"], "it is known")
                wait_until(lambda: said in json.loads(get(ports[1], "/healthz")[1])["twin"], "on both sides")
                for number in (0, 1):
                    part(tmp_path / str(number) / f"cam{number}" / "a.png")
                wait_until(lambda: len(listener.ids("alarm")) == 2, "both deliver")
            second.stop()
        if client_id is None:
            first.until("no other agent named box is at the broker any longer")
            wait_until(lambda: healthz(ports[0]) == (200, "ok"), "it is alone again")
            wait_until(lambda: list(last(listener, "box/status")["stations"]) == ["cam0"], "its status is there again")
            assert last(listener, "box/status")["online"] is True
        first.stop()
    assert len({payload["epoch"] for payload in listener.payloads("alarm")}) in (0, 2)
    assert_all_keep_to_their_schemas(listener)
