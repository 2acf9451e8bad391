"""Each MQTT command has exactly one verdict, whatever happens to the agent, the broker, the camera, and whatever it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.core import Evaluation
from tests.agent import ALL_OK, Daemon, station, write_config
from tests.mosquitto import PATIENCE_S, Listener, Mosquitto, eventually
from tests.test_camera import clip

TOPIC = "plant/line/box/cmd/trigger"
NOT_DECIDABLE = Evaluation.NOT_DECIDABLE.value
WAITED = "the command waited at the broker while the agent was away, so the part may have gone"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as mosquitto:
        yield mosquitto


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


def commanded(folder: Path, broker: Mosquitto, *, camera: object = None, timeout_s: float = 5.0) -> Path:
    """The config of a station that is a video, and asked by commands."""
    trigger = {"mqtt": True, "timeout_s": timeout_s}
    source = {"camera": camera or str(clip(folder / "line.avi")), "repeat": True, "trigger": trigger}
    mqtt = {"host": "127.0.0.1", "port": broker.port, "prefix": "plant/line", "keepalive_s": 5, "results": True}
    return write_config(folder, station(source=source, threshold=ALL_OK), mqtt=mqtt)


def told(daemon: Daemon) -> Counter[tuple[str, str]]:
    return Counter((row["trigger_id"], row["part_id"]) for row in daemon.rows)


def once(*numbers: int) -> Counter[tuple[str, str]]:
    return Counter((f"T{number}", f"SN{number}") for number in numbers)


def has_told(daemon: Daemon, *numbers: int) -> None:
    """Wait until just these commands have their verdicts, and each one."""
    eventually(lambda: len(daemon.rows) >= len(numbers), f"verdicts on {numbers}")
    assert told(daemon) == once(*numbers), daemon.log


def test_each_command_has_one_verdict_with_its_part_and_its_trigger(tmp_path: Path, broker: Mosquitto) -> None:
    with Listener(broker) as listener, Daemon(commanded(tmp_path, broker)) as daemon:
        daemon.until("is open")
        daemon.until("hears plant/line/box/cmd/trigger")
        for number in range(5):
            send(broker, command(number))
            has_told(daemon, *range(number + 1))
        eventually(lambda: len(listener.ids("result")) == 5, "each is published")
        assert {result["part_id"] for result in listener.payloads("result")} == {f"SN{number}" for number in range(5)}
        daemon.stop()
    assert {row["evaluation"] for row in daemon.rows} == {"OK"}
