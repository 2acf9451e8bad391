"""No alarm is lost and none overtakes another, whatever a real broker goes through; and it tells who is there."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.core import (
    MQTT,
    AgentNow,
    AlarmEvent,
    AlarmKind,
    Evaluation,
    Evidence,
    Outbox,
    SourceState,
    StationNow,
)
from edge_agent.errors import JournalError, SinkDown
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from edge_agent.mqtt.broker import Broker, Tls, default_client_id
from edge_agent.mqtt.messages import alarm_message, result_message, schema
from edge_agent.mqtt.probe import examine
from edge_agent.mqtt.sender import MqttSink
from tests.conftest import PATIENCE_S, slowness, wait_until
from tests.line import NOON, TRACE, context, inspected
from tests.mosquitto import Listener, Mosquitto, authority, certificate, free_port

DOWN_S = float(os.environ.get("EDGE_AGENT_BROKER_DOWN_S", "3"))  # how long the broker is away; ten minutes is 600
SECRET = "corr3ct-horse-battery"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db")
    yield journal
    journal.close()


def to(port: int, **changes: Any) -> Broker:
    details: dict[str, Any] = {"reconnect_min_s": 0.2, "reconnect_max_s": 1.0} | changes
    return Broker("127.0.0.1", "acme/line4", "agent1", port=port, **details)


@contextmanager
def sending(broker: Broker, outbox: Outbox, **options: Any) -> Iterator[MqttSink]:
    about = {key: options.pop(key) for key in ("stations", "now", "twin") if key in options}
    sink = MqttSink(broker, context(outbox, **about), **options)
    try:
        yield sink
    finally:
        sink.close()


def alarm(journal: Journal, sink: MqttSink | None = None, station: str = "cam1", part_id: str = "SN123") -> str:
    """Record one alarm as the pipeline does, and return its id."""
    made = inspected(AlarmEvent.RAISED, station, part_id=part_id)
    message = alarm_message(made, Evidence())
    assert message is not None
    journal.record(made, Evidence(), [message])
    if sink is not None:
        sink.write(made, Evidence())
    return message.id


def waiting(journal: Journal) -> int:
    return journal.outbox(MQTT).outbox_depth()[0]


def all_sent(journal: Journal) -> None:
    wait_until(lambda: waiting(journal) == 0, "nothing waits in the journal")


def assert_each_came_in_order(listener: Listener, ids: list[str]) -> None:
    """Each at least once, the first of each in the order of recording, nothing else, and no id with two contents."""
    wait_until(lambda: len(listener.ids("alarm")) >= len(ids), f"all {len(ids)} alarms are heard")
    assert listener.ids("alarm") == ids
    contents = {
        (payload["id"], str({key: value for key, value in payload.items() if key != "historical"}))
        for payload in listener.payloads("alarm")
    }
    assert len(contents) == len(ids)


# Delivery


def test_alarms_arrive_in_order_and_keep_to_the_schemas(broker: Mosquitto, journal: Journal) -> None:
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        ids = [alarm(journal, sink) for _ in range(25)]
        assert_each_came_in_order(listener, ids)
        all_sent(journal)
        wait_until(lambda: sink.counters().sent == 25, "all are counted, which is done once they are marked")
        assert sink.counters().redelivered == 0
        assert sink.counters().last_error is None
    assert {message.topic for message in listener.heard("alarm")} == {"acme/line4/agent1/cam1/alarm"}
    assert not any(payload["historical"] for payload in listener.payloads("alarm"))
    assert [payload["seq"] for payload in listener.payloads("alarm")] == list(range(1, 26))
    for kind in ("alarm", "state", "status"):
        assert listener.payloads(kind)
        for payload in listener.payloads(kind):
            jsonschema.validate(payload, schema(kind))


def test_what_was_recorded_before_the_broker_was_there_says_that_it_is_late(tmp_path: Path, journal: Journal) -> None:
    broker = Mosquitto(tmp_path)
    early = [alarm(journal) for _ in range(30)]
    with sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: "nothing listens" in str(sink.counters().last_error), "the sink says that nobody is there")
        with broker, Listener(broker) as listener:
            wait_until(lambda: sink.online, "the sink is online")
            prompt = alarm(journal, sink)
            assert_each_came_in_order(listener, [*early, prompt])
            late = {payload["id"]: payload["historical"] for payload in listener.payloads("alarm")}
            assert late == dict.fromkeys(early, True) | {prompt: False}
            sink.close()


def test_a_message_that_waited_long_is_late_even_on_an_old_connection(broker: Mosquitto, journal: Journal) -> None:
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT), late_s=0.0) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        alarm(journal, sink)
        wait_until(lambda: listener.payloads("alarm"), "the alarm is heard")
        assert listener.payloads("alarm")[0]["historical"] is True


def test_alarms_survive_restarts_of_the_broker(broker: Mosquitto, journal: Journal) -> None:
    ids = []
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        for number in range(60):
            ids.append(alarm(journal, sink))
            if number % 20 == 10:
                broker.restart()
        assert_each_came_in_order(listener, ids)
        all_sent(journal)


def test_alarms_of_a_time_without_broker_arrive_after_it(broker: Mosquitto, journal: Journal) -> None:
    ids, enough = [], threading.Event()

    def work() -> None:
        while not enough.wait(0.05):
            ids.append(alarm(journal, sink))

    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        worker = threading.Thread(target=work)
        worker.start()
        try:
            wait_until(lambda: len(listener.ids("alarm")) > 10, "alarms are heard")
            broker.stop()
            time.sleep(DOWN_S)
            assert not sink.online
            broker.start()
            wait_until(lambda: sink.online, "the sink is online again", DOWN_S + PATIENCE_S)
        finally:
            enough.set()
            worker.join()
        assert_each_came_in_order(listener, ids)
        all_sent(journal)


def test_what_a_hanging_broker_never_acknowledged_is_sent_again_with_the_same_ids(
    broker: Mosquitto, journal: Journal
) -> None:
    with Listener(broker) as listener, sending(to(broker.port, keepalive_s=1), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        ids = [alarm(journal, sink)]
        all_sent(journal)
        broker.freeze()
        ids += [alarm(journal, sink) for _ in range(40)]
        wait_until(lambda: not sink.online, "the sink sees that the broker hangs")
        assert waiting(journal) == 40
        broker.thaw()
        assert_each_came_in_order(listener, ids)
        all_sent(journal)
        assert sink.counters().redelivered > 0


def test_a_broker_that_allows_one_message_at_a_time_gets_one_at_a_time(tmp_path: Path, journal: Journal) -> None:
    with Mosquitto(tmp_path, settings=["max_inflight_messages 1"]) as broker, Listener(broker) as listener:
        ids = [alarm(journal) for _ in range(20)]
        with sending(to(broker.port), journal.outbox(MQTT)) as sink:
            assert_each_came_in_order(listener, ids)
            assert sink.counters().connections == 1


def test_results_go_the_same_way_as_alarms(broker: Mosquitto, journal: Journal) -> None:
    made = inspected(evaluation=Evaluation.NOT_DECIDABLE, reason="a.png: truncated")
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        journal.record(made, Evidence(), [result_message(made, Evidence())])
        sink.write(made, Evidence())
        wait_until(lambda: listener.payloads("result"), "the result is heard")
    (heard,) = listener.heard("result")
    assert heard.topic == "acme/line4/agent1/cam1/result"
    assert heard.payload["reason"] == "a.png: truncated"
    jsonschema.validate(heard.payload, schema("result"))


# Refusals


def test_a_refused_message_is_said_waits_and_does_not_hold_up_the_others(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)
    broker.allow("topic read #", "topic write acme/line4/agent1/cam2/#", "topic write acme/line4/agent1/status")
    with (
        broker,
        Listener(broker) as listener,
        sending(to(broker.port, reconnect_max_s=0.3), journal.outbox(MQTT)) as sink,
    ):
        refused = [alarm(journal, sink, "cam1") for _ in range(25)]
        taken = [alarm(journal, sink, "cam2") for _ in range(25)]
        assert_each_came_in_order(listener, taken)
        wait_until(lambda: waiting(journal) == 25, "the refused ones wait")
        assert "acme/line4/agent1/cam1/alarm is refused: " in caplog.text
        wait_until(lambda: "access list" in str(sink.counters().last_error), "the counters tell of it")

        broker.allow("topic readwrite #")
        all_sent(journal)
        assert_each_came_in_order(listener, taken + refused)
        wait_until(lambda: sink.counters().last_error is None, "all is well")


def test_a_broker_that_ends_the_connection_over_a_message_is_found_out(
    broker: Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Cutter(broker.port) as cutter,
        Listener(broker) as listener,
        sending(to(cutter.port, reconnect_max_s=0.3), journal.outbox(MQTT)) as sink,
    ):
        cutter.forbidden = b"cam1/alarm"
        refused = [alarm(journal, sink, "cam1") for _ in range(25)]
        taken = [alarm(journal, sink, "cam2") for _ in range(25)]
        assert_each_came_in_order(listener, taken)
        assert "acme/line4/agent1/cam1/alarm is refused: the broker ends the connection over it" in caplog.text
        wait_until(lambda: waiting(journal) == 25, "the refused ones wait")

        cutter.forbidden = None
        all_sent(journal)
        assert_each_came_in_order(listener, taken + refused)


def test_a_message_too_large_for_the_broker_does_not_end_the_connection(tmp_path: Path, journal: Journal) -> None:
    with Mosquitto(tmp_path, settings=["max_packet_size 2000"]) as broker, Listener(broker) as listener:
        alarm(journal, part_id="x" * 3000)
        small = alarm(journal)
        with sending(to(broker.port), journal.outbox(MQTT)) as sink:
            assert_each_came_in_order(listener, [small])
            assert sink.counters().connections == 1
            assert "2000 are allowed" in str(sink.counters().last_error)
        assert waiting(journal) == 1


def test_a_message_too_large_for_a_broker_that_does_not_say_its_limit_holds_up_no_later_alarm(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, settings=["message_size_limit 2000"]) as broker, Listener(broker) as listener:
        for _ in range(2):
            alarm(journal, part_id="x" * 3000)
        small = [alarm(journal) for _ in range(3)]
        with sending(to(broker.port, reconnect_max_s=0.2), journal.outbox(MQTT)) as sink:
            assert_each_came_in_order(listener, small)
            small.append(alarm(journal, sink))
            assert_each_came_in_order(listener, small)
        assert waiting(journal) == 2
    assert "a message is too large for it" in caplog.text
    assert "smaller messages pass, so the broker's limit is below 3" in caplog.text
    assert "what answers there is no MQTT 5 broker" not in caplog.text
    (tmp_path / "raised").mkdir()
    with Mosquitto(tmp_path / "raised") as broker, sending(to(broker.port), journal.outbox(MQTT)):
        wait_until(lambda: waiting(journal) == 0, "once the broker's limit is raised, the large ones come, too")


REASONS = (0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)  # that MQTT 5 has for a PUBACK


@pytest.mark.parametrize("reason", [*REASONS, None])
def test_a_message_that_is_refused_by_itself_is_set_aside_and_holds_up_no_other(
    tmp_path: Path, broker: Mosquitto, journal: Journal, reason: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: the broker ends the connection over it."""
    monkeypatch.setattr("edge_agent.mqtt.sender.POLL_S", 0.05)
    with (
        Cutter(broker.port, b"poisoned", reason) as cutter,
        Listener(broker) as listener,
        sending(to(cutter.port, reconnect_min_s=0.01, reconnect_max_s=0.02), journal.outbox(MQTT)) as sink,
    ):
        ids = [alarm(journal, sink) for _ in range(3)]
        alarm(journal, sink, part_id="poisoned")
        ids += [alarm(journal, sink) for _ in range(12)]
        wait_until(lambda: len(listener.ids("alarm")) == 15, "the others come")
        assert listener.ids("alarm") == ids
        ids.append(alarm(journal, sink))
        wait_until(lambda: listener.ids("alarm") == ids, "and newer ones do")
        all_sent(journal)
        wait_until(lambda: sink.counters().last_error is None, "all is well")
        assert sink.counters().refused >= 5
    with open_reader(f"sqlite:///{tmp_path}/journal.db") as reader:
        (aside,) = reader.dropped()
        assert aside.dropped.startswith("the broker refused it 5 times, and took others of its topic: ")
        assert aside.payload["part_id"] == "poisoned"


class Cutter:
    """Passes bytes on to a broker, but cuts the connection over what is forbidden, as some brokers in the cloud do."""

    def __init__(self, broker_port: int, forbidden: bytes | None = None, reason: int | None = None) -> None:
        """reason: refuse a message that has what is forbidden by this code of a PUBACK, and do not cut."""
        self._broker_port, self.forbidden, self._reason = broker_port, forbidden, reason
        self._server = socket.create_server(("127.0.0.1", free_port()))
        self._thread = threading.Thread(target=self._accept)
        self.port = self._server.getsockname()[1]

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=[client], daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
            back = threading.Thread(target=self._pass, args=(broker, client), daemon=True)
            back.start()
            self._pass(client, broker)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._reason is not None:
                    data = (
                        self._without_forbidden(source, data) if target.getpeername()[1] == self._broker_port else data
                    )
                elif self.forbidden and self.forbidden in data:
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _without_forbidden(self, source: socket.socket, data: bytes) -> bytes:
        """Answer the forbidden messages among some packets, whole ones but for the last; return the others."""
        kept = b""
        while data:
            size, shift, start = 0, 0, 1
            while True:
                while len(data) <= start:
                    data += source.recv(65536)
                size |= (data[start] & 127) << shift
                shift, start = shift + 7, start + 1
                if data[start - 1] < 128:
                    break
            while len(data) < start + size:
                data += source.recv(65536)
            packet, data = data[: start + size], data[start + size :]
            if packet[0] >> 4 == 3 and self.forbidden in packet:
                at = start + 2 + int.from_bytes(packet[start : start + 2], "big")
                source.sendall(b"\x40\x03" + packet[at : at + 2] + bytes([self._reason]))
            else:
                kept += packet
        return kept


# Trouble with the journal


class FailingOutbox:
    """A journal that fails every other time."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._calls = journal, 0

    def _maybe_fail(self) -> None:
        self._calls += 1
        if self._calls % 2:
            raise JournalError("journal.db: database is locked")

    def pending(self, limit: int) -> Any:
        self._maybe_fail()
        return self._journal.outbox(MQTT).pending(limit)

    def mark_sent(self, seqs: Any) -> None:
        self._maybe_fail()
        self._journal.outbox(MQTT).mark_sent(seqs)

    def outbox_depth(self) -> Any:
        return self._journal.outbox(MQTT).outbox_depth()

    def set_aside(self, seq: int, reason: str) -> None:
        self._journal.outbox(MQTT).set_aside(seq, reason)

    def retained(self) -> Any:
        return self._journal.outbox(MQTT).retained()

    def retain(self, topics: Any) -> None:
        self._maybe_fail()
        self._journal.outbox(MQTT).retain(topics)

    def forget(self, topics: Any) -> None:
        self._journal.outbox(MQTT).forget(topics)


def test_a_failing_journal_delays_alarms_and_loses_none(
    broker: Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    quick = to(broker.port, reconnect_max_s=0.2)
    with Listener(broker) as listener, sending(quick, FailingOutbox(journal)) as sink:
        ids = [alarm(journal, sink) for _ in range(40)]
        assert_each_came_in_order(listener, ids)
        all_sent(journal)
        assert sink.counters().connections == 1
    assert "database is locked" in caplog.text


# State and status


def test_the_state_of_a_station_is_retained(broker: Mosquitto, journal: Journal) -> None:
    alarms = {AlarmKind.DEFECT}

    def now() -> AgentNow:
        return AgentNow("c" * 64, {"cam1": StationNow(TRACE, SourceState(True, NOON), frozenset(alarms))})

    with sending(to(broker.port), journal.outbox(MQTT), now=now) as sink:
        sink.write(inspected(AlarmEvent.RAISED), Evidence())
        sink.write(inspected(), Evidence())

        def last_state() -> dict[str, Any]:
            with Listener(broker) as listener:
                wait_until(lambda: listener.payloads("state"), "the state is heard")
                return listener.payloads("state")[-1]

        wait_until(lambda: last_state()["counts"]["OK"] == 1, "the newest state is retained")
        assert last_state()["alarm_active"] is True
        assert last_state()["evaluation"] == "OK"
        alarms.clear()
        sink.write(inspected(AlarmEvent.CLEARED), Evidence())
        wait_until(lambda: last_state()["alarm_active"] is False, "the alarm is over")


def test_states_and_status_come_back_to_a_broker_that_forgot_them(broker: Mosquitto, journal: Journal) -> None:
    with sending(
        to(broker.port), journal.outbox(MQTT), stations={"cam1": frozenset({AlarmKind.DEFECT}), "cam2": frozenset()}
    ) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        broker.stop()
        broker.forget()
        broker.start()
        with Listener(broker) as listener:
            wait_until(lambda: len(listener.payloads("state")) >= 2, "both states are heard")
            states = {payload["station"]: payload for payload in listener.payloads("state")}
            assert states["cam1"]["alarm_active"] is True
            assert states["cam2"]["alarm_active"] is False
            wait_until(lambda: listener.payloads("status"), "the status is heard")
            assert listener.payloads("status")[-1]["online"] is True


def test_status_and_state_say_that_nothing_is_recorded_even_while_the_outbox_fails(
    broker: Mosquitto, journal: Journal
) -> None:
    why: list[str | None] = [None]

    def now() -> AgentNow:
        return AgentNow("c" * 64, {"cam1": StationNow(TRACE, SourceState(True, NOON))}, why[0])

    with Listener(broker) as listener, sending(to(broker.port), FailingOutbox(journal), now=now):
        wait_until(lambda: listener.payloads("status"), "the agent is there")
        for reason in ("journal.db: the disk is read-only", None):
            why[0] = reason
            for kind in ("status", "state"):
                told = [reason]
                wait_until(
                    lambda kind=kind, told=told: [listener.payloads(kind)[-1]["not_recording"]] == told,
                    f"the {kind} says so",
                )


def test_an_agent_that_stops_says_so(broker: Mosquitto, journal: Journal) -> None:
    with Listener(broker) as listener:
        with sending(to(broker.port), journal.outbox(MQTT)) as sink:
            wait_until(lambda: listener.payloads("status"), "the agent is there")
        wait_until(lambda: len(listener.payloads("status")) == 2, "the agent has said that it stops")
        assert not sink.online
    said = [(payload["online"], payload["reason"]) for payload in listener.payloads("status")]
    assert said == [(True, "connected"), (False, "stopped")]
    with Listener(broker) as newcomer:
        wait_until(lambda: newcomer.heard("status"), "the status is retained")
        assert newcomer.heard("status")[0].retained


AGENT = """
import sys, time
from edge_agent.core import Evidence
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from edge_agent.mqtt.messages import alarm_message
from edge_agent.mqtt.broker import Broker
from edge_agent.mqtt.probe import examine
from edge_agent.mqtt.sender import MqttSink
from edge_agent.core import AlarmEvent
from tests.line import NOON, TRACE, context, inspected

url, port = sys.argv[1:]
journal = Journal.open(url)
sink = MqttSink(Broker("127.0.0.1", "acme/line4", "agent1", port=int(port)), context(journal.outbox("mqtt")))
while True:
    made = inspected(AlarmEvent.RAISED)
    journal.record(made, Evidence(), [alarm_message(made, Evidence())])
    sink.write(made, Evidence())
    print(made.id, flush=True)
    time.sleep(0.01)
"""


def test_a_killed_agent_is_told_lost_and_its_next_run_sends_the_rest(broker: Mosquitto, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    with Listener(broker) as listener:
        agent = subprocess.Popen(
            [sys.executable, "-c", AGENT, url, str(broker.port)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        try:
            wait_until(lambda: len(listener.ids("alarm")) > 10, "alarms are heard")
        finally:
            agent.send_signal(signal.SIGKILL)
            said, _ = agent.communicate()
        recorded = said.split("\n")[:-1]
        wait_until(lambda: len(listener.payloads("status")) == 2, "the broker tells of the loss")
        jsonschema.validate(listener.payloads("status")[1], schema("status"))
        told = [(payload["online"], payload["reason"]) for payload in listener.payloads("status")]
        assert told == [(True, "connected"), (False, "lost")]

        journal = Journal.open(url)
        last = alarm(journal)
        with sending(to(broker.port), journal.outbox(MQTT)):
            wait_until(lambda: last in listener.ids("alarm"), "the next run goes on")
            all_sent(journal)
        journal.close()
    heard = listener.ids("alarm")
    assert heard[-1] == last
    assert [id_ for id_ in heard if id_ in set(recorded)] == recorded
    assert len(heard) - len(recorded) <= 2, "but for the new one, at most one was recorded and not yet printed"


# Who may connect


def test_a_refused_connection_is_not_online_and_the_password_is_never_told(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "wr0ng-pony-charger"
    password = tmp_path / "password"
    login = {"username": "agent", "password": lambda: password.read_text().strip()}
    with (
        Mosquitto(tmp_path, users={"agent": SECRET, "listener": "heard"}) as broker,
        Listener(broker, username="listener", password="heard") as listener,
        sending(to(broker.port, **login), journal.outbox(MQTT)) as sink,
    ):
        sent = alarm(journal, sink)
        wait_until(lambda: "password cannot be read" in str(sink.counters().last_error), "it misses its password")
        password.write_text(wrong)
        wait_until(lambda: "the broker refuses the connection" in str(sink.counters().last_error), "it is refused")
        assert "mqtt.username and mqtt.password" in str(sink.counters().last_error)
        assert "the broker refuses the connection" in caplog.text
        assert not sink.online
        assert not listener.payloads("status")
        assert sink.counters().connections == 0

        password.write_text(SECRET)
        assert_each_came_in_order(listener, [sent])
        all_sent(journal)
        told = caplog.text + repr(sink.counters()) + repr(to(1, password=SECRET)) + repr(to(1, **login))
    assert SECRET not in told
    assert wrong not in told


def test_over_tls_alarms_arrive(tmp_path: Path, journal: Journal) -> None:
    ca = authority(tmp_path, "ca")
    server = certificate(tmp_path, "server", ca, usage="serverAuth")
    with (
        Mosquitto(tmp_path, server=server) as broker,
        Listener(broker, ca=ca.cert) as listener,
        sending(to(broker.port, tls=Tls(ca.cert)), journal.outbox(MQTT)) as sink,
    ):
        ids = [alarm(journal, sink) for _ in range(20)]
        broker.restart()
        ids += [alarm(journal, sink) for _ in range(20)]
        assert_each_came_in_order(listener, ids)


def test_a_broker_that_another_authority_signed_gets_nothing(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    ca, other = authority(tmp_path, "ca"), authority(tmp_path, "other")
    server = certificate(tmp_path, "server", ca, usage="serverAuth")
    with (
        Mosquitto(tmp_path, server=server) as broker,
        sending(to(broker.port, tls=Tls(other.cert)), journal.outbox(MQTT)) as sink,
    ):
        alarm(journal, sink)
        wait_until(lambda: sink.counters().last_error, "it cannot connect")
        assert f"{other.cert} did not sign it: set mqtt.tls.ca" in caplog.text
        assert not sink.online
    assert waiting(journal) == 1


def test_a_broker_of_another_name_gets_nothing(tmp_path: Path, journal: Journal) -> None:
    ca = authority(tmp_path, "ca")
    server = certificate(tmp_path, "server", ca, usage="serverAuth", subject="DNS:broker.example")
    with (
        Mosquitto(tmp_path, server=server) as broker,
        sending(to(broker.port, tls=Tls(ca.cert)), journal.outbox(MQTT)) as sink,
    ):
        wait_until(lambda: sink.counters().last_error, "it cannot connect")
        assert "set mqtt.host to an address or name that it is for" in str(sink.counters().last_error)
        assert not sink.online


def test_mutual_tls_needs_a_certificate_that_the_broker_trusts(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    ca = authority(tmp_path, "ca")
    server = certificate(tmp_path, "server", ca, usage="serverAuth")
    own = certificate(tmp_path, "agent", ca, usage="clientAuth", subject="DNS:agent1")
    trusted, none = Tls(ca.cert, own.cert, own.key), Tls(ca.cert)
    with Mosquitto(tmp_path, server=server, clients_by=ca) as broker, Listener(broker, ca=ca.cert, own=own) as listener:
        sent = alarm(journal)
        with sending(to(broker.port, tls=none), journal.outbox(MQTT)) as sink:
            wait_until(lambda: "mqtt.tls.cert" in caplog.text, "it says that a certificate is wanted")
            assert not sink.online
            assert sink.counters().connections == 0
        with sending(to(broker.port, tls=trusted), journal.outbox(MQTT)):
            assert_each_came_in_order(listener, [sent])
            all_sent(journal)


@pytest.mark.parametrize("broken", ["ca", "cert", "key", "encrypted key"])
def test_a_useless_certificate_file_is_named(tmp_path: Path, broken: str) -> None:
    ca = authority(tmp_path, "ca")
    own = certificate(tmp_path, "agent", ca, usage="clientAuth")
    files = {"ca": ca.cert, "cert": own.cert, "key": own.key}
    if broken == "encrypted key":
        sealed = tmp_path / "sealed.key"
        command = ["openssl", "ec", "-in", own.key, "-aes128", "-passout", "pass:abcd", "-out", sealed]
        subprocess.run(command, check=True, capture_output=True)
        files["key"] = sealed
    else:
        files[broken].write_text("nonsense")
    with pytest.raises(SinkDown, match=str(files[broken.split()[-1]])):
        list(examine(to(free_port(), tls=Tls(**files)), ["cam1"], ["alarm"], []))


# A hostile world


@pytest.mark.parametrize(
    "answer", [b"\x20\x03\x00\xf0\x00", b"\x20\x02\x00\x00", b"\xff" * 8, b"", b"HTTP/1.1 400 No\r\n\r\n"]
)
def test_a_server_that_is_no_broker_is_tried_again_until_it_is_one(
    tmp_path: Path, journal: Journal, answer: bytes
) -> None:
    broker = Mosquitto(tmp_path)
    server = socket.create_server(("127.0.0.1", broker.port))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    sent = alarm(journal)
    with sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.counters().last_error, "it cannot connect")
        assert not sink.online
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
        with broker, Listener(broker) as listener:
            assert_each_came_in_order(listener, [sent])
            sink.close()


def test_a_network_thread_that_dies_is_counted_and_replaced(
    broker: Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        with monkeypatch.context() as patch:
            patch.setattr("edge_agent.mqtt.connection._Client.loop_misc", lambda self: 1 / 0)
            wait_until(lambda: sink.counters().thread_deaths > 0, "the thread dies of a bug in paho")
        sent = alarm(journal, sink)
        assert_each_came_in_order(listener, [sent])
    assert "the network thread died (ZeroDivisionError" in caplog.text


def test_a_client_that_takes_its_id_is_named_and_does_not_keep_it_away(
    broker: Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        thief = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=default_client_id("agent1"),
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        thief.connect("127.0.0.1", broker.port)
        thief.loop_start()
        wait_until(lambda: "another client" in caplog.text, "it says who may have it")
        sent = alarm(journal, sink)
        assert_each_came_in_order(listener, [sent])
        thief.loop_stop()


# Closing


def test_closing_sends_what_waits_even_if_the_connection_was_not_made_yet(broker: Mosquitto, journal: Journal) -> None:
    with Listener(broker) as listener:
        ids = [alarm(journal) for _ in range(40)]
        MqttSink(to(broker.port), context(journal.outbox(MQTT))).close(PATIENCE_S)
        assert waiting(journal) == 0
        assert_each_came_in_order(listener, ids)


def test_closing_without_a_broker_leaves_the_messages_in_the_journal(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MqttSink(to(free_port()), context(journal.outbox(MQTT)))
    alarm(journal, sink)
    sink.close(PATIENCE_S)
    assert waiting(journal) == 1
    assert "1 unsent messages wait in the journal" in caplog.text


def test_closing_does_not_wait_for_a_broker_that_hangs(broker: Mosquitto, journal: Journal) -> None:
    with sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: sink.online, "the sink is online")
        broker.freeze()
        alarm(journal, sink)
        begun = time.monotonic()
        sink.close(1.0)
        assert time.monotonic() - begun < 5 * slowness()
        assert waiting(journal) == 1


def test_a_hanging_broker_tells_of_an_agent_that_stopped_meanwhile_once_it_goes_on(
    broker: Mosquitto, journal: Journal
) -> None:
    with Listener(broker) as listener:
        with sending(to(broker.port), journal.outbox(MQTT)) as sink:
            wait_until(lambda: listener.payloads("status"), "the agent is there")
            broker.freeze()
            sink.close(1.0)
        broker.thaw()
        wait_until(lambda: listener.payloads("status")[-1]["online"] is False, "the agent is told to be gone")


# Identity


def test_the_client_id_is_the_same_on_the_same_machine_for_the_same_agent_only(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    two.write_text("ffffffffffffffffffffffffffffffff\n")
    none = tmp_path / "none"
    ids = [default_client_id(agent, file) for agent, file in [("a", one), ("b", one), ("a", two), ("a", none)]]
    assert len(set(ids)) == 4
    assert default_client_id("a", one) == ids[0]
    for id_ in ids:
        assert len(id_) == 23
        assert id_.isalnum()
        assert "3d1219" not in id_


def examined(broker: Mosquitto) -> dict[str, str]:
    """What the doctor finds at a broker where cam1 takes commands: states by text."""
    found = examine(to(broker.port), ["cam1", "cam2"], ["alarm", "result", "state"], ["cam1"])
    return {one.text: one.state for one in found}


TOPICS = ["status", *(f"cam{number}/{kind}" for number in (1, 2) for kind in ("alarm", "result", "state"))]


def test_the_doctor_finds_each_topic_that_an_access_list_refuses(broker: Mosquitto) -> None:
    broker.allow("topic readwrite #")
    broker.restart()
    own = default_client_id("agent1")
    fine = (
        f"127.0.0.1:{broker.port} answers, lets {own} in, takes its 7 topics, "
        "and lets it hear acme/line4/agent1/cmd/trigger"
    )
    with Listener(broker) as listener:
        assert examined(broker) == {fine: "ok"}
        assert {heard.payload["schema"] for heard in listener.heard("alarm")} == {"edge-agent/probe/1"}
    with Listener(broker) as later:
        later.settled()
        assert not [heard for heard in later.heard("status") + later.heard("state") if heard.retained]
    for refused in TOPICS:
        others = [f"topic write acme/line4/agent1/{one}" for one in TOPICS if one != refused]
        broker.allow("topic read #", *others)
        wait_until(
            lambda refused=refused: [
                one for one in examined(broker) if f"agent1/{refused} is refused: Not auth" in one
            ],
            f"{refused} is found",
        )
    broker.allow("topic write #")
    wait_until(lambda: "warning" in examined(broker).values(), "it is found that the status cannot be heard")


def test_the_doctor_leaves_the_connection_of_a_running_agent_alone(
    broker: Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with Listener(broker) as listener, sending(to(broker.port), journal.outbox(MQTT)) as sink:
        wait_until(lambda: listener.payloads("status"), "the agent is there")
        ((text, state),) = examined(broker).items()
        assert state == "ok"
        assert f"lets {default_client_id('agent1, doctor')} in" in text
        assert sink.counters().connections == 1
        assert "another agent" not in caplog.text
        broker.stop()
        with pytest.raises(SinkDown, match="nothing listens there: start the broker"):
            examined(broker)
