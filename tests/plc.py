"""A PLC as its programmer would make one: a Modbus server with a handshake of its own; and a cable that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np

from edge_agent.core import Evaluation, Evidence, Frame, Inspection, PictureRequest, Trace, Verdict
from edge_agent.io.backoff import Backoff
from edge_agent.plc.places import parse
from edge_agent.plc.sink import PlcSink
from edge_agent.plc.wiring import Wiring
from tests.mosquitto import free_port

PLACES = {
    "trigger": "coil 0",
    "ack": "coil 1",
    "part": "holding 0-15",
    "ready": "coil 10",
    "busy": "coil 11",
    "done": "coil 12",
    "ok": "coil 13",
    "not_ok": "coil 14",
    "not_decidable": "coil 15",
    "sequence": "holding 20",
    "heartbeat": "holding 21",
}
WIRING = Wiring(**{name: parse(place) for name, place in PLACES.items()})
COILS, REGISTERS = 32, 64
SCAN_S = 0.001
SOON = Backoff(0.01, 0.1)


class Memory:
    """The coils and holding registers of a PLC, served over Modbus TCP until close()."""

    def __init__(self, port: int, unit: int = 1) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        self.coils, self.registers = [False] * COILS, [0] * REGISTERS
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        serving = threading.Event()

        async def access(
            function: int, start: int, address: int, count: int, held: list[int], written: list[int] | list[bool] | None
        ) -> None:
            self.requests += 1
            bits = function in (1, 5, 15)
            if written is not None:
                (self.coils if bits else self.registers)[address : address + len(written)] = written  # type: ignore[operator]
            for i in range(len(held)):
                if not bits and start + i < REGISTERS:
                    held[i] = self.registers[start + i]
                elif bits and start + i < COILS // 16:
                    held[i] = sum(on << bit for bit, on in enumerate(self.coils[16 * i : 16 * i + 16]))

        async def serve() -> None:
            bits = [SimData(0, count=COILS, values=False, datatype=DataType.BITS)]
            words = [SimData(0, count=REGISTERS, values=0, datatype=DataType.REGISTERS)]
            device = SimDevice(unit, simdata=(bits, bits, words, words), action=access)
            self._server = ModbusTcpServer(device, address=("127.0.0.1", port))
            await self._server.serve_forever(background=True)
            serving.set()
            await self._server.serving

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        assert serving.wait(10)

    def close(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop)
            self._thread.join(10)

    def is_on(self, name: str) -> bool:
        return bool(self.coils[int(PLACES[name].split()[1])])

    def set(self, name: str, on: bool) -> None:
        self.coils[int(PLACES[name].split()[1])] = on

    @property
    def shown(self) -> set[str]:
        """What the agent shows, by name."""
        return {name for name in ("ready", "busy", "done", "ok", "not_ok", "not_decidable") if self.is_on(name)}

    @property
    def sequence(self) -> int:
        return self.registers[20]

    @property
    def heartbeat(self) -> int:
        return self.registers[21]

    def name_part(self, part: bytes) -> None:
        raw = part.ljust(32, b"\0")
        self.registers[0:16] = [int.from_bytes(raw[2 * i : 2 * i + 2], "big") for i in range(16)]


@dataclass
class Told:
    """One result as the PLC has read it, when done came."""

    part: str
    sequence: int
    results: frozenset[str]


class Program:
    """What runs in the PLC: one part after another. It knows nothing of the agent but its signals."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.told = memory, list[Told]()
        self.step: Callable[[str], None] = lambda name: None  # called at each step of the handshake

    def inspect(self, part: str, alive: Callable[[], bool] = lambda: True) -> Told:
        """Take one part through the handshake; return what was told of it."""
        memory = self.memory
        self._until(lambda: memory.is_on("ready") and not memory.is_on("done"), "ready", alive)
        memory.name_part(part.encode())
        memory.set("trigger", True)
        self.step("trigger")
        self._until(lambda: memory.is_on("done"), "done", alive)
        results = frozenset(name for name in ("ok", "not_ok", "not_decidable") if memory.is_on(name))
        told = Told(part, memory.sequence, results)
        self.told.append(told)
        memory.set("ack", True)
        self.step("ack")
        self._until(lambda: not memory.is_on("done"), "done falls", alive)
        memory.set("ack", False)
        memory.set("trigger", False)
        self.step("rest")
        return told

    def _until(self, condition: Callable[[], bool], what: str, alive: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert alive(), "the agent's thread has ended"
            assert time.monotonic() < until, f"the PLC waits for {what} in vain; it sees {self.memory.shown}"
            time.sleep(SCAN_S)


class Cable:
    """A TCP proxy: after so many messages in one direction it loses the next, and the connection."""

    def __init__(self, to_port: int) -> None:
        self._to, self._left = to_port, {"there": 0, "back": 0}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = 0
        self._open: list[socket.socket] = []
        self.is_out = False  # no connection is to be had
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, messages: int, direction: str) -> None:
        """Lose the message after so many more. direction: there (requests) or back (answers)."""
        self._left[direction] = messages + 1

    def cut(self) -> None:
        """Cut now."""
        self.cuts += 1
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_out:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            for one, other, direction in ((near, far, "there"), (far, near, "back")):
                threading.Thread(target=self._pump, args=(one, other, direction), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(4096):
                if self._left[direction]:
                    self._left[direction] -= 1
                    if not self._left[direction]:
                        self.cut()
                        break
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def inspection(station: str, request: PictureRequest, evaluation: Evaluation) -> Inspection:
    """Return what the line makes of a request."""
    pixels = np.zeros((0, 0, 3), np.uint8)
    frame = Frame(
        station, 0, datetime.now(timezone.utc), pixels, request.part_id, request.trigger_id, fault=request.fault
    )
    return Inspection(request.trigger_id, frame, None, Verdict(evaluation), 0.5, 0.5, Trace("", "", "", None, ""))


def truth(part: str | None) -> Evaluation:
    """Return what a part is, by its name: every third is bad."""
    assert part is not None
    return Evaluation.NOT_OK if int(part.removeprefix("SN")) % 3 == 0 else Evaluation.OK


@dataclass
class Station:
    """Takes the requests of a sink and gives their verdicts, as the line does, in a thread of its own."""

    sink: PlcSink
    takes_s: float = 0.0
    read: list[str] = field(default_factory=list)  # parts of which a picture was read
    stops: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.stops.wait(SCAN_S):
            for request in self.sink.triggers("cam1").requests():
                time.sleep(random.uniform(0, self.takes_s))
                if request.fault:
                    evaluation = Evaluation.NOT_DECIDABLE
                else:
                    evaluation = truth(request.part_id)
                    self.read.append(str(request.part_id))
                self.sink.write(inspection("cam1", request, evaluation), Evidence())

    def close(self) -> None:
        self.stops.set()
        self._thread.join(10)


@dataclass
class Drill:
    """Parts that a PLC had inspected while its cable was cut again and again, and the agent killed.

    read: parts of which a picture was read. cut: the parts under way then, which alone may be NotDecidable.
    """

    told: list[Told] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    cuts: int = 0
    kills: int = 0

    def faults(self) -> dict[str, list[str]]:
        """Return what is wrong with what the PLC was told, by kind."""
        right = {Evaluation.OK: {"ok"}, Evaluation.NOT_OK: {"not_ok"}}
        undecided = {"not_decidable"}
        found: dict[str, list[str]] = {"wrong": [], "double": [], "missing": [], "not_read": []}
        last = 0
        for number, one in enumerate(self.told):
            if one.part != f"SN{number}":
                found["missing"].append(f"{one} in place of SN{number}")
            if one.results not in (undecided, right[truth(one.part)]) or (
                one.results == undecided and one.part not in self.cut
            ):
                found["wrong"].append(str(one))
            if one.results == {"ok"} and one.part not in self.read:
                found["not_read"].append(str(one))
            if one.sequence != last % 0xFFFF + 1:
                found["double" if one.sequence == last else "missing"].append(f"{one} after {last}")
            last = one.sequence
        return found


def drill(parts: int, cuts: Callable[[int], tuple[int, str] | None], *, kill_every: int = 0) -> Drill:
    """Have a PLC inspect parts, and cut its cable meanwhile.

    Args:
        parts: how many.
        cuts: gives for a part after how many messages the cable is cut, and in which direction; None: not.
        kill_every: so often the agent is killed and started again, in the middle of a part; 0: never.
    """
    from edge_agent.plc.link import ClientLink

    port = free_port()
    memory, done = Memory(port), Drill()
    program = Program(memory)
    done.told = program.told

    def start() -> tuple[Cable, Station]:
        cable = Cable(port)
        link = ClientLink("127.0.0.1", cable.port, 1)
        return cable, Station(PlcSink("cam1", WIRING, link, lambda station: None, again=SOON), 0.01, done.read)

    running = [start()]

    def step(name: str) -> None:
        if kill_at.pop(name, False):
            cable, station = running.pop()
            cable.close()  # what a process does that is killed: from one moment to the next it is silent
            station.close()
            done.cuts += cable.cuts - 1
            done.kills += 1
            running.append(start())
            threading.Thread(target=station.sink.close, args=(0.1,), daemon=True).start()

    program.step = step
    for number in range(parts):
        kill_at = {random.choice(["trigger", "ack", "rest"]): True} if kill_every and number % kill_every == 0 else {}
        if kill_at:
            done.cut |= {f"SN{number}", f"SN{number + 1}"}
        if planned := cuts(number):
            done.cut |= {f"SN{number}", f"SN{number + 1}"}
            running[0][0].cut_after(*planned)
        program.inspect(f"SN{number}")
    cable, station = running[0]
    station.sink.close()
    station.close()
    cable.close()
    memory.close()
    done.cuts += cable.cuts - 1
    assert memory.shown == set()
    return done
