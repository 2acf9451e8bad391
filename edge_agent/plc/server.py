"""The connection that a PLC makes to this agent: its tables lie here, and the PLC reads and writes them over Modbus TCP."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.errors import SinkDown
from edge_agent.plc.places import BITS, Cell, Table
from edge_agent.plc.wiring import Wiring

IDLE_S = 3.0  # without a request for so long the PLC counts as gone
START_S = 5.0  # that the server may take to listen
TABLES: tuple[Table, ...] = ("coil", "discrete", "holding", "input")  # in the order of SimDevice
TABLE_OF = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input"}  # by function code; all others are of holding


class ServerLink:
    """A Modbus server with the signals of one station. The PLC may write only what is its own; all else reads as 0."""

    def __init__(self, host: str, port: int, unit: int, wiring: Wiring) -> None:
        """Set up; connect() listens.

        Args:
            host: address to listen at.
            port: to listen at.
            unit: that requests have to name; 0 takes any.
            wiring: where the signals lie.
        """
        self._host, self._port, self._unit = host, port, unit
        self._of_plc = {cell for place in wiring.heard.values() for cell in place.cells}
        self._of_agent = {cell for place in wiring.told.values() for cell in place.cells}
        self._values: dict[Cell, int] = dict.fromkeys(self._of_plc | self._of_agent, 0)
        self._lock = threading.Lock()
        self._heard_at = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ModbusTcpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def connected(self) -> bool:
        """Return whether it listens."""
        return self._server is not None

    def connect(self) -> None:
        """Listen from now on."""
        started = threading.Event()
        failure: list[Exception] = []
        self._thread = threading.Thread(target=self._serve, args=(started, failure), name="plc-server", daemon=True)
        self._thread.start()
        started.wait(START_S)
        if failure or self._server is None:
            self._thread = None
            raise SinkDown(
                f"{self._host}:{self._port} cannot be listened at ({failure[0] if failure else 'no answer in time'}): "
                "take another port or address; ports below 1024 need CAP_NET_BIND_SERVICE"
            )

    def hear(self) -> None:
        """See Link."""
        if time.monotonic() > self._heard_at + IDLE_S:
            raise SinkDown(
                f"no request has come to {self._host}:{self._port} within {IDLE_S:.0f} s: check that the PLC polls this "
                "machine, and the firewall"
            )

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """See Link."""
        self.hear()
        with self._lock:
            return [self._values.get((table, address + i), 0) for i in range(count)]

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """See Link."""
        with self._lock:
            self._values |= {(table, address + i): value for i, value in enumerate(values)}

    def close(self) -> None:
        """End the server and its connections."""
        loop, server, thread = self._loop, self._server, self._thread
        if loop and server and thread:
            asyncio.run_coroutine_threadsafe(server.shutdown(), loop)
            thread.join(START_S)
        self._server = self._thread = None

    # The rest runs in the server's thread.

    def _serve(self, started: threading.Event, failure: list[Exception]) -> None:
        try:
            asyncio.run(self._serving(started))
        except Exception as error:
            failure.append(error)
        finally:
            self._server = None
            started.set()

    async def _serving(self, started: threading.Event) -> None:
        with socket.create_server((self._host, self._port)):
            pass  # as pymodbus does not say why it cannot listen
        self._loop = asyncio.get_running_loop()
        size = 16 + max(address for _, address in self._values)
        kinds = {table: DataType.BITS if table in BITS else DataType.REGISTERS for table in TABLES}
        coils, discrete, holding, inputs = (
            [SimData(0, count=size, values=False if kind is DataType.BITS else 0, datatype=kind)]
            for kind in kinds.values()
        )
        device = SimDevice(self._unit, simdata=(coils, discrete, holding, inputs), action=self._accessed)
        server = ModbusTcpServer(device, address=(self._host, self._port))
        await server.serve_forever(background=True)
        self._server = server
        started.set()
        await server.serving

    async def _accessed(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Let a request see the signals as they are now, or set those of the PLC. Arguments as pymodbus gives them."""
        table: Table = TABLE_OF.get(function, "holding")  # type: ignore[assignment]
        with self._lock:
            if written is not None:
                cells: list[Cell] = [(table, address + i) for i in range(len(written))]
                if not self._of_plc.issuperset(cells):
                    return ExcCodes.ILLEGAL_ADDRESS
                self._values |= dict(zip(cells, map(int, written), strict=True))
            for (kind, cell), value in self._values.items():
                if kind == table and table in BITS:
                    word, bit = divmod(cell, 16)
                    registers[word - start] = registers[word - start] & ~(1 << bit) | bool(value) << bit
                elif kind == table:
                    registers[cell - start] = value
            self._heard_at = time.monotonic()
        return None
