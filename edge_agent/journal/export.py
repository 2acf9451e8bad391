"""Writes inspections as a CSV or Parquet file, page by page; the file appears whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

from edge_agent.core import SavedFile
from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import open_durably
from edge_agent.journal.rows import Label, RecordedInspection

Format = Literal["csv", "parquet"]
Pages = Iterable[Sequence[RecordedInspection]]

# Name and type of each column, in the order of the table.
COLUMNS: dict[str, type] = {
    "id": str,
    "agent": str,
    "station": str,
    "seq": int,
    "taken_at": datetime,
    "inspected_at": datetime,
    "part_id": str,
    "trigger_id": str,
    "origin": str,
    "width": int,
    "height": int,
    "evaluation": str,
    "score": float,
    "threshold": float,
    "map_threshold": float,
    "reason": str,
    "alarm": str,
    "regions": str,  # JSON
    "timings_ms": str,  # JSON
    "model": str,
    "model_sha256": str,
    "checkpoint_sha256": str,
    "calibration_id": str,
    "config_sha256": str,
    "image_uri": str,
    "image_sha256": str,
    "overlay_uri": str,
    "overlay_sha256": str,
    "evidence": str,  # why the pictures are not as asked for
    "simulated": bool,
    "label": str,
    "label_kind": str,
    "label_box": str,  # JSON: x, y, width, height in pixels
    "label_by": str,
    "label_at": datetime,
    "label_note": str,
}


FROM_OUTSIDE = frozenset(
    {"agent", "station", "part_id", "trigger_id", "origin", "reason", "label_kind", "label_by", "label_note"}
)


def export(pages: Pages, out: Path, fmt: Format) -> int:
    """Write all pages to `out`, replacing an existing file.

    Args:
        pages: inspections in the order of the table, some at a time.
        out: path of the file to write.
        fmt: "csv" or "parquet".

    Returns:
        The number of inspections written.

    Raises:
        EdgeAgentError: `out` cannot be written, or pyarrow is missing for "parquet"; `out` is then unchanged.
        JournalError: the database fails while pages are read; `out` is then unchanged.
    """
    write = {"csv": _write_csv, "parquet": _write_parquet}[fmt]
    try:
        with open_durably(out, shared=True) as file:
            return write(pages, file)
    except OSError as error:
        raise EdgeAgentError(
            f"{out}: {error.strerror}: name a file in a folder with room that you may write"
        ) from error


def row(one: RecordedInspection) -> dict[str, object]:
    """Return the values of COLUMNS for one inspection."""
    evidence, alarm = one.evidence, one.verdict.alarm
    return {
        "id": one.id,
        "agent": one.agent,
        "station": one.station,
        "seq": one.seq,
        "taken_at": one.taken_at,
        "inspected_at": one.inspected_at,
        "part_id": one.part_id,
        "trigger_id": one.trigger_id,
        "origin": one.origin,
        "width": one.width,
        "height": one.height,
        "evaluation": one.verdict.evaluation.value,
        "score": one.score,
        "threshold": one.threshold,
        "map_threshold": one.map_threshold,
        "reason": one.verdict.reason,
        "alarm": alarm.value if alarm else None,
        "regions": json.dumps([asdict(region) for region in one.verdict.regions]),
        "timings_ms": json.dumps(dict(one.timings)),
        **asdict(one.trace),
        **_saved("image", evidence.image),
        **_saved("overlay", evidence.overlay),
        "evidence": evidence.state.value if evidence.state else None,
        "simulated": one.simulated,
        **_said(one.label),
    }


def _said(label: Label | None) -> dict[str, object]:
    if label is None:
        return dict.fromkeys(("label", "label_kind", "label_box", "label_by", "label_at", "label_note"))
    return {
        "label": label.value.value,
        "label_kind": label.kind,
        "label_box": json.dumps(label.box) if label.box else None,
        "label_by": label.who,
        "label_at": label.said_at,
        "label_note": label.note,
    }


def _saved(column: str, file: SavedFile | None) -> dict[str, object]:
    return {f"{column}_uri": file.uri if file else None, f"{column}_sha256": file.sha256 if file else None}


def disarmed(text: str) -> str:
    """Return text from outside as a cell: what a spreadsheet would run as a formula gets a ' in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _cell(column: str, value: object) -> object:
    """Return a value as its cell; text from outside that a spreadsheet would run as a formula gets a ' in front."""
    if isinstance(value, datetime):
        return value.isoformat()
    return disarmed(value) if column in FROM_OUTSIDE and isinstance(value, str) else value


def _write_csv(pages: Pages, file: IO[bytes]) -> int:
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    count = 0
    for page in pages:
        for one in page:
            values = row(one)
            table.writerow({key: _cell(key, value) for key, value in values.items()})
        count += len(page)
    text.flush()
    text.detach()
    return count


def _write_parquet(pages: Pages, file: IO[bytes]) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EdgeAgentError("Parquet needs pyarrow: pip install 'edge-agent[parquet]', or take --format csv") from None
    kinds: dict[type, Callable[[], Any]] = {
        str: pyarrow.string,
        int: pyarrow.int64,
        float: pyarrow.float64,
        bool: pyarrow.bool_,
        datetime: lambda: pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, kinds[kind]()) for name, kind in COLUMNS.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as table:
        for page in pages:
            table.write_table(pyarrow.Table.from_pylist([row(one) for one in page], schema=schema))
            count += len(page)
    return count
