"""What others publish moves nothing here: an agent without commanded cameras listens to no topic, and no path is ever used."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.agent import Daemon, part, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.mosquitto import Listener, Mosquitto

HOSTILE = [
    {"path": "/etc/passwd", "image": {"uri": "file:///etc/shadow"}},
    {"cmd": "fetch", "folder": "../../../../tmp/owned", "file": "../owned"},
    {"__class__": "os.system", "args": ["touch owned"]},
    {"station": "../cam2", "threshold": 1.0, "config": "/dev/zero"},
]
TOPICS = ["box/cmd/run", "box/cmd/../x", "box/cmd", "box/cam1/state", "box/cam1/alarm", "box/status"]


def test_hostile_messages_on_every_topic_change_nothing(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, settings=["log_type all"]) as broker, Listener(broker) as listener:
        with Daemon(write_config(tmp_path, broker=broker)) as daemon:
            daemon.until("mqtt: online")
            part(tmp_path / "cam1" / "a.png", 1)
            daemon.has_inspected("a.png")
            wait_until(lambda: listener.ids("alarm"), "its alarm comes")
            before = files(tmp_path)
            client = paho.Client(CallbackAPIVersion.VERSION2, "stranger", protocol=paho.MQTTv5)
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            sent = [
                client.publish(f"plant/line/{topic}", json.dumps(payload | {"id": "1"}), qos=1)
                for topic in TOPICS
                for payload in HOSTILE
            ]
            for one in sent:
                one.wait_for_publish(PATIENCE_S)
            client.disconnect()
            client.loop_stop()
            wait_until(
                lambda: sum(payload.get("id") == "1" for payload in listener.payloads("status")) == len(HOSTILE),
                "the broker has handed on all of them",
            )
            assert files(tmp_path) == before
            part(tmp_path / "cam1" / "b.png", 2)
            daemon.has_inspected("a.png", "b.png")
            wait_until(lambda: len(listener.ids("alarm")) == 3, "the daemon still publishes")
            daemon.stop()
            new = files(tmp_path) - before - {str(tmp_path / "cam1" / "b.png")}
            assert all("_b_" in name for name in new), "but for the evidence of b, no file has come"
        broker_log = (tmp_path / "mosquitto" / "log").read_text()
    assert "Received SUBSCRIBE from listener" in broker_log, "the broker tells who listens"
    heard = re.findall(r"Received SUBSCRIBE from edgeagent.*\n\d+: \t(\S+)", broker_log)
    assert heard == ["plant/line/box/status"], "it hears whether another agent of its name is there, and nothing else"


def files(folder: Path) -> set[str]:
    """All files but the journal's own and the broker's."""
    found = {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}
    return {name for name in found if "/mosquitto/" not in name and "journal.db" not in name}
