"""`edge-agent export`: the journal's inspections as a table."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent export`."""
    export = commands.add_parser("export", help="the journal's inspections as CSV or Parquet, beside a running agent")
    config_option(export)
    export.add_argument(
        "--since", required=True, type=moment, help="2026-11-20, or 2026-11-20T06:00; this machine's time"
    )
    export.add_argument("--until", type=moment, help="up to this moment, itself left out; default: all there are")
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="default: csv")
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help="replaced when all of it is written")
    export.set_defaults(run=_export)


def moment(text: str) -> datetime:
    """A day or a moment, aware; this machine's time where it names no other (`Z`, `+01:00`)."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-11-20 and no 2026-11-20T06:00") from None


def _export(options: argparse.Namespace) -> int:
    from edge_agent.config import default_path, load_config
    from edge_agent.export import export
    from edge_agent.visit import visiting

    config = load_config(options.config or default_path())
    with visiting(config.database.full_url()) as journal:
        count = export(journal.inspections(options.since, options.until), options.out, options.format)
    print(f"{count} inspection{'s' * (count != 1)} in {options.out}")
    return OK
