"""`edge-agent report`: what happened in a period, as one printable page with its pictures, or as a table."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.moments import local, moment
from edge_agent.commands.showing.page import needing_the_extra, picture_cache
from edge_agent.errors import ConfigError, EdgeAgentError

ONLY = ("not_ok", "false_alarm", "missed", "all")  # journal.review.Which, which takes time to import
CACHE_BYTES = 500e6  # of small pictures, when no page: section says how many


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent report`."""
    report = commands.add_parser(
        "report", help="what happened in a period, to print or as CSV; needs pip install 'edge-agent[page]'"
    )
    config_option(report)
    report.add_argument("--journal", type=Path, metavar="FILE", help="of this journal, without a configuration")
    report.add_argument(
        "--since",
        type=moment,
        required=True,
        help="2026-11-20, 20.11.2026 6:00, 10:00, yesterday or 2h (ago); this machine's time",
    )
    report.add_argument("--until", type=moment, help="before this moment; default: now")
    report.add_argument("--station", help="only this one (default: all)")
    report.add_argument(
        "--only",
        choices=ONLY,
        help="parts that are shown: NotOK; false_alarm: not OK, and labelled good; missed: OK, and labelled a defect; all "
        "(default: what is worth a look, that is all but OK, and OK just below the threshold)",
    )
    report.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="a name that ends in .html or .csv (default: report.html)",
    )
    report.add_argument(
        "--numbers",
        action="store_true",
        help="with --out FILE.csv: the numbers of each shift and station, in place of the parts",
    )
    report.add_argument(
        "--language", help="en, de, ... of the page (default: as LC_ALL, LC_MESSAGES or LANG says, else English)"
    )
    report.set_defaults(run=lambda options: _report(options, report))


def _report(options: argparse.Namespace, command: argparse.ArgumentParser) -> int:
    if options.out.suffix not in (".html", ".csv"):
        command.error(f"--out {options.out}: give a name that ends in .html or .csv")
    if options.until and options.until <= options.since:
        command.error(f"--until, {local(options.until)}, is not after --since, {local(options.since)}")
    if options.numbers and options.out.suffix != ".csv":
        command.error("--numbers goes with --out FILE.csv; a page has them anyway")
    if options.journal and options.config:
        raise ConfigError("report: --journal goes without --config: the configuration names its journal")
    from zoneinfo import ZoneInfo

    from edge_agent.config.database import sqlite_url
    from edge_agent.config.load import default_path, load_config
    from edge_agent.journal.export import export
    from edge_agent.journal.labels import open_labels
    from edge_agent.journal.review import Selection, open_review

    with needing_the_extra():
        from edge_agent.page.pictures import Pictures
        from edge_agent.page.report import numbers_csv, report_page, report_rows
        from edge_agent.page.shifts import by_shift, by_station
        from edge_agent.page.texts import language_for
        from edge_agent.settings.page import SHIFTS

    config = None if options.journal else load_config(options.config or default_path())
    url = config.database.full_url() if config else sqlite_url(Path(os.path.abspath(options.journal)))
    section = config.page if config else None
    chosen = Selection(options.station, options.since, options.until, options.only or "look")
    zone = ZoneInfo(section.zone) if section and section.zone else None
    shifts = section.shifts if section else SHIFTS
    until = options.until or datetime.now(timezone.utc)
    with open_review(url) as journal, open_labels(url) as labels:
        rows = by_shift(journal, chosen, max(until, options.since), shifts, zone)
        if options.numbers:
            _write(options.out, numbers_csv(rows, zone))
        elif options.out.suffix == ".csv":
            export(report_rows(journal, labels, chosen), options.out, "csv")
        else:
            pictures = Pictures(picture_cache(), section.cache_mb * 1e6 if section else CACHE_BYTES)
            language = language_for(options.language or locale())
            _write(options.out, report_page(journal, labels, pictures, chosen, rows, zone, language))
    ended = f" until {local(options.until)}" if options.until else ""
    print(f"taken since {local(options.since)}{ended}", file=sys.stderr)
    for one in by_station(rows):
        print(
            f"{one.station}: {one.parts} parts, {one.not_ok} NotOK; labelled: {one.false_alarms} false alarms, "
            f"{one.confirmed} confirmed, {one.missed} missed"
        )
    print(options.out)
    return OK


def locale() -> str:
    """Return the language of this process's environment, as a browser would ask for it; empty for none."""
    said = next((text for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (text := os.environ.get(name))), "")
    return said.partition(".")[0].replace("_", "-")


def _write(path: Path, content: str) -> None:
    from edge_agent.io.files import write_durably

    try:
        write_durably(path, content.encode())
    except OSError as error:
        raise EdgeAgentError(f"{path}: {error.strerror}: name a file in a folder that you may write") from error
