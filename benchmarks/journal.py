"""Measure a journal in SQLite at 10,000 rows, and at ten, a hundred and a thousand times as many.

At every length, medians: a whole inspection recorded (its file in the ledger, a message, two regions; on disk before the
next), a day of one station, a page deep in an export, the outbox, a step of retention; and how long the first day takes when the
system holds nothing of the file in its memory. Beside them in the same run, what was there before or would be without:
the export's page as it was until version 0004, dropped messages without their index, inserts without the index of
stations. At the longest also what an upgrade takes, and how long the line waits for a commit while rows in great number
are deleted, in steps as the agent does it, or at once. Run:
python -m benchmarks.journal [--rows 10000000] [--delete 1000000] [--folder FOLDER], and for a broker that is away
python -m benchmarks.journal --rows 1000000 --waiting 300000
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from benchmarks.journal_fill import A_DAY, fill
from benchmarks.results_file import about, save
from edge_agent.core import MQTT, AlarmEvent
from edge_agent.evidence.retention import STEP_ROWS
from edge_agent.journal import purge
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from tests.line import evidence, inspected, message, stored_file

DAY = timedelta(days=1)
DEEP = 300 * DAY  # how far behind --since the page of an export lies, where the journal is that long
# With ? and not with names, as SQLAlchemy asks: SQLite cannot know that the last two are the same.
PAGE = "SELECT * FROM inspections WHERE taken_at >= ? AND (taken_at > ? OR {}) ORDER BY taken_at, number LIMIT 1000"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def made(path: Path, count: int) -> datetime:
    """A journal of so many rows at `path`, unless it is there already; when the last of them was taken."""
    if not path.exists():
        Journal.open(url(path)).close()
        fill(path, count, datetime.now(timezone.utc))
    with closing(sqlite3.connect(path)) as database:
        (last,) = database.execute("SELECT max(taken_at) FROM inspections").fetchone()
    return datetime.fromisoformat(last)


def ms(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return (time.perf_counter() - begun) * 1e3


def median(do: Callable[[], object], times: int = 7) -> float:
    return statistics.median(ms(do) for _ in range(times))


def recorder(journal: Journal) -> Callable[[], None]:
    """Records another inspection at every call; the objects themselves are made before, as by the line."""

    def inspections() -> Iterator[Any]:
        while True:
            number = time.time_ns()
            path = f"/srv/pictures/cam1/new/part-{number}.png"
            file = stored_file(path, content=str(number), inode=number % 1_000_003, mtime_ns=number)
            one = inspected(AlarmEvent.RAISED, file=file, taken_at=datetime.now(timezone.utc))
            yield one, evidence(one.id), [message(one)]

    ready = inspections()

    def record() -> None:
        assert journal.record(*next(ready))

    return record


def insert_ms(journal: Journal, count: int) -> dict[str, float]:
    """Milliseconds by the clock, most of them the disk's, and of the processor alone."""
    record = recorder(journal)
    worked = time.process_time()
    took = statistics.median(ms(record) for _ in range(count))
    return {"insert": took, "insert, processor": (time.process_time() - worked) * 1e3 / count}


def forget_from_cache(path: Path) -> None:
    """Have the system read the file from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def questions(path: Path, journal: Journal, last: datetime) -> dict[str, float]:
    """Milliseconds of what the agent and its commands ask."""
    day = last - DAY

    def exported() -> None:
        with open_reader(url(path)) as visitor:
            sum(map(len, visitor.inspections(day, last)))

    def given_up() -> None:
        with open_reader(url(path)) as visitor:
            list(visitor.dropped())

    return {
        "a day of one station": median(lambda: journal.inspections("cam1", day, last), 5),
        "a day of all, as exported": median(exported, 3),
        "outbox: depth and age": median(journal.outbox(MQTT).outbox_depth),
        "outbox: next 100": median(lambda: journal.outbox(MQTT).pending(100)),
        "outbox: given up": median(given_up),
        "is a file known": median(lambda: journal.seen("cam1", stored_file("/srv/pictures/cam1/none.png"))),
        "alarms, at a start": median(journal.standing_alarms),
        "size": median(journal.size),
        "retention: 500 too old": median(lambda: journal.purge_before(last, STEP_ROWS), 5),
        "retention: 500 oldest OK": median(lambda: journal.purge_oldest(STEP_ROWS), 5),
    }


def without(path: Path, last: datetime) -> dict[str, float]:
    """The same without an index, or asked as before."""
    with closing(sqlite3.connect(path)) as database:
        (first,) = database.execute("SELECT min(taken_at) FROM inspections").fetchone()
        since = max(datetime.fromisoformat(first), last - DEEP)
        reached = (last - DAY / 2).isoformat("T", "microseconds")
        as_before = [since.isoformat("T", "microseconds"), reached, reached]
        before = median(lambda: database.execute(PAGE.format("taken_at = ? AND number > 0"), as_before).fetchall(), 3)
        now = median(lambda: database.execute(PAGE.format("number > 0"), [reached, reached]).fetchall(), 3)
        scan = "SELECT * FROM deliveries NOT INDEXED WHERE dropped IS NOT NULL"
        return {
            "a page deep in an export": now,
            "a page deep in an export, as before 0004": before,
            "outbox: given up, without its index": median(lambda: database.execute(scan).fetchall(), 3),
        }


def at_length(path: Path, count: int) -> dict[str, float]:
    """All that is measured at one length."""
    last = made(path, count)
    found = {"file_mb": path.stat().st_size / 1e6}
    found["open"] = ms(lambda: Journal.open(url(path)).close())
    with closing(Journal.open(url(path))) as journal:
        forget_from_cache(path)
        found["a day of one station, from the disk"] = ms(lambda: journal.inspections("cam1", last - DAY, last))
        found |= insert_ms(journal, 200) | questions(path, journal, last)
    return found | without(path, last)


def upgraded(path: Path) -> dict[str, float]:
    """Seconds that a start waits for its journal: from version 0005 to 0007, and for an index over every inspection."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript("""
            ALTER TABLE outbox ADD COLUMN sent_at TEXT;
            ALTER TABLE outbox ADD COLUMN dropped TEXT;
            UPDATE outbox SET sent_at = created_at;
            CREATE INDEX ix_outbox_unsent ON outbox (seq, sent_at) WHERE sent_at IS NULL;
            CREATE INDEX ix_outbox_dropped ON outbox (seq) WHERE dropped IS NOT NULL;
            DROP TABLE deliveries;
            DROP INDEX ix_inspections_inspected_at;
            UPDATE journal_version SET version_num = '0005';
        """)
    forget_from_cache(path)
    from_0005 = ms(lambda: Journal.open(url(path)).close()) / 1e3
    with closing(sqlite3.connect(path)) as database:
        index = ms(lambda: database.execute("REINDEX ix_inspections_ok")) / 1e3
    return {"upgrade from 0005, s": from_0005, "an index over all inspections, s": index}


def stalls(path: Path, count: int) -> dict[str, float]:
    """How long commits of the line wait, one every 20 ms, while so many rows go in steps; beside one that deletes at once."""
    waited: list[float] = []
    log = path.with_name(f"{path.name}-wal")
    with closing(Journal.open(url(path))) as journal:
        before = path.stat().st_size
        record = recorder(journal)
        ended, gone, longest_log = threading.Event(), 0, 0
        quiet = [ms(record) for _ in range(100)]

        def line() -> None:
            while not ended.is_set():
                waited.append(ms(record))
                time.sleep(0.02)

        thread = threading.Thread(target=line)
        thread.start()
        begun = time.perf_counter()
        steps = []
        far = datetime.now(timezone.utc)
        while gone < count:
            step = time.perf_counter()
            rows = journal.purge_before(far, STEP_ROWS).rows
            steps.append((time.perf_counter() - step) * 1e3)
            gone += rows
            longest_log = max(longest_log, log.stat().st_size)
            if not rows:
                break
        seconds = time.perf_counter() - begun
        ended.set()
        thread.join()
        after = path.stat().st_size
        used = journal.size()
    at_once = count // 20
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = FULL")
        (until,) = database.execute(
            "SELECT taken_at FROM inspections ORDER BY taken_at LIMIT 1 OFFSET ?", [at_once]
        ).fetchone()
        which = "(SELECT number FROM inspections WHERE taken_at < ?)"
        begun = time.perf_counter()
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            f"DELETE FROM deliveries WHERE seq IN (SELECT seq FROM outbox WHERE inspection IN {which})", [until]
        )
        for table, column in (("outbox", "inspection"), ("regions", "inspection"), ("inspections", "number")):
            database.execute(f"DELETE FROM {table} WHERE {column} IN {which}", [until])
        database.execute("COMMIT")
        naive_s = time.perf_counter() - begun
    waited.sort()
    return {
        "rows deleted": gone,
        "rows a second": gone / seconds,
        "step, median ms": statistics.median(steps),
        "step, longest ms": max(steps),
        "commit of the line meanwhile, median ms": statistics.median(waited),
        "commit of the line meanwhile, 99 % ms": waited[int(0.99 * len(waited))],
        "commit of the line meanwhile, longest ms": waited[-1],
        "commit of the line before, median ms": statistics.median(quiet),
        "commit of the line before, longest ms": max(quiet),
        f"a commit behind {at_once:,} rows deleted at once, ms": naive_s * 1e3,
        "longest log, MB": longest_log / 1e6,
        "file before, MB": before / 1e6,
        "file after, MB": after / 1e6,
        "of it in use, MB": used / 1e6,
    }


def waiting(path: Path, count: int) -> dict[str, float]:
    """A step of retention where the messages of the oldest `count` inspections wait, and one that looks past all of them."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM deliveries")
        database.execute("DELETE FROM outbox")
        database.execute(
            "INSERT INTO outbox (id, kind, station, payload, inspection, created_at) "
            "SELECT id, 'result', station, '{}', number, taken_at FROM inspections WHERE number <= ?",
            [count],
        )
        database.execute("INSERT INTO deliveries (seq, receiver) SELECT seq, 'mqtt' FROM outbox")

    def step() -> None:
        with closing(Journal.open(url(path))) as journal:
            took.append(ms(lambda: journal.purge_oldest(STEP_ROWS)))

    found = {}
    for name, look in {"look past all": 10**9, "look past some": purge.LOOK}.items():
        took: list[float] = []
        purge.LOOK = look
        for _ in range(7):
            step()
        found[f"{name}, median ms"] = statistics.median(took)
    return found | {"ratio": found["look past some, median ms"] / found["look past all, median ms"]}


def without_stations(path: Path) -> dict[str, float]:
    """What inserts take with all indices, as a ratio to those without the index of stations and times."""
    with closing(Journal.open(url(path))) as journal:
        indexed = insert_ms(journal, 500)
    with closing(sqlite3.connect(path)) as database:
        (sql,) = database.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'ix_inspections_station_taken_at'"
        ).fetchone()
        database.execute("DROP INDEX ix_inspections_station_taken_at")
    with closing(Journal.open(url(path))) as journal:
        bare = insert_ms(journal, 500)
    with closing(sqlite3.connect(path)) as database:
        database.execute(sql)
    return {name: value / bare[name] for name, value in indexed.items()}


def main() -> None:
    """Print a table, and write benchmarks/results/journal.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--delete", type=int, default=1_000_000, help="of the longest; at most half of it")
    parser.add_argument("--folder", type=Path, help="keep the journals here, and use those that are there")
    parser.add_argument("--waiting", type=int, metavar="N", help="only this: steps of retention while N messages wait")
    options = parser.parse_args()
    if options.waiting:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "journal.db"
            made(path, options.rows)
            found_waiting = waiting(path, options.waiting)
        print("  ".join(f"{name} {value:.3f}" for name, value in found_waiting.items()))
        rounded_waiting = {name: round(value, 3) for name, value in found_waiting.items()}
        save(
            "journal-waiting",
            {**about("sqlalchemy"), "rows": options.rows, "waiting": options.waiting, **rounded_waiting},
        )
        return
    lengths = [length for length in (A_DAY, 10 * A_DAY, 100 * A_DAY, 1000 * A_DAY) if length <= options.rows]
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        found = {length: at_length(folder / f"{length}.db", length) for length in lengths}
        longest = folder / f"{lengths[-1]}.db"
        upgrade = upgraded(longest)
        stall = stalls(longest, min(options.delete, lengths[-1] // 2))
        indexed = without_stations(longest)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    short, long = found[lengths[0]], found[lengths[-1]]
    print(f"{'milliseconds, medians':42}" + "".join(f"{length:>12,}" for length in lengths) + "   last / first")
    for name in long:
        values = "".join(f"{one[name]:12.3f}" for one in found.values())
        print(f"{name:42}{values}{long[name] / short[name]:15.2f}")
    for name, value in (upgrade | stall).items():
        print(f"{name:50}{value:14.2f}")
    print(
        "inserts with the index of stations against without: " + ", ".join(f"{k} {v:.2f}" for k, v in indexed.items())
    )
    rounded = {
        "lengths": {
            str(length): {name: round(value, 3) for name, value in one.items()} for length, one in found.items()
        },
        "last_to_first": {name: round(long[name] / short[name], 3) for name in long},
        "upgrade": {name: round(value, 2) for name, value in upgrade.items()},
        "deleting": {name: round(value, 2) for name, value in stall.items()},
        "with_the_index_of_stations_to_without": {name: round(value, 3) for name, value in indexed.items()},
    }
    save("journal", {**about("sqlalchemy"), "sqlite": sqlite3.sqlite_version, **rounded})


if __name__ == "__main__":
    main()
