"""`trigger: {plc: {...}}`, the PLC that requests a station's pictures and is told the verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, field_validator

from edge_agent.errors import ConfigError
from edge_agent.plc.places import BITS, Place, parse
from edge_agent.settings.finding import Finding
from edge_agent.settings.section import Loc
from edge_agent.settings.sinks import SinkSection
from edge_agent.settings.values import invalid, shortened

if TYPE_CHECKING:
    from edge_agent.core import SinkContext
    from edge_agent.plc.link import Link
    from edge_agent.plc.sink import PlcSink
    from edge_agent.plc.wiring import Wiring

MODBUS_PORT = 502
OLD_NOTATION = range(40001, 50000)  # 40021 stands for holding register 20 in many manuals
SIGNALS = (
    "trigger",
    "ack",
    "part",
    "ready",
    "busy",
    "done",
    "ok",
    "not_ok",
    "not_decidable",
    "sequence",
    "heartbeat",
)
TOLD = SIGNALS[3:]


def _place(value: Any) -> Any:
    if isinstance(value, Place):
        return value
    try:
        return parse(str(value))
    except ValueError as error:
        raise invalid(f"{shortened(str(value))} {error}") from None


def _bit(value: Any) -> Any:
    place = _place(value)
    if not place.is_bit:
        raise invalid(
            f"{place} is a number, and this signal is on or off: write a coil, or a bit such as {place.table} 20.3"
        )
    return place


def _register(value: Any) -> Any:
    place = _place(value)
    if not place.is_register:
        raise invalid(f"{place} is no single register, which this number takes: write holding 20")
    return place


def _registers(value: Any) -> Any:
    place = _place(value)
    if place.table in BITS or place.bit is not None:
        raise invalid(f"{place} holds no text: write registers, such as holding 0-15 for up to 32 characters")
    return place


def _address(value: Any) -> Any:
    """Return (host, port) of HOST or HOST:PORT."""
    if isinstance(value, list | tuple):
        return value
    host, _, port = str(value).strip("[]").rpartition(":") if str(value).count(":") == 1 else (str(value), "", "")
    if not host or any(sign in host for sign in "/ ") or (port and not port.isdecimal()):
        raise invalid(f"{shortened(str(value))} is no address: write HOST or HOST:PORT, such as 10.0.0.7:502")
    number = int(port) if port else MODBUS_PORT
    if not 0 < number < 65536:
        raise invalid(f"port {number} is none: ports are 1 to 65535")
    return host, number


def _listen(value: Any) -> Any:
    """Return (host, port) of PORT or HOST:PORT; no host is every address of this machine."""
    return _address(f"0.0.0.0:{value}" if isinstance(value, int) or str(value).isdecimal() else value)


def _written(address: tuple[str, int] | None) -> str | None:
    return f"{address[0]}:{address[1]}" if address else None


_Text = PlainSerializer(str, return_type=str)
Bit = Annotated[Place, BeforeValidator(_bit), _Text]
Register = Annotated[Place, BeforeValidator(_register), _Text]
Registers = Annotated[Place, BeforeValidator(_registers), _Text]
Address = Annotated[tuple[str, int], BeforeValidator(_address)]
Listen = Annotated[tuple[str, int], BeforeValidator(_listen)]


class PlcConfig(SinkSection):
    """A PLC over Modbus TCP: where it is, and where each signal lies in its tables, counted from 0.

    modbus: address of the PLC that the agent connects to. listen: port at which the agent waits for the PLC, in its place.
    unit: of the PLC. The PLC sets trigger and ack, and part before trigger; the agent sets all others. swapped: the first
    character of a register of `part` is in its low byte.
    """

    modbus: Address | None = Field(default=None, examples=["10.0.0.7:502"])
    listen: Listen | None = Field(default=None, validate_default=True)
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    trigger: Bit = Field(examples=["coil 0"])
    ack: Bit = Field(examples=["coil 1"])
    part: Registers | None = None
    ready: Bit = Field(examples=["coil 10"])
    busy: Bit = Field(examples=["coil 11"])
    done: Bit = Field(examples=["coil 12"])
    ok: Bit = Field(examples=["coil 13"])
    not_ok: Bit = Field(examples=["coil 14"])
    not_decidable: Bit = Field(examples=["coil 15"])
    sequence: Register | None = None
    heartbeat: Register | None = None
    swapped: bool = False

    @field_validator("listen")
    @classmethod
    def _check_one_way(cls, listen: tuple[str, int] | None, info: ValidationInfo) -> tuple[str, int] | None:
        if "modbus" in info.data and (info.data["modbus"] is None) == (listen is None):
            raise invalid(
                "or modbus: give the PLC's address as modbus: HOST:502, or the port that it connects to as listen: 1502"
            )
        return listen

    @field_validator(*SIGNALS)
    @classmethod
    def _check_place(cls, place: Place | None, info: ValidationInfo) -> Place | None:
        """Check what the tables allow, and that no two signals share a place."""
        if place is None:
            return None
        name, serves = info.field_name or "", info.data.get("listen") is not None
        writer_is_client = (name in TOLD) != serves
        if writer_is_client and place.table in ("discrete", "input"):
            who = "the PLC" if serves else "the agent"
            raise invalid(f"{place} cannot be written over Modbus, and {who} has to: take a coil or a holding register")
        others = {key: value for key in SIGNALS if (value := info.data.get(key)) is not None}
        for other, its in others.items():
            if place.overlaps(its):
                raise invalid(f"{place} overlaps {other}, which is {its}: give each signal a place of its own")
            if (other in TOLD) != (name in TOLD) and set(place.cells) & set(its.cells):
                raise invalid(
                    f"{place} shares a register with {other}, which is {its}: what the PLC writes and what the agent "
                    "writes has to lie in different registers"
                )
        return place

    def wiring(self) -> Wiring:
        """Return where the signals lie."""
        from edge_agent.plc.wiring import Wiring

        return Wiring(**{name: getattr(self, name) for name in SIGNALS})

    def link(self) -> Link:
        """Return a connection that is yet to be made; require() comes first."""
        if self.listen:
            from edge_agent.plc.server import ServerLink

            return ServerLink(*self.listen, self.unit, self.wiring())
        from edge_agent.plc.link import ClientLink

        assert self.modbus is not None
        return ClientLink(*self.modbus, self.unit)

    def build(self, context: SinkContext) -> PlcSink:
        """See SinkSection."""
        from edge_agent.plc.sink import PlcSink

        ((station, within_s),) = context.asked.items()
        return PlcSink(station, self.wiring(), self.link(), context.not_ready, within_s=within_s, swapped=self.swapped)

    def describe(self, agent: str) -> str:
        """See SinkSection."""
        where = f"that connects to {_written(self.listen)}" if self.listen else f"at {_written(self.modbus)}"
        return f"the PLC {where}, unit {self.unit}: trigger {self.trigger}, result in {self.ok}, {self.not_ok}, {self.not_decidable}"

    def require(self) -> None:
        """See SinkSection."""
        try:
            import pymodbus  # noqa: F401
        except ImportError:
            raise ConfigError("trigger: {plc: ...} wants pymodbus: pip install 'edge-agent[plc]'") from None

    def check(self, agent: str, stations: Collection[str] = (), asked: Collection[str] = ()) -> Iterator[Finding]:
        """See SinkSection: connect and read all signals; write none."""
        from edge_agent.plc.check import examine

        self.require()
        yield from examine(self.wiring(), self.link(), self.describe(agent), serves=self.listen is not None)

    def clash(self, other: SinkSection) -> tuple[Loc, str] | None:
        """See SinkSection. Stations may share what the PLC sets, such as one trigger for two cameras."""
        if not isinstance(other, PlcConfig):
            return None
        if self.listen and other.listen and self.listen[1] == other.listen[1]:
            return ("listen",), f"port {self.listen[1]} is that"
        if self.modbus is None or (self.modbus, self.unit) != (other.modbus, other.unit):
            return None
        for name in SIGNALS:
            for its in SIGNALS:
                mine, theirs = getattr(self, name), getattr(other, its)
                if (
                    mine
                    and theirs
                    and (name in TOLD or its in TOLD)
                    and (mine.overlaps(theirs) or set(mine.cells) & set(theirs.cells))
                ):
                    return (name,), f"{mine} is in the place of {its}, {theirs},"
        return None

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """See SinkSection."""
        if self.heartbeat is None:
            yield (), "has no heartbeat: a PLC cannot tell an agent that is gone from one that is ready"
        for name in SIGNALS:
            place = getattr(self, name)
            if place is not None and place.address in OLD_NOTATION and place.table == "holding":
                yield (
                    (name,),
                    f"is register {place.address} counted from 0: what is called 40021 in old manuals is holding 20",
                )
        if self.listen and self.listen[0] == "0.0.0.0":
            text = (
                "anyone on the network may trigger, as Modbus knows no passwords: name the address in the PLC's network"
            )
            yield ("listen",), text
