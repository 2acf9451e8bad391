"""What `edge-agent doctor` finds of a PLC: it connects and reads every signal, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_agent.errors import SinkDown
from edge_agent.settings.finding import Finding

if TYPE_CHECKING:
    from edge_agent.plc.link import Link
    from edge_agent.plc.places import Cell
    from edge_agent.plc.wiring import Wiring

NAME = "plc"
LISTEN_S = 5.0  # for a PLC that connects by itself
LOOK_S = 0.1


def examine(wiring: Wiring, link: Link, title: str, *, serves: bool) -> Iterator[Finding]:
    """Yield what is found: the connection, and each signal as it is now.

    Args:
        wiring: where the signals lie.
        link: a connection that is yet to be made; it is closed afterwards.
        title: what the PLC is, for the report.
        serves: whether the PLC connects to this machine, so that only its own signals say anything.
    """
    try:
        _reach(link)
        signals = wiring.heard if serves else {**wiring.heard, **wiring.told}
        values: dict[Cell, int] = {}
        for place in signals.values():
            found = link.read(place.table, place.address, place.count)
            values |= dict(zip(place.cells, found, strict=True))
    except SinkDown as error:
        if serves and not link.connected:
            yield Finding(NAME, "warning", f"{error} (as expected while the agent runs)")
        else:
            yield Finding(NAME, "failed", str(error))
    else:
        shown = ", ".join(f"{name} {_shown(wiring, name, values)}" for name in signals)
        yield Finding(NAME, "ok", f"{title} answers: {shown}; nothing was written")
    finally:
        link.close()


def _reach(link: Link) -> None:
    """Connect; a PLC that connects by itself is given some seconds. Raises SinkDown."""
    link.connect()
    until = time.monotonic() + LISTEN_S
    while True:
        try:
            return link.hear()
        except SinkDown:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK_S)


def _shown(wiring: Wiring, name: str, values: dict[Cell, int]) -> str:
    place = (wiring.heard | wiring.told)[name]
    if place.is_bit:
        return "on" if place.is_on(values) else "off"
    if name != "part":
        return str(values[place.cells[0]])
    try:
        part_id = wiring.part_id(values)
        return "none" if part_id is None else repr(part_id)
    except ValueError as error:
        return str(error)
