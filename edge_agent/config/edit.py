"""Changes single values in the text of a config.yaml, and leaves all else as it is written: comments, order, quotes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def _at(data: Any, loc: Loc) -> Any:
    for step in loc:
        data = data[step]
    return data
