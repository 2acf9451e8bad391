"""Measure how soon the page answers, on a journal of 10,000 inspections and on one of ten million.

Every NotOK part is labelled, half of them as good ones, and as many of the OK ones as defects: 400 labels a day. Each view is
asked for over HTTP, as a browser does, from a server in a process of its own, of the short and the long journal in turns, so
that what else the machine does slows both. What counts is the time to the first byte of the answer, the median of so many
requests. "added" is how much longer that takes with the long journal. Run:
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx2

from benchmarks.journal_fill import fill
from benchmarks.results_file import about, save
from edge_agent.config.database import sqlite_url
from edge_agent.journal.journal import Journal

SHORT = 10_000
TIMES = 16  # of which the first does not count
MOST_ADDED_MS = 100.0
LABELS = """
    INSERT INTO labels (inspection, station, label, kind, who, said_at, inspection_number, taken_at, evaluation)
    SELECT id, station, iif(number % 100 = 0, 'good', 'defect'), iif(number % 100 = 0, NULL, 'dent'), 'oscar', taken_at,
        number, taken_at, evaluation
    FROM inspections WHERE number % 50 IN (0, 25)
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


@contextmanager
def served(place: Path) -> Iterator[httpx2.Client]:
    """Serve a page; give a client of it."""
    command = [sys.executable, "-m", "edge_agent.cli", "page", "--config", str(place / "config.yaml"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.match(r"(http://\S+)/ ", process.stdout.readline())[1]  # type: ignore[index]
        try:
            with httpx2.Client(base_url=address, timeout=600, trust_env=False) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)


def first_byte_ms(client: httpx2.Client, path: str) -> float:
    """Return the milliseconds to the first byte of one answer."""
    begun = time.perf_counter()
    with client.stream("GET", path) as answer:
        took = (time.perf_counter() - begun) * 1e3
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        answer.read()
    return took


def main() -> None:
    """Measure, print a table, and write the results."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--folder", type=Path, help="where the journals are, and stay; default: a temporary one")
    given = options.parse_args()
    views: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-agent-page-") as temporary, ExitStack() as stack:
        places = [made(given.folder or Path(temporary), count) for count in (SHORT, given.rows)]
        clients = [stack.enter_context(served(place)) for place in places]
        paths = [addresses(place / "journal.db") for place in places]
        for name in paths[0]:
            took = [
                [first_byte_ms(*one) for one in zip(clients, [each[name] for each in paths], strict=True)]
                for _ in range(TIMES)
            ]
            short, long = (statistics.median(each) for each in zip(*took[1:], strict=True))
            views[name] = {"short": round(short, 1), "long": round(long, 1), "added": round(long - short, 1)}
    print(f"{'first byte, ms':34}{SHORT:>12,}{given.rows:>12,}{'added':>10}")
    for name, one in views.items():
        print(
            f"{name:34}{one['short']:12.1f}{one['long']:12.1f}{one['added']:10.1f}{' <--' * (one['added'] > MOST_ADDED_MS)}"
        )
    save("page", {**about("sqlalchemy", "starlette", "uvicorn"), "rows": [SHORT, given.rows], "first byte, ms": views})


if __name__ == "__main__":
    main()
