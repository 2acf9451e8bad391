"""Fill an SQLite journal with years of inspections within minutes: rows like the agent's, made by SQL alone.

A line of eight stations with 10,000 parts a day, the last of them just now. A day of one station is always 1250 rows,
however long the journal is. Each part was a file (so there is a row of the ledger); one in 50 is NotOK, with a region, a
picture and an overlay; one in 100 changed its station's alarm; one in 10 has a message, which was sent.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

STATIONS, A_DAY = 8, 10_000

# As edge_agent/journal/tables.py keeps moments, stations and identities. :first and :last are numbers, :end seconds since 1970.
NUMBERS = f"""
    WITH RECURSIVE counted(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM counted WHERE n < :last),
    part AS (
        SELECT n, 'cam' || (n % {STATIONS}) AS station, :end - (:count - n) * 86400.0 / {A_DAY} AS seconds,
            n % 50 = 0 AS bad, n % 100 < 2 AS changed FROM counted
    ),
    made AS (
        SELECT *, strftime('%Y-%m-%dT%H:%M:%f000+00:00', seconds, 'unixepoch') AS moment,
            strftime('%Y-%m-%d', seconds, 'unixepoch') AS day,
            printf('%08x-%04x-7000-8000-%012x', CAST(seconds * 1000 AS INT) >> 16, CAST(seconds * 1000 AS INT) & 65535, n)
            AS id FROM part
    )
"""
INSPECTIONS = """
    INSERT INTO inspections (number, id, station, seq, taken_at, inspected_at, part_id, origin, width, height, evaluation,
        score, threshold, alarm, model, model_sha256, checkpoint_sha256, config_sha256, timings, image_uri, image_sha256,
        image_size, overlay_uri, overlay_sha256, overlay_size, simulated)
    SELECT n, id, station, n, moment, moment, 'SN' || n, printf('/srv/pictures/%s/%s/part-%09d.png', station, day, n),
        1920, 1200, iif(bad, 'NotOK', 'OK'), iif(bad, 0.91, 0.213), 0.62, iif(changed, iif(bad, 'raised', 'cleared'), NULL),
        'tipsomaly/embedded', :sha, :sha, :sha, '{"detect": 91.53, "judge": 0.421}',
        iif(bad, printf('file:///var/lib/edge-agent/evidence/%s/%s/%s.png', station, day, id), NULL), iif(bad, :sha, NULL),
        iif(bad, 1234567, NULL),
        iif(bad, printf('file:///var/lib/edge-agent/evidence/%s/%s/%s_o.jpg', station, day, id), NULL),
        iif(bad, :sha, NULL), iif(bad, 345678, NULL), 0 FROM made
"""
REGIONS = "INSERT INTO regions SELECT n, 0, 411, 302, 75, 64, 0.91, 3301 FROM made WHERE bad"
LEDGER = """
    INSERT INTO ledger SELECT station, printf('/srv/pictures/%s/%s/part-%09d.png', station, day, n),
        lower(hex(randomblob(32))), 1000000 + n * 7919 % 999983, 1234567, CAST(seconds * 1e9 AS INT) FROM made
"""
OUTBOX = """
    INSERT INTO outbox (id, kind, station, payload, inspection, created_at)
    SELECT id, 'alarm', station, json_object('schema', 'edge-agent/alarm/1', 'id', id, 'event', 'raised', 'ts', moment,
        'station', station, 'part_id', 'SN' || n, 'evaluation', 'NotOK', 'score', 0.91, 'threshold', 0.62,
        'model', 'tipsomaly/embedded', 'model_sha256', :sha, 'regions', json_array()), n, moment
    FROM made WHERE n % 10 = 0
"""
DELIVERIES = "INSERT INTO deliveries (seq, receiver, sent_at) SELECT seq, 'mqtt', created_at FROM outbox"


def fill(path: Path, count: int, end: datetime) -> None:
    """Fill the journal at `path`, which has its tables and no rows, with `count` inspections up to `end`."""
    values = {"first": 1, "last": count, "count": count, "end": end.timestamp(), "sha": "0123456789abcdef" * 4}
    # Nothing of this has to survive a crash; afterwards the file is as the agent's own.
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            database.execute(f"PRAGMA {pragma}")
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        indices = database.execute(found).fetchall()
        database.execute("BEGIN")
        for name, _ in indices:
            database.execute(f"DROP INDEX {name}")
        for rows in (INSPECTIONS, REGIONS, LEDGER, OUTBOX):
            database.execute(NUMBERS + rows, values)
        database.execute(DELIVERIES)
        for _, sql in indices:
            database.execute(sql)
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = WAL")
