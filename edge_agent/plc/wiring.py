"""Which signal lies at which place in the PLC, and what a state of the handshake looks like there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.plc.handshake import Outputs, Signals
from edge_agent.plc.places import Cell, Place

PARTS = ("busy", "ok", "not_ok", "not_decidable", "sequence")  # of the outputs: all that is not waited for


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where each signal lies. part, sequence, heartbeat: None where the PLC has none."""

    trigger: Place
    ack: Place
    ready: Place
    busy: Place
    done: Place
    ok: Place
    not_ok: Place
    not_decidable: Place
    part: Place | None = None
    sequence: Place | None = None
    heartbeat: Place | None = None

    @property
    def heard(self) -> dict[str, Place]:
        """Return what the PLC says, by the name of the signal."""
        return _named(self, ("trigger", "ack", "part"))

    @property
    def told(self) -> dict[str, Place]:
        """Return what the agent says, by the name of the signal."""
        return _named(self, ("ready", "done", *PARTS, "heartbeat"))

    def signals(self, values: Mapping[Cell, int]) -> Signals:
        """Return what the PLC says. values: what was read."""
        return Signals(self.trigger.is_on(values), self.ack.is_on(values))

    def outputs(self, values: Mapping[Cell, int]) -> Outputs:
        """Return what an earlier run of the agent has said. values: what was read."""
        bits = {name: place.is_on(values) for name, place in self.told.items() if place.is_bit}
        sequence = values[self.sequence.cells[0]] if self.sequence else 0
        return Outputs(**bits, sequence=sequence)

    def image(self, outputs: Outputs, heartbeat: int) -> dict[Cell, int]:
        """Return what is to be in the PLC. heartbeat: 0 to 65535."""
        numbers = {"sequence": outputs.sequence, "heartbeat": heartbeat}
        image: dict[Cell, int] = {}
        for name, place in self.told.items():
            cell = place.cells[0]
            if name in numbers:
                image[cell] = numbers[name]
            else:
                image[cell] = image.get(cell, 0) | _bits(outputs)[name] << (place.bit or 0)
        return image

    def part_id(self, values: Mapping[Cell, int], *, swapped: bool = False) -> str | None:
        """Return the identity of the part: two characters a register, the first in the high byte; None if it is empty.

        swapped: the first character is in the low byte. Raises ValueError if it is no text.
        """
        if self.part is None:
            return None
        raw = b"".join(values[cell].to_bytes(2, "little" if swapped else "big") for cell in self.part.cells)
        raw = raw.split(b"\0")[0].strip(b" ")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the part id in {self.part} is no text: {raw[:16].hex(' ')}") from error
        if not text.isprintable():
            raise ValueError(f"the part id in {self.part} is no printable text: {raw[:16].hex(' ')}")
        return text or None


def _named(wiring: Wiring, names: Sequence[str]) -> dict[str, Place]:
    places = {name: getattr(wiring, name) for name in names}
    return {name: place for name, place in places.items() if place is not None}


def _bits(outputs: Outputs) -> dict[str, int]:
    return {
        "ready": outputs.ready,
        "busy": outputs.busy,
        "done": outputs.done,
        "ok": outputs.ok,
        "not_ok": outputs.not_ok,
        "not_decidable": outputs.not_decidable,
    }


def in_order(before: Outputs, after: Outputs) -> list[Outputs]:
    """Return the steps from one to the other: what is waited for falls first and rises last, when all else is there."""
    lowered = {"ready": before.ready and after.ready, "done": before.done and after.done}
    return [replace(before, **lowered), replace(after, **lowered), after]
