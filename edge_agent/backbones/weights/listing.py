"""What `edge-agent models` shows: every known backbone, and whether it is here; of CLIPs, which are many, those here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.backbones.families import FAMILIES
from edge_agent.backbones.family import Row


def list_models(folders: Sequence[Path]) -> list[Row]:
    """Return a row for every backbone that is known or lies in a folder, family by family. Reads no weights.

    folders: where fetched backbones lie, the first one first.
    """
    found: dict[str, Row] = {}
    for family in FAMILIES:
        for folder in folders:
            for row in family.rows(folder):
                if row.name not in found or found[row.name].folder is None:
                    found[row.name] = row
    return list(found.values())


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each below a heading, no colour, no trailing newline."""
    cells = [("NAME", "PICTURE", "WIDTH", "PARAMETERS", "SIZE", "LICENCE", "WHERE")]
    cells += [
        (
            row.name,
            f"{row.image_size} px" if row.image_size else "",
            str(row.width or ""),
            f"{row.millions:,.0f} M" if row.millions else "",
            _size(row),
            row.licence,
            str(row.folder or "not fetched"),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def unlisted() -> str:
    """Say how backbones are named that no table could list."""
    return "\n".join(family.about for family in FAMILIES if family.about)


def _size(row: Row) -> str:
    if row.bytes is None:
        return ""
    return f"{'' if row.folder else '~'}{row.bytes / 1e6:,.0f} MB"
