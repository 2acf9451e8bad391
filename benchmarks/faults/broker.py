"""Count what becomes of five alarms a second while the broker has one fault after another.

For each fault: a while of normal work, the fault, its end, and then the count of all alarms. The broker uses TLS and a
password. Run: python -m benchmarks.faults.broker [--seconds 60] [--down 600] [FAULT ...]
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.faults.agent import watching
from benchmarks.faults.line import WRONG, Camera, account, recorded, waiting, within
from benchmarks.faults.results import tell
from edge_agent.mqtt.broker import Broker, Tls, tls_context
from edge_agent.mqtt.sender import MqttSink
from tests.mosquitto import Listener, Mosquitto, authority, certificate

RIGHT, WRONG_PASSWORD, ID = "r1ght-pony", "wr0ng-horse", "soaked-agent"
EVERY_S = 0.2  # between alarms
MUST_BE_NONE = (
    *WRONG,
    "samples_that_claimed_to_be_online",
    "told_online_by_a_broker_that_refused_it",
    "not_online_again",
)


@dataclass(frozen=True)
class World:
    """A broker, and what an agent needs to get in: files that a fault may change."""

    broker: Mosquitto
    password: Path
    ca: Path
    other_ca: Path

    def as_agent_sees_it(self, keepalive_s: int, reconnect_max_s: float) -> Broker:
        return Broker(
            "127.0.0.1", "plant/line", "box", port=self.broker.port, username="agent", password=self.password.read_text,
            client_id=ID, tls=Tls(self.ca), keepalive_s=keepalive_s, reconnect_max_s=reconnect_max_s,
        )  # fmt: skip


@contextmanager
def down(world: World) -> Iterator[None]:
    world.broker.stop()
    yield
    world.broker.start()


@contextmanager
def frozen(world: World) -> Iterator[None]:
    world.broker.freeze()
    yield
    world.broker.thaw()


@contextmanager
def slamming(world: World) -> Iterator[None]:
    """Replace the broker by a server that accepts every connection and closes it at once."""
    world.broker.stop()
    server = socket.create_server(("127.0.0.1", world.broker.port))

    def slam() -> None:
        with suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=slam)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()
    world.broker.start()


@contextmanager
def wrong_password(world: World) -> Iterator[None]:
    world.password.write_text(WRONG_PASSWORD)
    world.broker.restart()
    yield
    world.password.write_text(RIGHT)


@contextmanager
def wrong_authority(world: World) -> Iterator[None]:
    right = world.ca.read_bytes()
    world.ca.write_bytes(world.other_ca.read_bytes())
    world.broker.restart()
    yield
    world.ca.write_bytes(right)


@contextmanager
def taken_over(world: World) -> Iterator[None]:
    """Connect again and again as another client with the agent's id."""
    stop = threading.Event()

    def take() -> None:
        while not stop.wait(0.5):
            thief = paho.Client(CallbackAPIVersion.VERSION2, ID, protocol=paho.MQTTv5, reconnect_on_failure=False)
            thief.username_pw_set("agent", RIGHT)
            thief.tls_set_context(tls_context(Tls(world.ca)))
            with suppress(OSError):
                thief.connect("127.0.0.1", world.broker.port)
                thief.loop_start()
                stop.wait(0.5)
                thief.disconnect()
                thief.loop_stop()

    thread = threading.Thread(target=take)
    thread.start()
    yield
    stop.set()
    thread.join()


FAULTS: dict[str, Callable[[World], AbstractContextManager[None]]] = {
    fault.__name__: fault for fault in (down, frozen, slamming, wrong_password, wrong_authority, taken_over)
}
NEVER_ONLINE = ("down", "slamming", "wrong_password", "wrong_authority")  # from the first second of the fault on
REFUSED = ("wrong_password", "wrong_authority")  # the broker goes on without the agent, and tells others of it


def soak(folder: Path, fault: str, seconds: float, *, keepalive_s: int = 5, calm_s: float = 5.0) -> dict[str, object]:
    """One fault for so many seconds; the counts. keepalive_s: after twice that a silent broker is given up."""
    grace_s = 2 * keepalive_s + 3.0 if fault == "frozen" else 1.0
    with (
        _world(folder) as world,
        Listener(world.broker, username="listener", password="heard", ca=world.ca) as listener,
    ):
        broker = world.as_agent_sees_it(keepalive_s, reconnect_max_s=min(30.0, max(seconds / 4, 1.0)))
        claimed = told = samples = 0
        with watching(folder, broker) as sender, Camera(folder / "cam1", EVERY_S) as camera:
            assert within(30, lambda: sender.online)
            time.sleep(calm_s)
            begun = time.monotonic()
            with FAULTS[fault](world):
                while (elapsed := time.monotonic() - begun) < seconds:
                    time.sleep(0.1)
                    if elapsed > grace_s and fault != "taken_over":
                        samples += 1
                        claimed += sender.online
                        told += fault in REFUSED and bool(listener.payloads("status")[-1]["online"])
            mended = time.monotonic()
            back = within(120, lambda: sender.online)
            back_s = time.monotonic() - mended
            time.sleep(calm_s)
            camera.stop()
            drained = _drained(folder, camera, sender)
            drained_s = time.monotonic() - mended
            counters = sender.counters()
            online_in_the_end = back and drained and within(10, lambda: listener.payloads("status")[-1]["online"])
        within(10, lambda: listener.payloads("status")[-1]["reason"] == "stopped")
        figures = account(camera.written, folder / "data" / "journal.db", listener)
        told_stopped = listener.payloads("status")[-1]["reason"] == "stopped"
    return {
        "seconds_of_fault": seconds,
        "keepalive_s": keepalive_s,
        **figures,
        "connections": counters.connections,
        "samples": samples,
        "samples_that_claimed_to_be_online": claimed,
        "told_online_by_a_broker_that_refused_it": told,
        "not_online_again": int(not online_in_the_end),
        "not_told_stopped": int(not told_stopped),
        "seconds_until_online_again": round(back_s, 1),
        "seconds_until_all_was_delivered": round(drained_s, 1),
    }


def _drained(folder: Path, camera: Camera, sender: MqttSink) -> bool:
    journal = folder / "data" / "journal.db"
    return within(300, lambda: recorded(journal) >= len(camera.written) and waiting(journal) == 0)


@contextmanager
def _world(folder: Path) -> Iterator[World]:
    ours, other = authority(folder, "ca"), authority(folder, "other")
    server = certificate(folder, "server", ours, usage="serverAuth")
    password, ca = folder / "password", folder / "trusted.pem"
    password.write_text(RIGHT)
    ca.write_bytes(ours.cert.read_bytes())
    with Mosquitto(folder, users={"agent": RIGHT, "listener": "heard"}, server=server) as broker:
        yield World(broker, password, ca, other.cert)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each fault (default 60)")
    parser.add_argument("--down", type=float, default=600.0, help="seconds without a broker (default 600)")
    options = parser.parse_args()
    code = 0
    for fault in options.faults or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            figures = soak(Path(folder), fault, options.down if fault == "down" else options.seconds)
        code |= tell(f"broker-{fault}", figures, MUST_BE_NONE)
    return code


if __name__ == "__main__":
    sys.exit(main())
