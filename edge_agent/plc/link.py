"""What a connection to a PLC has to be able to do, and the one that this agent makes to it over Modbus TCP."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from edge_agent.errors import SinkDown
from edge_agent.plc.places import BITS, Table

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what goes wrong is said here, once, and with its remedy

ANSWER_S = 1.0  # that a PLC may take for an answer
EXCEPTIONS = {
    1: "it does not know this kind of request: use another table",
    2: "it has no such address: correct it, counting from 0, or map it in the PLC",
    3: "it does not take this value or so many at once",
    4: "it failed at it: see the PLC's diagnostics",
    6: "it is busy",
    10: "the gateway cannot reach the unit: correct unit",
    11: "the unit does not answer the gateway: correct unit",
}


class Link(Protocol):
    """A connection to a PLC. Use from one thread; all but close() raise SinkDown when the PLC cannot be reached."""

    @property
    def connected(self) -> bool: ...

    def connect(self) -> None:
        """Make a connection; wait for it as long as for an answer."""
        ...

    def hear(self) -> None:
        """Return if the PLC is there, as far as is known; read() says so, too."""
        ...

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """Return the values of cells that follow each other; a bit is 0 or 1.

        Args:
            table: which.
            address: of the first, from 0.
            count: how many.
        """
        ...

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """Write cells that follow each other.

        Args:
            table: which.
            address: of the first, from 0.
            values: 0 or 1 for a bit, 0 to 65535 for a register.
        """
        ...

    def close(self) -> None: ...


class ClientLink:
    """A connection that this agent makes to a PLC. It is never made again by itself, so that no loss goes unnoticed."""

    def __init__(self, host: str, port: int, unit: int) -> None:
        """Set up; connect() connects.

        Args:
            host: name or address of the PLC.
            port: of its Modbus server.
            unit: of the PLC, 0 to 255.
        """
        self._address, self._unit = f"{host}:{port}", unit
        self._client = ModbusTcpClient(host, port=port, timeout=ANSWER_S, retries=0)

    @property
    def connected(self) -> bool:
        """Return whether there is a connection, as far as is known."""
        return bool(self._client.connected)

    def connect(self) -> None:
        """See Link."""
        if not self._client.connect():
            raise SinkDown(
                f"{self._address} does not take the connection: check that the PLC runs its Modbus server, the address, "
                "and the firewall"
            )

    def hear(self) -> None:
        """See Link."""
        if not self.connected:  # else pymodbus would connect by itself
            raise SinkDown(f"{self._address} is not connected")

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """See Link."""
        client = self._client
        ask = {
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
        }[table]
        answer = self._asked(
            f"reading {_span(table, address, count)}", lambda: ask(address, count=count, device_id=self._unit)
        )
        values = [int(value) for value in (answer.bits if table in BITS else answer.registers)[:count]]
        if len(values) < count:
            self.close()
            raise SinkDown(
                f"{self._address} answers {len(values)} values to reading {_span(table, address, count)}: "
                "what answers there is no sound Modbus server"
            )
        return values

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """See Link."""
        client, unit, what = self._client, self._unit, f"writing {_span(table, address, len(values))}"
        bits = [bool(value) for value in values]
        # One alone by the request for one, as not every PLC knows the other.
        if table == "coil" and len(values) == 1:
            self._asked(what, lambda: client.write_coil(address, bits[0], device_id=unit))
        elif table == "coil":
            self._asked(what, lambda: client.write_coils(address, bits, device_id=unit))
        elif len(values) == 1:
            self._asked(what, lambda: client.write_register(address, values[0], device_id=unit))
        else:
            self._asked(what, lambda: client.write_registers(address, list(values), device_id=unit))

    def close(self) -> None:
        """End the connection, if there is one."""
        self._client.close()

    def _asked(self, what: str, ask: Callable[[], ModbusPDU]) -> ModbusPDU:
        """Ask, and end the connection unless there is a sound answer: an answer that comes later must not be taken for another."""
        self.hear()
        try:
            answer = ask()
        except (ModbusException, OSError, struct.error, ValueError, IndexError) as error:
            self.close()
            raise SinkDown(
                f"{self._address} gives no sound answer to {what} ({_short(error)}): check the network, unit "
                f"({self._unit}), and that a Modbus server is what answers there"
            ) from error
        if answer.isError():
            self.close()
            code = answer.exception_code
            raise SinkDown(
                f"{self._address} refuses {what} of unit {self._unit}: {EXCEPTIONS.get(code, f'exception {code}')}"
            )
        return answer


def _span(table: str, address: int, count: int) -> str:
    return f"{table} {address}" + (f"-{address + count - 1}" if count > 1 else "")


def _short(error: Exception) -> str:
    """What an error says, without the connection that pymodbus prints into it."""
    text = str(error).removeprefix("Modbus Error: ")
    if "Connection" in text or "<ModbusTcpClient" in text:
        return "the connection was closed"
    return "no answer in time" if "No response" in text else text or type(error).__name__
