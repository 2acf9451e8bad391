"""Changes single values in the text of a config.yaml, and leaves all else as it is written: comments, order, quotes."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from edge_agent.config.places import parse
from edge_agent.settings.section import Loc

_QUOTES = "\"'"


def with_values(text: str, values: Mapping[Loc, str]) -> str | None:
    """Put other values in place of some that a text has.

    Args:
        text: of a config.yaml.
        values: the new ones by their location in the data, such as ("stations", 0, "calibration"): plain words.

    Returns:
        The new text; None where a value is not there, is written in a way that cannot be replaced alone (over several
        lines, with escapes), or stands for others as well (an alias).
    """
    wanted = parse(text).data
    for loc, value in values.items():
        document = parse(text)
        if loc not in document.values:
            return None
        old = _at(document.data, loc)
        if old == value:
            continue
        line, column = document.values[loc]
        lines = text.splitlines(keepends=True)
        here = lines[line - 1]
        start = column - 1 + (here[column - 1 : column] in tuple(_QUOTES))
        if not isinstance(old, str) or not here.startswith(old, start):
            return None
        lines[line - 1] = here[:start] + value + here[start + len(old) :]
        text = "".join(lines)
        _at(wanted, loc[:-1])[loc[-1]] = value
    return text if parse(text).data == wanted else None


def with_key(text: str, loc: Loc, key: str, value: str) -> str | None:
    """Give a mapping a key, or its key another value of any kind.

    A new key comes last, behind the comments that belong to the one before.

    Args:
        text: of a config.yaml without errors.
        loc: of the mapping in the data, such as ("stations", 0).
        key: a plain word.
        value: as YAML in one line, such as `[[[0, 0], [1, 0], [1, 1]]]`.

    Returns:
        The new text; None where the mapping is written in a way that cannot be changed alone, such as by an alias.
    """
    wanted = copy.deepcopy(parse(text).data)
    _at(wanted, loc)[key] = parse(f"{key}: {value}").data[key]
    node = _node_at(text, loc)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return None
    own = next(((name, old) for name, old in node.value if name.value == key), None)
    first, (_, last) = node.value[0][0], node.value[-1]
    if own is not None:
        name, old = own
        start, end = old.start_mark.index, _end(old)
        # A list may begin below its key, at the same column; what replaces it has to be indented.
        is_below = old.start_mark.line > name.start_mark.line
        indent = max(0, name.start_mark.column + 2 - old.start_mark.column) if is_below else int(start == end)
        edited = f"{text[:start]}{' ' * indent}{value}{text[end:]}"
    elif node.flow_style:
        edited = f"{text[: _end(last)]}, {key}: {value}{text[_end(last) :]}"
    else:
        edited = _with_line(text, _end(last), first.start_mark.column, f"{key}: {value}")
    return edited if parse(edited).data == wanted else None


def with_item(text: str, loc: Loc, item: Mapping[str, str]) -> str | None:
    """Give a list of mappings one more, at its end. Returns None where the list is written in a way that cannot be changed alone.

    Args:
        text: of a config.yaml without errors.
        loc: of the list in the data, such as ("stations",).
        item: its keys, and their values as YAML in one line.
    """
    wanted = copy.deepcopy(parse(text).data)
    inline = ", ".join(f"{key}: {value}" for key, value in item.items())
    _at(wanted, loc).append(parse(f"{{{inline}}}").data)
    node = _node_at(text, loc)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        return None
    if node.flow_style:
        end = _end(node.value[-1])
        edited = f"{text[:end]}, {{{inline}}}{text[end:]}"
    else:
        column = node.start_mark.column
        first, *others = [f"{key}: {value}" for key, value in item.items()]
        lines = [f"- {first}", *(f"{' ' * column}  {one}" for one in others)]
        edited = _with_line(text, _end(node.value[-1]), column, "\n".join(lines))
    return edited if parse(edited).data == wanted else None


def quoted(text: str) -> str:
    """Return a text as a YAML value in one line that no reader takes for anything else."""
    return "'" + text.replace("'", "''") + "'"


def _with_line(text: str, end: int, column: int, line: str) -> str:
    """Put a line below the one that has the `end`, and below the comments that are indented further than `column`."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    at = text.count("\n", 0, end) + 1
    while at < len(lines) and re.match(rf" {{{column + 1},}}#", lines[at]):
        at += 1
    before = "".join(lines[:at])
    newline = "\r\n" if "\r\n" in text else "\n"
    before += newline * (not before.endswith("\n"))
    return f"{before}{' ' * column}{line.replace(chr(10), newline)}{newline}{''.join(lines[at:])}"


def _end(node: yaml.Node) -> int:
    """Return where the text of a node ends; without what follows it, comments too."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _node_at(text: str, loc: Loc) -> yaml.Node | None:
    node = yaml.compose(text, yaml.SafeLoader)
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            found = [value for key, value in node.value if key.value == step]
        else:
            found = node.value[step : step + 1] if isinstance(node, yaml.SequenceNode) and isinstance(step, int) else []
        if not found:
            return None
        node = found[0]
    return node


def _at(data: Any, loc: Loc) -> Any:
    for step in loc:
        data = data[step]
    return data
