"""Labels from a file: a table (CSV), as `edge-agent export` writes it and a spreadsheet fills it, or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_agent.errors import ConfigError, LabelRefused
from edge_agent.io.texts import read_text
from edge_agent.journal.labels import Labels, Statement
from edge_agent.journal.reader import JournalReader
from edge_agent.journal.rows import Label, LabelValue

MAX_BYTES = 64 << 20
MOST_ERRORS = 20
# What a column may be called: short, or as in an export.
COLUMNS = {
    "inspection": ("inspection", "id"),
    "label": ("label",),
    "kind": ("label_kind", "kind"),
    "box": ("label_box", "box"),
    "note": ("label_note", "note"),
}
_NUMBERS = re.compile(r"-?\d+")


@dataclass(frozen=True, slots=True)
class Line:
    """One label of a file. place: `FILE:LINE`, for messages."""

    place: str
    statement: Statement


def read_labels(path: Path, journal: JournalReader, station: str) -> list[Statement]:
    """Read a file of labels.

    Args:
        path: of the file: .json, a list of objects; else CSV with a line of names, separated by , ; or tabs. Rows without a
            label are passed over.
        journal: knows the inspections.
        station: whose inspections they are.

    Raises:
        LabelRefused: the file cannot be read, a line is not understood, an inspection is unknown or labelled twice; all errors,
            one line each.
        JournalError: the journal cannot be read.
    """
    try:
        text = read_text(path, MAX_BYTES, "file of labels", "check the path")
    except ConfigError as error:  # of labels, not of the configuration
        raise LabelRefused(str(error)) from error
    errors: list[str] = []
    lines: list[Line] = []
    first: dict[str, str] = {}
    for place, row in _rows(text, path):
        try:
            statement = _statement(row)
        except ValueError as error:
            errors.append(f"{place}: {error}")
            continue
        if statement is None:
            continue
        if statement.inspection in first:
            errors.append(
                f"{place}: inspection {statement.inspection} has a label already, in {first[statement.inspection]}: leave one"
            )
            continue
        first[statement.inspection] = place
        lines.append(Line(place, statement))
    known = journal.of([line.statement.inspection for line in lines])
    for line in lines:
        inspection = known.get(line.statement.inspection)
        if inspection is None:
            errors.append(f"{line.place}: the journal has no inspection {line.statement.inspection}")
        elif inspection.station != station:
            errors.append(f"{line.place}: inspection {inspection.id} is of station {inspection.station}, not {station}")
    if errors:
        more = [f"{path}: and {len(errors) - MOST_ERRORS} more"] if len(errors) > MOST_ERRORS else []
        raise LabelRefused("\n".join([*errors[:MOST_ERRORS], *more]))
    return [line.statement for line in lines]


def as_labels(statements: Sequence[Statement], labels: Labels, station: str, who: str) -> list[Label]:
    """Return statements as labels that nobody recorded, for looking at what they would change.

    Args:
        statements: what would be said.
        labels: of the journal.
        station: whose inspections they are about.
        who: would say it.
    """
    before = labels.latest([one.inspection for one in statements], undone_too=True)
    now = datetime.now(timezone.utc)
    return [
        Label(
            number=0,
            inspection=one.inspection,
            station=station,
            value=one.value,
            kind=one.kind,
            box=one.box,
            who=who,
            said_at=now,
            note=one.note,
            supersedes=before[one.inspection].number if one.inspection in before else None,
        )
        for one in statements
    ]


def news(statements: Sequence[Statement], labels: Labels) -> list[Statement]:
    """Return those statements that say something else than the label that holds already."""
    held = labels.latest([one.inspection for one in statements])

    def is_new(one: Statement) -> bool:
        label = held.get(one.inspection)
        if label is None:
            return one.value is not LabelValue.NONE
        return (one.value, one.kind, one.box, one.note) != (label.value, label.kind, label.box, label.note)

    return [one for one in statements if is_new(one)]


def _rows(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise LabelRefused(f"{path}: is not valid JSON: {error}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise LabelRefused(f'{path}: wants a list of objects such as {{"inspection": ID, "label": "good"}}')
        for number, row in enumerate(rows, 1):
            yield f"{path}: entry {number}", row
        return
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = table.fieldnames or []
    for key in ("inspection", "label"):
        if not set(COLUMNS[key]) & set(names):
            raise LabelRefused(
                f"{path}:1: has no column {' or '.join(COLUMNS[key])}: the first line names the columns, such as inspection,label,note"
            )
    try:
        for row in table:
            yield f"{path}:{table.line_num}", row
    except csv.Error as error:
        raise LabelRefused(f"{path}:{table.line_num}: {error}") from None


def _statement(row: Mapping[str, Any]) -> Statement | None:
    """Return what a row says; None where it says nothing. Raises ValueError."""
    said = {key: next((row[name] for name in names if row.get(name)), None) for key, names in COLUMNS.items()}
    label = str(said["label"] or "").strip().lower()
    if not label:
        return None
    if label not in list(LabelValue):
        raise ValueError(f"label: is {said['label']!r}; wants {', '.join(one.value for one in LabelValue)}")
    inspection = str(said["inspection"] or "").strip()
    if not inspection:
        raise ValueError("has a label and no inspection")
    value = LabelValue(label)
    kind, note = _text(said["kind"]), _text(said["note"])
    box = _box(said["box"])
    if value is not LabelValue.DEFECT and (kind or box):
        raise ValueError(f"says {value.value} and has a {'kind' if kind else 'box'}: only a defect has one")
    return Statement(inspection, value, kind, box, note)


def _text(value: object) -> str | None:
    """Return the text of a cell, without the ' that exports put before what a spreadsheet would take for a formula."""
    text = str(value or "").strip()
    return (text[1:] if re.match(r"'[=+\-@]", text) else text) or None


def _box(value: object) -> tuple[int, int, int, int] | None:
    if not value:
        return None
    numbers = [int(one) for one in _NUMBERS.findall(str(value))]
    if len(numbers) != 4 or re.search(r"\d\.\d", str(value)):
        raise ValueError(f"box: is {value!r}; wants x, y, width and height in pixels, such as 120 40 64 64")
    return (numbers[0], numbers[1], numbers[2], numbers[3])
