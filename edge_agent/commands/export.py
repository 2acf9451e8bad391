"""`edge-agent export`: writes the journal's inspections as a table, or the detector as ONNX (export_onnx.py)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.commands import export_onnx
from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.moments import local, moment

VERDICTS = ("OK", "NotOK", "NotDecidable", "Undefined")  # core.Evaluation, which takes time to import


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent export`."""
    export = commands.add_parser(
        "export", help="the journal's inspections as CSV or Parquet, beside a running agent; or the detector as ONNX"
    )
    config_option(export)
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--since", type=moment, help="2026-11-20, 20.11.2026 6:00, 10:00, yesterday or 2h (ago); this machine's time"
    )
    export.add_argument("--until", type=moment, help="before this moment; default: no limit")
    export.add_argument(
        "--verdict",
        action="append",
        choices=VERDICTS,
        help="only these; may be given several times (default: all)",
    )
    export.add_argument(
        "--station", help="only its inspections (default: all); with --onnx its detector, where the config has several"
    )
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="default: csv")
    export.add_argument("--out", type=Path, metavar="FILE", help="the table's file; replaced once it is complete")
    export_onnx.add(export, what)
    export.set_defaults(run=lambda options: _export(options, export))


def _export(options: argparse.Namespace, command: argparse.ArgumentParser) -> int:
    if options.onnx:
        return export_onnx.export_onnx(options)
    if options.check:
        return export_onnx.check(options)
    if options.out is None:
        command.error("the following arguments are required: --out")
    if options.until and options.until <= options.since:
        command.error(f"--until, {local(options.until)}, is not after --since, {local(options.since)}")
    return _table(options)


def _table(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config
    from edge_agent.journal.export import export
    from edge_agent.journal.reader import open_reader

    config = load_config(options.config or default_path())
    with open_reader(config.database.full_url()) as journal:
        pages = journal.inspections(options.since, options.until, options.station, options.verdict)
        count = export(pages, options.out, options.format)
    until = f" until {local(options.until)}" if options.until else ""
    print(f"taken since {local(options.since)}{until}", file=sys.stderr)
    print(f"{count} inspection{'s' * (count != 1)} in {options.out}")
    return OK
