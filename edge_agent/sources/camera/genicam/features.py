"""Features of a GenICam camera, set by name; one that is refused is named with the value and what it takes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from genicam import genapi

from edge_agent.sources.camera.reachable import Unreachable
from edge_agent.sources.camera.settings import Settings

_NUMBERS = (genapi.IInteger, genapi.IFloat)
# What cameras of before SFNC 2.0 call the same.
_EXPOSURE = ("ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw")
_GAIN = ("Gain", "GainRaw", "GainAbs")
_WRITABLE = (genapi.EAccessMode.WO, genapi.EAccessMode.RW)
_READABLE = (genapi.EAccessMode.RO, genapi.EAccessMode.RW)


class Features:
    """The features of one open camera."""

    def __init__(self, node_map: Any) -> None:
        """Use the node map of a remote device."""
        self._node_map = node_map

    def set_up(self, settings: Settings) -> None:
        """Set what the settings ask for, in an order in which nothing resets what was set. Raises Unreachable."""
        for name, value in settings.features.items():
            self.set(name, value)
        self._offer("AcquisitionMode", "Continuous")
        if settings.pixel_format is not None:
            self.set("PixelFormat", settings.pixel_format)
        if settings.packet_size is not None:
            self.set("GevSCPSPacketSize", str(settings.packet_size))
        if settings.exposure_us is not None:
            self._offer("ExposureMode", "Timed")
            self._offer("ExposureAuto", "Off")
            self.set(self._first(_EXPOSURE), f"{settings.exposure_us:.10g}")
        if settings.gain is not None:
            self._offer("GainAuto", "Off")
            self.set(self._first(_GAIN), f"{settings.gain:.10g}")
        self._set_up_trigger(settings.trigger_source)

    def _set_up_trigger(self, source: str | None) -> None:
        """Have one trigger start each frame, and no other; or none, whatever a program before has left. Raises Unreachable."""
        selector = self.node("TriggerSelector")
        for kind in _symbols(selector) if selector is not None else ():
            self._offer("TriggerSelector", kind)
            self._offer("TriggerMode", "Off")
        if source is None:
            self._offer("TriggerMode", "Off")
            return
        if selector is not None:
            self.set("TriggerSelector", "FrameStart")
        self.set("TriggerSource", source)
        self.set("TriggerMode", "On")

    def node(self, name: str) -> Any:
        """Return a feature, or None if the camera has none of this name now."""
        try:
            node = self._node_map.get_node(name)
            if node is None or node.node.get_access_mode() in (genapi.EAccessMode.NI, genapi.EAccessMode.NA):
                return None
        except genapi.GenericException:
            return None
        return node

    def number(self, *names: str) -> float:
        """Return the value of the first of these features that can be read; 0 if none can."""
        for name in names:
            node = self.node(name)
            if isinstance(node, _NUMBERS):
                with suppress(genapi.GenericException):
                    return float(node.value)
        return 0.0

    def read_afresh(self, name: str) -> None:
        """Read a feature from the camera itself. Raises genapi.GenericException, or that of the producer."""
        node = self.node(name)
        if node is not None:
            node.node.invalidate_node()
            _ = node.value

    def execute(self, name: str) -> None:
        """Execute a command. Raises Unreachable."""
        node = self._required(name)
        if not isinstance(node, genapi.ICommand):
            raise Unreachable(f"cannot execute {name}, which is no command of it")
        self._attempt(name, node.execute, lambda: f"does not execute {name} now")

    def set(self, name: str, value: str) -> None:
        """Set a feature to what is written, or execute a command for which true is written. Raises Unreachable."""
        node = self._required(name)
        if isinstance(node, genapi.ICommand):
            if value.lower() == "true":
                self.execute(name)
                return
            raise Unreachable(f"has the command {name}, which takes no value: write {name}: true")
        if node.node.get_access_mode() not in _WRITABLE:
            raise Unreachable(f"does not let {name} be set now: another feature may lock it, or it can only be read")
        written = _converted(node, value)
        if written is None:
            raise Unreachable(f"refuses {name}: {value}; it takes {_range(node)}")

        def write() -> None:
            node.value = written

        self._attempt(name, write, lambda: f"refuses {name}: {value}; it takes {_range(node)}")

    def _attempt(self, name: str, act: Callable[[], None], told: Callable[[], str]) -> None:
        try:
            act()
        except genapi.AccessException as error:
            raise Unreachable(f"does not let {name} be set now: another feature may lock it") from error
        except (genapi.GenericException, TypeError, OverflowError) as error:
            raise Unreachable(told()) from error

    def _offer(self, name: str, value: str) -> None:
        """Set a feature if the camera has it and takes this value."""
        node = self.node(name)
        if node is not None and node.node.get_access_mode() in _WRITABLE and _converted(node, value) is not None:
            with suppress(genapi.GenericException):
                node.value = _converted(node, value)

    def _first(self, names: Sequence[str]) -> str:
        return next((name for name in names if self.node(name) is not None), names[0])

    def _required(self, name: str) -> Any:
        node = self.node(name)
        if node is None:
            known = [one.node.name for one in self._node_map.nodes if one.node.is_feature()]
            close = difflib.get_close_matches(name, known, 1)
            raise Unreachable(f"has no feature {name}" + (f"; did you mean {close[0]}?" if close else ""))
        return node


def _symbols(node: Any) -> list[str]:
    """Return the values that an enumeration takes now."""
    return [entry.symbolic for entry in node.entries if entry.node.get_access_mode() in _READABLE]


def _converted(node: Any, value: str) -> bool | int | float | str | None:
    """Return what is written as the feature's type; None if it is none of its type, or none of its values."""
    if isinstance(node, genapi.IEnumeration):
        return value if value in _symbols(node) else None
    if isinstance(node, genapi.IBoolean):
        return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(value.lower())
    if isinstance(node, _NUMBERS):
        try:
            number = float(int(value, 16)) if value.lower().startswith("0x") else float(value)
        except ValueError:
            return None
        if isinstance(node, genapi.IFloat):
            return number
        return int(number) if number.is_integer() else None
    return value


def _range(node: Any) -> str:
    """Say which values a feature takes."""
    try:
        if isinstance(node, genapi.IEnumeration):
            return ", ".join(_symbols(node))
        if isinstance(node, _NUMBERS):
            whole = isinstance(node, genapi.IInteger)
            step = f" in steps of {node.inc:g}" if whole and node.inc > 1 else ""
            unit = f" {node.unit}" if node.unit else ""
            return f"{'whole numbers' if whole else 'numbers'} from {node.min:g} to {node.max:g}{unit}{step}"
    except genapi.GenericException:
        return "other values"
    return "true or false" if isinstance(node, genapi.IBoolean) else "a text"
