"""Measure how soon the page answers, on a journal of 10,000 inspections and on one of ten million.

One in ten NotOK parts is labelled, which is twenty a day. Each view is asked for over HTTP, as a browser does, from a server in a
process of its own; what counts is the time to the first byte of the answer, the median of so many requests. "added" is how much
longer that takes with the long journal. Run:
python -m benchmarks.page [--rows 10000000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx2

from benchmarks.journal_fill import fill
from benchmarks.results_file import about, save
from edge_agent.config.database import sqlite_url
from edge_agent.journal.journal import Journal

SHORT = 10_000
TIMES = 7
MOST_ADDED_MS = 100.0
LABELS = """
    INSERT INTO labels (inspection, station, label, kind, who, said_at)
    SELECT id, station, iif(number % 1000 = 0, 'good', 'defect'), iif(number % 1000 = 0, NULL, 'dent'), 'oscar', taken_at
    FROM inspections WHERE number % 500 = 0
"""


def made(folder: Path, count: int) -> Path:
    """Return the folder of a page beside a journal of so many rows, made unless it is there already."""
    place = folder / str(count)
    journal = place / "journal.db"
    if not journal.exists():
        place.mkdir(parents=True, exist_ok=True)
        Journal.open(sqlite_url(journal)).close()
        fill(journal, count, datetime.now(timezone.utc))
        with closing(sqlite3.connect(journal)) as database:
            database.execute(LABELS)
            database.commit()
    stations = "".join(f"- {{name: cam{number}, source: {{folder: in}}}}\n" for number in range(8))
    (place / "config.yaml").write_text(f"agent: {{data_dir: .}}\npage: {{zone: UTC}}\nstations:\n{stations}")
    Journal.open(sqlite_url(journal)).close()  # of an earlier schema: brought up to date
    return place


def addresses(journal: Path) -> Mapping[str, str]:
    """Return the views by what they show."""
    with closing(sqlite3.connect(journal)) as database:
        last, count = database.execute("SELECT max(taken_at), max(number) FROM inspections").fetchone()
        (bad,) = database.execute("SELECT id FROM inspections WHERE number = ?", [count - count % 50]).fetchone()
    end = datetime.fromisoformat(last)
    day, hour = (
        f"since={end - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}" for hours in (24, 1)
    )
    return {
        "line": "/line",
        "review": "/review",
        "review, one station": "/review?station=cam1",
        "review, an hour": f"/review?{hour}",
        "review, NotOK": "/review?show=not_ok",
        "review, false alarms": "/review?show=false_alarm",
        "review, missed": "/review?show=missed",
        "review, all": "/review?show=all",
        "review, all of one station": "/review?show=all&station=cam1",
        "inspection": f"/inspection/{bad}",
        "inspection, among false alarms": f"/inspection/{bad}?show=false_alarm",
        "numbers, a day": f"/numbers?{day}",
        "numbers, a day, as CSV": f"/numbers.csv?{day}",
        "threshold": "/threshold?station=cam2",
    }


def first_bytes_ms(place: Path) -> dict[str, float]:
    """Return the median milliseconds to the first byte of each view."""
    command = [sys.executable, "-m", "edge_agent.cli", "page", "--config", str(place / "config.yaml"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.match(r"(http://\S+)/ ", process.stdout.readline())[1]  # type: ignore[index]
        try:
            with httpx2.Client(base_url=address, timeout=600, trust_env=False) as client:
                return {name: _median_ms(client, path) for name, path in addresses(place / "journal.db").items()}
        finally:
            process.send_signal(signal.SIGTERM)


def _median_ms(client: httpx2.Client, path: str) -> float:
    took = []
    for number in range(TIMES + 1):
        begun = time.perf_counter()
        with client.stream("GET", path) as answer:
            took.append((time.perf_counter() - begun) * 1e3)
            assert answer.status_code == 200, f"{path}: {answer.status_code}"
            answer.read()
        if number == 1 and sum(took) > 20_000:  # so slow that more of them tell nothing new
            break
    return round(statistics.median(took[1:]), 1)


def main() -> None:
    """Measure, print a table, and write the results."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--folder", type=Path, help="where the journals are, and stay; default: a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-agent-page-") as temporary:
        found = {count: first_bytes_ms(made(given.folder or Path(temporary), count)) for count in (SHORT, given.rows)}
    short, long = found[SHORT], found[given.rows]
    views = {
        name: {"short": short[name], "long": long[name], "added": round(long[name] - short[name], 1)} for name in short
    }
    print(f"{'first byte, ms':34}{SHORT:>12,}{given.rows:>12,}{'added':>10}")
    for name, one in views.items():
        print(
            f"{name:34}{one['short']:12.1f}{one['long']:12.1f}{one['added']:10.1f}{' <--' * (one['added'] > MOST_ADDED_MS)}"
        )
    save("page", {**about("sqlalchemy", "starlette", "uvicorn"), "rows": [SHORT, given.rows], "first byte, ms": views})


if __name__ == "__main__":
    main()
