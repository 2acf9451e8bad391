"""Count modules and lines of each room of both packages, and the imports between rooms; tests check their order.

A room is a folder or a module directly below a package, with everything in it. Imports inside functions count too: what is
imported late is needed all the same.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Lowest first: a room may import those before it in its package, and the trainer any of the agent.
ORDER: Mapping[str, tuple[str, ...]] = {
    "edge_agent": (
        "errors", "core", "io", "settings", "backbones", "kernels", "detectors", "inference", "importing", "line", "journal",
        "evidence", "mqtt", "plc", "opcua", "sources", "health", "config", "onnx", "build", "learn", "page", "replay",
        "diagnostics", "daemon", "commands", "cli",
    ),
    "trainer": (
        "io", "synthesis", "data", "evaluate", "fit", "calibrate", "pretrain", "report", "bank", "station",
        "few_shot", "commands", "cli", "__main__",
    ),
}  # fmt: skip
Arrows = Mapping[tuple[str, str], list[tuple[str, str]]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of both packages by their dotted names; a package's own is that of its __init__.py."""
    found = {}
    for package in ORDER:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Return the room that a module is in or of: edge_agent.mqtt of edge_agent.mqtt.sender."""
    return ".".join(module.split(".")[:2])


def imported(path: Path, known: Iterable[str]) -> set[str]:
    """Return which of the `known` modules a file imports, anywhere in it."""
    return set(_imported(path).intersection(known))


@cache
def _imported(path: Path) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def arrows(found: Mapping[str, Path]) -> Arrows:
    """Return the imports from module to module, by the two rooms they lead from and to."""
    between = defaultdict(list)
    for module, path in found.items():
        for other in sorted(imported(path, found)):
            if (
                room_of(other) != room_of(module) and "." in other
            ):  # a package's own __init__ holds no more than its version
                between[room_of(module), room_of(other)].append((module, other))
    return dict(between)


def module_arrows(found: Mapping[str, Path]) -> set[tuple[str, str]]:
    """Return the imports from module to module, within rooms as well."""
    return {(module, other) for module, path in found.items() for other in imported(path, found)}


def circles(between: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows that are part of a circle. between: from a room or module to one that it imports."""
    leads = defaultdict(set)
    for one, other in between:
        leads[one].add(other)

    def reached(room: str) -> set[str]:
        seen, ahead = set(), [room]
        while ahead:
            fresh = leads[ahead.pop()] - seen
            seen |= fresh
            ahead += fresh
        return seen

    return [(one, other) for one, other in between if one in reached(other)]


def upward(between: Arrows) -> list[tuple[str, str]]:
    """Return the imports from a module of a room to one of a room above it, or of the trainer from the agent."""
    height = {
        f"{package}.{room}": (floor, place)
        for floor, (package, rooms) in enumerate(ORDER.items())
        for place, room in enumerate(rooms)
    }
    return [one for (below, above), all_ in between.items() if height[below] < height[above] for one in all_]


def main() -> None:
    """Print the rooms, lowest first."""
    found = modules()
    between = arrows(found)
    rooms = [f"{package}.{room}" for package, all_ in ORDER.items() for room in all_]
    print(f"{'room':<24}{'modules':>8}{'lines':>8}  imports")
    for room in rooms:
        paths = [path for module, path in found.items() if room_of(module) == room and path.name != "__init__.py"]
        lines = sum(len(path.read_text().splitlines()) for path in paths)
        others = [other.removeprefix("edge_agent.") for one, other in between if one == room]
        print(f"{room:<24}{len(paths):>8}{lines:>8}  {' '.join(sorted(others))}")
    print(
        f"{len(rooms)} rooms, {len(between)} arrows, {len(circles(between))} in circles, {len(upward(between))} imports up"
    )


if __name__ == "__main__":
    main()
