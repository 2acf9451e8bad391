"""`edge-agent export`: writes the journal's inspections as a table, or the detector as ONNX (export_onnx.py)."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from edge_agent.commands import export_onnx
from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent export`."""
    export = commands.add_parser(
        "export", help="the journal's inspections as CSV or Parquet, beside a running agent; or the detector as ONNX"
    )
    config_option(export)
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("--since", type=moment, help="2026-11-20, or 2026-11-20T06:00; this machine's time")
    export.add_argument("--until", type=moment, help="before this moment; default: no limit")
    export.add_argument(
        "--station", help="only its inspections (default: all); with --onnx its detector, where the config has several"
    )
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="default: csv")
    export.add_argument("--out", type=Path, metavar="FILE", help="the table's file; replaced once it is complete")
    export_onnx.add(export, what)
    export.set_defaults(run=lambda options: _export(options, export))


def moment(text: str) -> datetime:
    """Parse a day or a moment as an aware datetime, in this machine's time zone unless it names one (`Z`, `+01:00`).

    Raises ArgumentTypeError if it is neither.
    """
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-11-20 and no 2026-11-20T06:00") from None


def _export(options: argparse.Namespace, command: argparse.ArgumentParser) -> int:
    if options.onnx:
        return export_onnx.export_onnx(options)
    if options.check:
        return export_onnx.check(options)
    if options.out is None:
        command.error("the following arguments are required: --out")
    return _table(options)


def _table(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config
    from edge_agent.journal.export import export
    from edge_agent.journal.reader import open_reader

    config = load_config(options.config or default_path())
    with open_reader(config.database.full_url()) as journal:
        pages = journal.inspections(options.since, options.until, options.station)
        count = export(pages, options.out, options.format)
    print(f"{count} inspection{'s' * (count != 1)} in {options.out}")
    return OK
