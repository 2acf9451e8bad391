"""Where in a PLC's Modbus tables a signal lies: `coil 10`, `discrete 3`, `holding 20`, `holding 20.3`, `input 0-15`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Table = Literal["coil", "discrete", "holding", "input"]
Cell = tuple[Table, int]  # one bit or one register of 16 bits
BITS = ("coil", "discrete")
LARGEST_ADDRESS = 0xFFFF
MOST_REGISTERS = 123  # that one Modbus request can write
NEAR = 32  # cells apart that are read at once


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a table.

    address: from 0, as in the protocol. count: registers or bits from there on. bit: of the register, 0 is the lowest; None
    for the whole of it.
    """

    table: Table
    address: int
    count: int = 1
    bit: int | None = None

    @property
    def cells(self) -> list[Cell]:
        """Return what it takes up."""
        return [(self.table, self.address + i) for i in range(self.count)]

    @property
    def is_bit(self) -> bool:
        """Return whether it is on or off."""
        return self.bit is not None or (self.table in BITS and self.count == 1)

    @property
    def is_register(self) -> bool:
        """Return whether it is one number of 16 bits."""
        return self.table not in BITS and self.bit is None and self.count == 1

    def overlaps(self, other: Place) -> bool:
        """Return whether both take up the same bit."""
        shared = set(self.cells) & set(other.cells)
        return bool(shared) and (self.bit is None or other.bit is None or self.bit == other.bit)

    def is_on(self, values: Mapping[Cell, int]) -> bool:
        """Return whether its bit is set. values: what was read."""
        value = values[self.table, self.address]
        return bool(value >> self.bit & 1 if self.bit is not None else value)

    def __str__(self) -> str:
        end = f"-{self.address + self.count - 1}" if self.count > 1 else f".{self.bit}" if self.bit is not None else ""
        return f"{self.table} {self.address}{end}"


def parse(text: str) -> Place:
    """Return the place that is meant. Raises ValueError with what is wrong, as the end of a sentence."""
    found = re.fullmatch(r"(coil|discrete|holding|input) +(\d{1,9})(?:-(\d{1,9})|\.(\d{1,3}))?", text.strip())
    if not found:
        raise ValueError(
            "is no place in a PLC: write coil 10, discrete 3, holding 20, holding 0-15, or holding 20.3 for bit 3 of it"
        )
    table, first, last, bit = found.groups()
    start, end = int(first), int(last or first)
    if max(start, end) > LARGEST_ADDRESS:
        raise ValueError(
            f"is beyond {LARGEST_ADDRESS}: count from 0 within the table, so that what is called 400021 is holding 20"
        )
    if end < start:
        raise ValueError("ends before it begins")
    if end - start >= MOST_REGISTERS:
        raise ValueError(f"has more than {MOST_REGISTERS} registers")
    if bit and (table in BITS or int(bit) > 15):
        raise ValueError("has no such bit: a register has bits 0 to 15, and a coil is one bit")
    return Place(table, start, end - start + 1, int(bit) if bit else None)  # type: ignore[arg-type]


def runs(cells: Sequence[Cell], near: int = 1) -> Iterator[tuple[Table, int, int]]:
    """Yield table, first address and count of what can be read or written at once.

    Args:
        cells: in any order.
        near: cells that are no farther apart than this are taken together, with all between them.
    """
    start: Cell | None = None
    last: Cell | None = None
    for cell in sorted(set(cells)):
        if start and last and cell[0] == start[0] and cell[1] - last[1] <= near:
            last = cell
            continue
        if start and last:
            yield start[0], start[1], last[1] - start[1] + 1
        start = last = cell
    if start and last:
        yield start[0], start[1], last[1] - start[1] + 1
