"""Each MQTT command has exactly one verdict, whatever happens to the agent, the broker, the camera, and whatever it says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import jsonschema
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config.describe import describe
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation
from edge_agent.errors import ConfigError
from edge_agent.mqtt.messages import schema
from edge_agent.mqtt.triggers import WAITED, Command, parse
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.mosquitto import Listener, Mosquitto, free_port
from tests.test_camera import clip

TOPIC = "plant/line/box/cmd/trigger"
NOT_DECIDABLE = Evaluation.NOT_DECIDABLE.value


def send(broker: Mosquitto, *commands: object, topic: str = TOPIC) -> None:
    """Publish with QoS 1 as a client of its own; bytes as they are, what else as JSON."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for command in commands:
        payload = command if isinstance(command, bytes) else json.dumps(command)
        client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()


def command(number: int, station: str = "cam1") -> dict[str, object]:
    return {"station": station, "trigger_id": f"T{number}", "part_id": f"SN{number}"}


def commanded(
    folder: Path,
    broker: Mosquitto,
    *,
    camera: object = None,
    timeout_s: float = 120.0,
    threshold: float = ALL_OK,
    **sections: object,
) -> Path:
    """The config of a station that is a video, and asked by commands."""
    trigger = {"mqtt": True, "timeout_s": timeout_s}
    source = {"camera": camera or str(clip(folder / "line.avi")), "repeat": True, "trigger": trigger}
    mqtt = {"host": "127.0.0.1", "port": broker.port, "prefix": "plant/line", "keepalive_s": 5, "results": True}
    return write_config(folder, station(source=source, threshold=threshold), mqtt=mqtt, **sections)


def told(daemon: Daemon) -> Counter[tuple[str, str]]:
    return Counter((row["trigger_id"], row["part_id"]) for row in daemon.rows)


def once(*numbers: int) -> Counter[tuple[str, str]]:
    return Counter((f"T{number}", f"SN{number}") for number in numbers)


def has_told(daemon: Daemon, *numbers: int) -> None:
    """Wait until just these commands have their verdicts, and each one."""
    wait_until(lambda: len(daemon.rows) >= len(numbers), f"verdicts on {numbers}")
    assert told(daemon) == once(*numbers), daemon.log


def test_each_command_has_one_verdict_with_its_part_and_its_trigger(tmp_path: Path, broker: Mosquitto) -> None:
    with Listener(broker) as listener, Daemon(commanded(tmp_path, broker, threshold=ALL_NOT_OK)) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        for number in range(5):
            send(broker, command(number))
            has_told(daemon, *range(number + 1))
        for kind in ("result", "alarm"):
            wait_until(lambda kind=kind: len(listener.ids(kind)) == 5, f"each {kind} is published")
            told_of = [(payload["trigger_id"], payload["part_id"]) for payload in listener.payloads(kind)]
            assert Counter(told_of) == once(*range(5))
        daemon.stop()
    assert {row["evaluation"] for row in daemon.rows} == {"NotOK"}


def test_a_command_is_answered_within_its_time_and_a_late_verdict_is_recorded_all_the_same(
    tmp_path: Path, broker: Mosquitto
) -> None:
    video = {"camera": str(clip(tmp_path / "line.avi")), "repeat": True}
    in_time, late = ({**video, "trigger": {"mqtt": True, "timeout_s": 120, "verdict_within_s": s}} for s in (120, 0.01))
    stations = [station("cam1", source=in_time, threshold=ALL_OK), station("cam2", source=late, threshold=ALL_OK)]
    with Listener(broker) as listener, Daemon(write_config(tmp_path, *stations, broker=broker)) as daemon:
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, command(0, "cam1"), command(0, "cam2"))
        has_told(daemon, 0, 0)
        wait_until(lambda: len(listener.ids("verdict")) == 2, "both are answered")
        told_of = {payload["station"]: payload for payload in listener.payloads("verdict")}
        for payload in told_of.values():
            jsonschema.validate(payload, schema("verdict"))
        assert (told_of["cam1"]["evaluation"], told_of["cam1"]["late"]) == ("OK", False)
        assert (told_of["cam2"]["evaluation"], told_of["cam2"]["late"]) == ("NotDecidable", True)
        assert {told["trigger_id"] for told in told_of.values()} == {"T0"}
        assert {row["evaluation"] for row in daemon.rows} == {"OK"}
        daemon.stop()


def test_a_command_that_was_sent_while_the_agent_was_away_has_its_verdict_and_no_later_parts_picture(
    tmp_path: Path, broker: Mosquitto
) -> None:
    config = commanded(tmp_path, broker)
    with Daemon(config) as daemon:
        daemon.until("hears plant/line/box/cmd/trigger")
        daemon.stop()
    send(broker, *map(command, range(50)))  # more than Mosquitto hands over at once by itself
    broker.restart()
    with Daemon(config) as daemon:
        has_told(daemon, *range(50))
        assert {row["reason"] for row in daemon.rows} == {WAITED}
        daemon.until("is open")
        send(broker, command(50))
        has_told(daemon, *range(51))
        assert daemon.rows[-1]["evaluation"] == "OK"
        daemon.stop()


def test_commands_are_heard_again_after_the_broker_was_down(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(commanded(tmp_path, broker)) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, command(0))
        has_told(daemon, 0)
        broker.stop()
        daemon.until("mqtt triggers: not connected to")
        broker.start()
        send(broker, command(1))  # the agent may be back by now, or not yet
        has_told(daemon, 0, 1)
        wait_until(lambda: daemon.log.count("hears plant/line/box") == 2, "it hears again")
        send(broker, command(2))
        has_told(daemon, 0, 1, 2)
        assert daemon.rows[2]["evaluation"] == "OK"
        daemon.stop()


def test_a_broker_that_forgot_the_session_is_told_of(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(commanded(tmp_path, broker)) as daemon:
        daemon.until("hears plant/line/box/cmd/trigger")
        broker.stop()
        broker.forget()
        broker.start()
        daemon.until("the broker has lost the session, and commands that were sent meanwhile")
        daemon.until("is open")
        send(broker, command(0))
        has_told(daemon, 0)


def test_a_broker_that_does_not_let_commands_be_heard_is_told_of(tmp_path: Path) -> None:
    plugin = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"), None)  # an acl_file refuses no subscription
    if plugin is None:
        pytest.skip("mosquitto's dynamic security is not installed")
    rules = tmp_path / "rules.json"
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules.write_text(json.dumps({"defaultACLAccess": allowed, "clients": [], "groups": [], "roles": []}))
    with (
        Mosquitto(tmp_path, settings=(f"plugin {plugin}", f"plugin_opt_config_file {rules}")) as broker,
        Daemon(commanded(tmp_path, broker)) as daemon,
    ):
        daemon.until("the broker refuses to let plant/line/box/cmd/trigger be heard: Not authorized: ")
        daemon.until("mqtt: online at")
        daemon.stop()


def test_a_command_that_comes_again_has_no_second_verdict(tmp_path: Path, broker: Mosquitto) -> None:
    config = commanded(tmp_path, broker)
    with Daemon(config) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, command(0), command(0), command(0))
        has_told(daemon, 0)
        send(broker, command(0), command(1))
        has_told(daemon, 0, 1)
        daemon.stop()
    send(broker, command(0), command(1), command(2))
    with Daemon(config) as daemon:
        has_told(daemon, 0, 1, 2)
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, command(2), command(3))
        has_told(daemon, 0, 1, 2, 3)
        daemon.stop()


def test_an_agent_killed_between_command_and_verdict_gives_one_verdict_at_its_next_start(
    tmp_path: Path, broker: Mosquitto
) -> None:
    config = commanded(tmp_path, broker, camera="/dev/video97", timeout_s=60)
    with Daemon(config) as daemon:
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, *map(command, range(30)))  # acknowledged to the sender; none can have a picture
        daemon.kill()
    assert not daemon.rows
    with Daemon(config) as daemon:
        has_told(daemon, *range(30))
        assert {(row["evaluation"], row["reason"]) for row in daemon.rows} == {(NOT_DECIDABLE, WAITED)}
        daemon.stop()


def test_an_agent_killed_again_and_again_amid_its_verdicts_gives_each_command_one(
    tmp_path: Path, broker: Mosquitto
) -> None:
    config = commanded(tmp_path, broker)
    for begin in (0, 20, 40):
        with Daemon(config) as daemon:
            daemon.until("is open")
            daemon.until("hears plant/line/box/cmd/trigger")
            send(broker, *map(command, range(begin, begin + 20)))
            wait_until(lambda least=begin + 2: len(daemon.rows) > least, "some are inspected")
            daemon.kill()
    with Daemon(config) as daemon:
        wait_until(lambda: len(daemon.rows) >= 60, "each has its verdict")
        send(broker, command(60))
        has_told(daemon, *range(61))
        daemon.stop()


def test_a_command_without_a_picture_is_not_decidable_and_says_why(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(commanded(tmp_path, broker, camera="/dev/video97", timeout_s=0.5)) as daemon:
        daemon.until("/dev/video97 cannot be opened")
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, command(0))
        has_told(daemon, 0)
        daemon.stop()
    (row,) = daemon.rows
    assert row["evaluation"] == NOT_DECIDABLE
    assert row["reason"].startswith("no picture within 0.5 s of the trigger: the camera cannot be opened")


MALFORMED = [
    b"",
    b"\xff\xfe\x00",
    b"{",
    b"null",
    b"[" * 4000,
    b"[]",
    b'"cam1"',
    b"1" * 4000,
    b"x" * 100_000,
    b"x" * 300_000,
    b'{"station": "cam1"}',
    b'{"station": ["cam1"], "trigger_id": "T"}',
    b'{"station": "cam1", "trigger_id": ""}',
    b'{"station": "cam1", "trigger_id": true}',
    b'{"station": "cam1", "trigger_id": "a\\nWARNING all is well\\u001b[2J"}',
    b'{"station": "cam1", "trigger_id": "\\ud800"}',
    json.dumps({"station": "cam1", "trigger_id": "T" * 201}).encode(),
]
UNKNOWN = [b'{"station": "../../etc/passwd", "trigger_id": "T"}', b'{"station": "cam2", "trigger_id": "T"}']
FAULTY = [
    {"station": "cam1", "trigger_id": f"F{number}", "part_id": part} for number, part in enumerate(([], "", "a\tb"))
]


def test_what_is_no_command_is_told_and_does_no_harm(tmp_path: Path, broker: Mosquitto, listener: Listener) -> None:
    noise = random.Random(0)
    mangled = []
    for number in range(200):
        payload = bytearray(json.dumps(command(number)).encode())
        for _ in range(noise.randrange(1, 4)):
            payload[noise.randrange(11)] = noise.randrange(1, 32)  # no station can be read any more
        mangled.append(bytes(payload))
    port = free_port()
    with Daemon(commanded(tmp_path, broker, health={"port": port})) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, *MALFORMED, *UNKNOWN, *mangled, *FAULTY)
        send(broker, {"station": "cam1", "trigger_id": "../../T\\etc", "part_id": "/etc/passwd"})
        send(broker, {"station": "cam1", "trigger_id": 4711, "part_id": 12, "more": {}})
        send(broker, {"station": "cam1", "trigger_id": "no part"})
        wait_until(lambda: len(daemon.rows) == 6, "each that can be answered is")
        daemon.until("a command is malformed")
        wait_until(lambda: len(listener.ids("verdict")) == 2, "those for stations that there are not are answered")
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            counted = dict(
                re.findall(r'^edge_agent_commands_total{outcome="(\w+)"} ([\d.]+)$', answer.read().decode(), re.M)
            )
        daemon.stop()
    for heard in listener.heard("verdict"):
        jsonschema.validate(heard.payload, schema("verdict"))
        assert heard.topic in ("plant/line/box/cam2/verdict", "plant/line/box/.._.._etc_passwd/verdict")
        said = (heard.payload["evaluation"], heard.payload["reason"], heard.payload["trigger_id"])
        assert said == (NOT_DECIDABLE, "the command names no station that takes commands", "T")
    heard_of = len(MALFORMED) - 1 + len(mangled)  # the broker hands nothing over that is larger than it was told to
    assert {outcome: float(times) for outcome, times in counted.items()} == {
        "asked": 3, "waited": 0, "faulty": 3, "repeated": 0, "malformed": heard_of, "unknown": 2,
    }  # fmt: skip
    by_trigger = {row["trigger_id"]: row for row in daemon.rows}
    for number in range(3):
        row = by_trigger[f"F{number}"]
        assert (row["evaluation"], row["part_id"]) == (NOT_DECIDABLE, None)
        assert row["reason"] == "the command's part_id is no text of 1 to 200 printable characters"
    assert {(name, row["part_id"]) for name, row in by_trigger.items() if row["evaluation"] == "OK"} == {
        ("../../T\\etc", "/etc/passwd"),
        ("4711", "12"),
        ("no part", None),
    }
    assert max(map(len, daemon.log.splitlines())) < 600
    assert "\x1b" not in daemon.log
    assert "Traceback" not in daemon.log
    assert not [path for path in tmp_path.rglob("*") if path.name == "passwd"]


def test_a_station_that_is_held_up_holds_up_no_other(tmp_path: Path, broker: Mosquitto) -> None:
    mqtt = {"host": "127.0.0.1", "port": broker.port, "prefix": "plant/line", "results": True}
    away = {"camera": "/dev/video97", "trigger": {"mqtt": True, "timeout_s": 600}}
    video = {"camera": str(clip(tmp_path / "line.avi")), "repeat": True, "trigger": "mqtt"}
    config = write_config(
        tmp_path, station(source=video, threshold=ALL_OK), station("cam2", source=away, threshold=ALL_OK), mqtt=mqtt
    )
    with Daemon(config) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        send(broker, *(command(number, "cam2") for number in range(100)), command(100))
        has_told(daemon, 100)
        assert daemon.rows[0]["evaluation"] == "OK"
        daemon.stop()


def test_the_schema_takes_what_the_agent_takes() -> None:
    checker = jsonschema.Draft202012Validator(schema("trigger"))
    assert jsonschema.Draft202012Validator.check_schema(schema("trigger")) is None
    for fine in (command(1), {"station": "cam1", "trigger_id": 1, "part_id": None}):
        checker.validate(fine)
        assert parse(json.dumps(fine).encode()) == Command("cam1", str(fine["trigger_id"]), fine["part_id"])
    for bad in (*FAULTY[:2], {"station": "cam1"}, {"station": "", "trigger_id": "T"}):
        assert not checker.is_valid(bad)


@pytest.mark.parametrize("payload", [part for part in MALFORMED if len(part) < 100_000])
def test_a_payload_that_is_no_command_is_said_to_be_none(payload: bytes) -> None:
    assert isinstance(parse(payload), str)


def test_each_mistake_with_a_commanded_camera_has_its_sentence(tmp_path: Path, broker: Mosquitto) -> None:
    def said(trigger: object, **sections: object) -> str:
        source = {"camera": 0, "trigger": trigger}
        with pytest.raises(ConfigError) as caught:
            load_config(write_config(tmp_path, station(source=source), **sections))
        return str(caught.value)

    assert "trigger: mqtt wants a broker: add a section mqtt: {host: ...}" in said("mqtt")
    assert "trigger.folder: and mqtt exclude each other" in said({"mqtt": True, "folder": "t"})
    assert "trigger.opcua: and mqtt exclude each other" in said({"mqtt": True, "opcua": True})
    assert "trigger.folder: is missing; for example folder: ./triggers, or mqtt: true" in said({"mqtt": False})
    config = load_config(write_config(tmp_path, station(source={"camera": 0, "trigger": "mqtt"}), broker=broker))
    assert any("set mqtt.results: true to have every verdict published" in warning for warning in config.warnings)
    assert "a picture for each command on PREFIX/AGENT/cmd/trigger" in describe(config)
