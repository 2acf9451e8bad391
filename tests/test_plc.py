"""A PLC has exactly one result for each trigger, over a cable that is cut, and never an OK that was not read."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from edge_agent.config.describe import describe
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation, Evidence
from edge_agent.errors import ConfigError
from edge_agent.plc.link import ClientLink
from edge_agent.plc.server import ServerLink
from edge_agent.plc.sink import PlcSink
from tests.agent import ALL_OK, Daemon, station, write_config
from tests.conftest import wait_until
from tests.mosquitto import free_port
from tests.plc import PLACES, SOON, WIRING, Drill, Memory, Program, Station, Told, drill, inspection
from tests.test_camera import clip
from tests.test_health import get

ROOT = Path(__file__).parents[1]
NOTHING_WRONG = {"wrong": [], "double": [], "missing": [], "not_read": []}


@contextmanager
def linked(link: ClientLink | ServerLink, **more: object) -> Iterator[PlcSink]:
    sink = PlcSink("cam1", WIRING, link, more.pop("not_ready", lambda station: None), again=SOON, **more)
    try:
        yield sink
    finally:
        sink.close(0.5)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def memory(port: int) -> Iterator[Memory]:
    memory = Memory(port)
    yield memory
    memory.close()


def client(port: int) -> ClientLink:
    return ClientLink("127.0.0.1", port, 1)


def asked(sink: PlcSink) -> list:
    return list(sink.triggers("cam1").requests())


def test_each_part_has_one_result_and_all_of_them_are_right() -> None:
    done = drill(20, lambda number: None)
    assert [(told.sequence, told.results) for told in done.told] == [
        (number + 1, {"not_ok" if number % 3 == 0 else "ok"}) for number in range(20)
    ]
    assert done.faults() == NOTHING_WRONG


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_cable_that_is_cut_at_each_message_of_the_handshake_costs_no_result_and_makes_none_wrong(
    direction: str,
) -> None:
    """A part takes some 15 messages: the cut moves through all of them, before a message is there or before its answer."""
    done = drill(41, lambda number: (number // 2, direction) if number % 2 else None)
    assert done.cuts == 20
    assert done.faults() == NOTHING_WRONG


def test_an_agent_that_is_killed_in_the_middle_of_a_part_goes_on_where_it_was() -> None:
    random.seed(0)
    done = drill(18, lambda number: None, kill_every=2)
    assert done.kills == 9
    assert done.faults() == NOTHING_WRONG


def test_faults_of_a_drill_are_seen() -> None:
    """Or a drill that is passed would say nothing."""
    told = [
        Told("SN0", 1, frozenset({"ok"})),
        Told("SN1", 1, frozenset({"ok"})),
        Told("SN2", 4, frozenset()),
        Told("SN4", 5, frozenset({"not_decidable"})),
    ]
    found = Drill(told, ["SN1"]).faults()
    assert {kind: len(texts) for kind, texts in found.items()} == {"wrong": 3, "double": 1, "missing": 2, "not_read": 1}


def test_ready_falls_and_the_heartbeat_stands_still_while_the_station_can_take_no_trigger(
    memory: Memory, port: int
) -> None:
    why: list[str | None] = ["its source gives no pictures (no route)"]
    with linked(client(port), not_ready=lambda station: why[0]) as sink:
        wait_until(lambda: memory.requests > 20, "the PLC is read")
        assert memory.shown == set()
        assert memory.heartbeat == 0
        memory.set("trigger", True)  # all the same: it is answered, but with no picture
        wait_until(lambda: "busy" in memory.shown, "the trigger is taken")
        (request,) = asked(sink)
        assert request.fault == f"the trigger came while the station was not ready: {why[0]}"
        sink.write(inspection("cam1", request, Evaluation.NOT_DECIDABLE), Evidence())
        wait_until(lambda: "done" in memory.shown, "it is answered")
        assert memory.shown == {"done", "not_decidable"}
        memory.set("ack", True)
        wait_until(lambda: "done" not in memory.shown, "done falls")
        memory.set("ack", False)
        memory.set("trigger", False)
        why[0] = None
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        beats = memory.heartbeat
        wait_until(lambda: memory.heartbeat > beats, "the heart beats")
        why[0] = "the agent stops"
        wait_until(lambda: memory.shown == set(), "ready falls")
    assert memory.shown == set()


def test_a_verdict_that_comes_too_late_is_answered_not_decidable_and_told_no_more(memory: Memory, port: int) -> None:
    with linked(client(port), within_s=0.05) as sink:
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        memory.set("trigger", True)
        wait_until(lambda: "done" in memory.shown, "the time is up")
        assert memory.shown == {"done", "not_decidable"}
        (request,) = asked(sink)
        sink.write(inspection("cam1", request, Evaluation.OK), Evidence())
        requests = memory.requests
        wait_until(lambda: memory.requests > requests + 5, "the PLC is read again")
        assert memory.shown == {"done", "not_decidable"}
        assert sink.counts["NotDecidable"] == 1
        assert sink.counts["late"] == 1


def test_a_trigger_that_the_plc_takes_back_has_no_result_and_the_next_one_has_its_own(
    memory: Memory, port: int
) -> None:
    with linked(client(port)) as sink:
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        memory.set("trigger", True)
        wait_until(lambda: "busy" in memory.shown, "it is busy")
        memory.set("trigger", False)
        wait_until(lambda: "ready" in memory.shown, "it is ready again")
        memory.set("trigger", True)
        wait_until(lambda: "busy" in memory.shown, "it is busy again")
        first, second = asked(sink)
        sink.write(inspection("cam1", first, Evaluation.OK), Evidence())
        sink.write(inspection("cam1", second, Evaluation.NOT_OK), Evidence())
        wait_until(lambda: "done" in memory.shown, "it is answered")
        assert memory.shown == {"done", "not_ok"}


def test_a_result_that_waits_for_its_ack_when_the_agent_stops_stays_and_the_next_run_takes_the_ack(
    memory: Memory, port: int
) -> None:
    with linked(client(port)) as sink:
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        memory.set("trigger", True)
        wait_until(lambda: "busy" in memory.shown, "it is busy")
        sink.write(inspection("cam1", asked(sink)[0], Evaluation.OK), Evidence())
        wait_until(lambda: "done" in memory.shown, "it is answered")
    assert memory.shown == {"done", "ok"}
    memory.set("ack", True)
    with linked(client(port)) as sink:
        wait_until(lambda: memory.shown == set(), "done falls")
        memory.set("ack", False)
        memory.set("trigger", False)
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        assert asked(sink) == []


def test_a_plc_that_connects_to_the_agent_has_the_same_handshake(port: int) -> None:
    link = ServerLink("127.0.0.1", port, 1, WIRING)
    with linked(link) as sink:
        there = Station(sink)
        plc = Polling(port)
        program = Program(plc)  # type: ignore[arg-type]
        for number in range(12):
            if number == 6:
                plc.reconnect()
            program.inspect(f"SN{number}")
        assert Drill(program.told, there.read).faults() == NOTHING_WRONG
        with pytest.raises(Exception, match="no such address"):
            plc.link.write("coil", 10, [1])  # ready is the agent's
        plc.link.close()
        wait_until(lambda: sink.problem, "the PLC is missed")
        assert f"no request has come to 127.0.0.1:{port} within 3 s" in str(sink.problem)
        there.close()


class Polling:
    """A PLC that is the client: it reads and writes the agent's tables."""

    def __init__(self, port: int) -> None:
        self.link = client(port)
        wait_until(self._connects, "the agent listens")

    def _connects(self) -> bool:
        try:
            self.link.connect()
        except Exception:
            return False
        return True

    def reconnect(self) -> None:
        self.link.close()
        self.link.connect()

    def is_on(self, name: str) -> bool:
        return bool(self.link.read("coil", int(PLACES[name].split()[1]), 1)[0])

    def set(self, name: str, on: bool) -> None:
        self.link.write("coil", int(PLACES[name].split()[1]), [on])

    def name_part(self, part: bytes) -> None:
        raw = part.ljust(32, b"\0")
        self.link.write("holding", 0, [int.from_bytes(raw[2 * i : 2 * i + 2], "big") for i in range(16)])

    @property
    def sequence(self) -> int:
        return self.link.read("holding", 20, 1)[0]

    @property
    def shown(self) -> set[str]:
        return {name for name in ("ready", "busy", "done") if self.is_on(name)}


def test_a_part_that_is_no_text_is_not_decidable_and_says_so(
    memory: Memory, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with linked(client(port)) as sink:
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        memory.name_part(b"\xff\xfe\x80")
        memory.set("trigger", True)
        wait_until(lambda: "busy" in memory.shown, "it is busy")
        assert asked(sink)[0].fault == "the part id in holding 0-15 is no text: ff fe 80"
    assert "no picture for trigger 1: the part id in holding 0-15 is no text: ff fe 80" in caplog.text


def answering(answer: bytes) -> int:
    """Start what answers each request with these bytes; return its port. It lives as long as the test."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = listener.accept()
            while near.recv(300):
                near.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0",
        b"\0\1\0\0\0\3\1\x81\x02",
        b"\0\1\0\0\0\4\1\1\0\0",
        bytes(300),
        b"\xff" * 300,
    ],
)
def test_what_answers_nonsense_is_no_plc_and_asks_for_nothing(answer: bytes) -> None:
    with linked(client(answering(answer))) as sink:
        wait_until(lambda: sink.problem != "not yet connected", "it is said")
        assert "127.0.0.1" in str(sink.problem)
        assert asked(sink) == []


@pytest.mark.parametrize(
    ("address", "unit", "said"),
    [
        (
            "free",
            1,
            "does not take the connection: check that the PLC runs its Modbus server, the address, and the firewall",
        ),
        ("plc", 9, "of unit 9: it failed at it"),
    ],
)
def test_what_is_wrong_with_the_connection_is_said_once_with_its_remedy(
    memory: Memory, port: int, address: str, unit: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with linked(ClientLink("127.0.0.1", port if address == "plc" else free_port(), unit)) as sink:
        wait_until(lambda: said in str(sink.problem), "it is said", state=lambda: sink.problem)
        wait_until(lambda: sink._failures > 3, "it tries again")
    assert caplog.text.count(said) == 1


def config(tmp_path: Path, plc: object, **trigger: object) -> Path:
    source = {
        "camera": str(clip(tmp_path / "line.avi")),
        "repeat": True,
        "trigger": {"plc": plc, "timeout_s": 120, **trigger},
    }
    return write_config(tmp_path, station(source=source, threshold=ALL_OK), health={"port": free_port()})


def plc(**changes: object) -> dict[str, object]:
    return {"modbus": "10.0.0.7:502", **PLACES, **changes}


def clean(section: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in section.items() if value is not None}


SECOND = {name: f"coil {20 + i}" for i, name in enumerate(("ready", "busy", "done", "ok", "not_ok", "not_decidable"))}
SECOND |= {"sequence": "holding 22", "heartbeat": "holding 23"}
BITS = {"ready": "holding 30.0"}
LISTENING = {"modbus": None, "listen": 1502}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (plc(trigger="coil 10"), "plc.ready: coil 10 overlaps trigger, which is coil 10: give each signal a place of its own"),
        (plc(heartbeat="holding 5"), "plc.heartbeat: holding 5 overlaps part, which is holding 0-15"),
        (plc(trigger="holding 30.0", busy="holding 30.1"), "plc.busy: holding 30.1 shares a register with trigger"),
        (plc(done="discrete 3"), "plc.done: discrete 3 cannot be written over Modbus, and the agent has to"),
        (plc(ok="holding 3"), "plc.ok: holding 3 is a number, and this signal is on or off"),
        (plc(sequence="holding 0-1"), "plc.sequence: holding 0-1 is no single register"),
        (plc(part="coil 3"), "plc.part: coil 3 holds no text"),
        (plc(ack="M0.1"), "plc.ack: 'M0.1' is no place in a PLC: write coil 10"),
        (plc(modbus="10.0.0.7:x"), "plc.modbus: '10.0.0.7:x' is no address"),
        (plc(modbus="10.0.0.7:99999"), "plc.modbus: port 99999 is none"),
        (plc(listen=1502), "plc.listen: or modbus: give the PLC's address as modbus: HOST:502"),
        (plc(modbus=None, listen=1502, trigger="discrete 0"), "plc.trigger: discrete 0 cannot be written over Modbus, and the PLC"),
        (plc(unit=300), "plc.unit: is '300'; must be at most 255"),
        ({"modbus": "10.0.0.7"}, "plc.trigger: is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_config_is_said_with_its_place_and_remedy(
    tmp_path: Path, section: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(config(tmp_path, clean(section)))
    assert f"stations[0].source.trigger.{said}" in str(refused.value)


def test_a_plc_alone_requests_pictures(tmp_path: Path) -> None:
    for kind in ("mqtt", "opcua"):
        with pytest.raises(ConfigError, match=f"trigger.plc: and {kind} exclude each other"):
            load_config(config(tmp_path, plc(), **{kind: True}))
    with pytest.raises(ConfigError, match=r"trigger.folder: and plc exclude each other"):
        load_config(config(tmp_path, plc(), folder="triggers"))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {}, "trigger.plc.ready: coil 10 is in the place of ready, coil 10, of stations[0]: give each its own"),
        (BITS, {**SECOND, "heartbeat": "holding 30"}, "trigger.plc.heartbeat: holding 30 is in the place of ready, holding 30.0, of"),
        (LISTENING, LISTENING, "trigger.plc.listen: port 1502 is that of stations[0]: give each its own"),
        ({}, SECOND, None),  # one trigger for two cameras
        ({}, {"unit": 2}, None),
        (LISTENING, {}, None),
    ],
)  # fmt: skip
def test_two_stations_do_not_write_to_the_same_place(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], said: str | None
) -> None:
    video = str(clip(tmp_path / "line.avi"))
    stations = [
        station(name, source={"camera": video, "trigger": {"plc": clean(plc(**changes))}}, threshold=ALL_OK)
        for name, changes in (("cam1", first), ("cam2", second))
    ]
    path = write_config(tmp_path, *stations)
    if said is None:
        load_config(path)
    else:
        with pytest.raises(ConfigError) as refused:
            load_config(path)
        assert f"stations[1].source.{said}" in str(refused.value)


def test_check_tells_what_it_will_do_and_what_may_not_be_meant(tmp_path: Path) -> None:
    places = {key: place for key, place in PLACES.items() if key != "heartbeat"} | {"sequence": "holding 40021"}
    text = describe(load_config(config(tmp_path, {"listen": 1502, **places}, verdict_within_s=0.8)))
    assert (
        "a picture for each trigger of the PLC that connects to 0.0.0.0:1502, unit 1: trigger coil 0, result in coil 13,"
        " coil 14, coil 15, answered within 0.8 s" in text
    )
    assert "trigger.plc: has no heartbeat" in text
    assert "what is called 40021 in old manuals is holding 20" in text
    assert "trigger.plc.listen: anyone on the network may trigger" in text


def test_the_doctor_reads_every_signal_and_writes_none(
    tmp_path: Path, memory: Memory, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.name_part(b"SN7")
    memory.set("ack", True)
    before = (list(memory.coils), list(memory.registers))
    section = load_config(config(tmp_path, plc(modbus=f"127.0.0.1:{port}"))).stations[0].source.own_sinks()["plc"]
    (finding,) = section.check("box")
    assert finding.state == "ok"
    assert "answers: trigger off, ack on, part 'SN7', ready off" in finding.text
    assert "nothing was written" in finding.text
    assert (memory.coils, memory.registers) == before
    memory.close()
    (finding,) = section.check("box")
    assert finding.state == "failed"
    assert "does not take the connection" in finding.text


def test_the_daemon_answers_its_plc_and_takes_ready_back_when_it_stops(
    tmp_path: Path, memory: Memory, port: int
) -> None:
    path = config(tmp_path, plc(modbus=f"127.0.0.1:{port}"))
    health = json.loads(path.read_text())["health"]["port"]
    program = Program(memory)
    with Daemon(path) as daemon:
        for number in range(3):
            told = program.inspect(f"SN{number}", lambda: daemon._process.is_alive())
            assert told == Told(f"SN{number}", number + 1, frozenset({"ok"}))
        assert [(row["part_id"], row["evaluation"]) for row in daemon.rows] == [(f"SN{i}", "OK") for i in range(3)]
        assert 'edge_agent_plc_events_total{event="OK",station="cam1"} 3.0' in get(health, "/metrics")[1]
        assert json.loads(get(health, "/healthz")[1])["sinks_away"] == {}
        wait_until(lambda: "ready" in memory.shown, "it is ready")
        daemon.stop()
    assert memory.shown == set()


def test_the_examples_of_the_document_and_of_the_config_load(tmp_path: Path) -> None:
    documented = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/plc.md").read_text(), re.DOTALL)
    (tmp_path / "config.yaml").write_text(documented[0])
    section = load_config(tmp_path / "config.yaml").stations[0].source.own_sinks()["plc"]
    assert {name: str(place) for name, place in section.wiring().heard.items()}["part"] == "holding 0-15"
    offered = re.search(
        r"^ +#: # trigger:\n +#: # verdict.*?\n(?= +#: rotate)", (ROOT / "config.yaml").read_text(), re.M | re.S
    )
    assert offered
    trigger = yaml.safe_load(offered[0].replace("#: # ", ""))["trigger"]
    load_config(config(tmp_path, trigger.pop("plc"), **trigger))
