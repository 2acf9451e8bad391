"""However long the journal has become, what is asked of it takes as many steps as on the first day."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import Connection, Engine

from benchmarks.journal_fill import fill
from benchmarks.page import LABELS
from edge_agent.core import MQTT, AlarmEvent
from edge_agent.journal import sqlite
from edge_agent.journal.journal import Journal
from edge_agent.journal.purge import PurgeStep
from edge_agent.journal.reader import open_reader
from edge_agent.journal.review import Selection, open_review
from tests.line import evidence, inspected, message, stored_file

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
COUNTED = 100  # SQLite tells of every so many of its steps

Asked = tuple[str, object]

BY_KEY = ("PRIMARY KEY", "pk_outbox", "pk_deliveries", "sqlite_autoindex_deliveries_1")
OUTBOX_INDICES = ("ix_deliveries_waiting", "ix_deliveries_dropped", *BY_KEY)


@contextmanager
def noted() -> Iterator[list[Asked]]:
    """What is asked of a database meanwhile: statements, and the values of each."""
    asked: list[Asked] = []

    def note(*call: object) -> None:
        _, _, statement, values, _, many = call
        if str(statement).startswith(("SELECT", "UPDATE", "DELETE")):
            asked.append((str(statement), values[0] if many else values))  # type: ignore[index]

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def plan(connection: Connection, asked: Asked) -> str:
    """How the database goes about it, in its own words."""
    kind = "QUERY PLAN " if connection.dialect.name == "sqlite" else ""
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN {kind}{asked[0]}", asked[1]))


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """To the journal of `url`, with some inspections in it."""
    hours = (NOW + number * DAY / 24 for number in range(40))
    with closing(Journal.open(url, clock=lambda: next(hours))) as journal:
        for number in range(40):
            inspection = inspected(AlarmEvent.RAISED if number % 4 == 0 else None, taken_at=NOW + number * DAY / 24)
            journal.record(inspection, evidence(inspection.id), [message(inspection)])
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")  # as where a table has more than one page
            connection.exec_driver_sql("SET enable_bitmapscan = off")
        yield connection


def test_a_day_is_read_from_the_index_of_its_times_page_after_page(
    url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.journal.reader.PAGE", 10)
    with open_reader(url) as visitor, noted() as asked:
        assert sum(map(len, visitor.inspections(NOW, NOW + DAY))) == 24
    pages = [plan(connection, one) for one in asked if "ORDER BY inspections.taken_at" in one[0]]
    assert len(pages) == 4
    for one in pages:
        assert "ix_inspections_taken_at" in one
        assert "TEMP B-TREE" not in one
        assert "Seq Scan" not in one


def test_a_day_of_one_station_is_read_from_an_index_of_its_own(
    url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.journal.reader.PAGE", 10)
    with open_reader(url) as visitor, noted() as asked:
        assert sum(map(len, visitor.inspections(NOW, NOW + DAY, "cam1"))) == 24
        assert sum(map(len, visitor.inspections(NOW, NOW + DAY, "cam2"))) == 0
    pages = [plan(connection, one) for one in asked if "ORDER BY inspections.taken_at" in one[0]]
    assert len(pages) == 5
    for one in pages:
        # With one station alone PostgreSQL may as well take the index of times.
        sqlite = connection.dialect.name == "sqlite"
        assert ("ix_inspections_station_taken_at" if sqlite else "Index Scan using ix_inspections") in one
        assert "TEMP B-TREE" not in one


def test_the_outbox_is_read_from_indices_of_what_waits_and_of_what_was_given_up(
    url: str, connection: Connection
) -> None:
    with closing(Journal.open(url)) as journal, noted() as asked:
        journal.outbox(MQTT).mark_sent(row.seq for row in journal.outbox(MQTT).pending(30))
        assert journal.outbox(MQTT).outbox_depth()[0] == 10
    with open_reader(url) as visitor, noted() as visited:
        assert len(list(visitor.waiting())) == visitor.drop("no longer of use", station="cam1") == 10
        assert len(list(visitor.dropped())) == visitor.retry() == 10
    plans = [plan(connection, one) for one in asked + visited if "deliveries" in one[0]]
    assert len(plans) >= 8
    for one in plans:
        assert any(name in one for name in OUTBOX_INDICES), one
        assert all(
            " INDEX " in step for step in one.splitlines() if step.startswith("SCAN ") and "CONSTANT" not in step
        ), one
        assert "Seq Scan" not in one


def test_no_look_of_retention_and_none_of_its_deletions_reads_a_whole_table(url: str, connection: Connection) -> None:
    with closing(Journal.open(url)) as journal, noted() as asked:
        journal.outbox(MQTT).mark_sent(row.seq for row in journal.outbox(MQTT).pending(30))
        assert journal.purge_before(NOW + DAY / 2, 5).rows == 5
        journal.purge_oldest(5)
        journal.purge_oldest(50)
        journal.purge_oldest(50)
    forgetting = [one for one in asked if one[0].startswith("DELETE") or "ix_" in plan(connection, one)]
    assert len(forgetting) >= 8
    for one in forgetting:
        steps = plan(connection, one)
        assert "Seq Scan" not in steps
        assert all(" USING " in step for step in steps.splitlines() if step.startswith("SCAN inspections")), steps


def steps(ask: Callable[[], object]) -> int:
    """How many steps SQLite's own machine makes for it; they are the same every time, as seconds never are."""
    count = [0]

    def counted() -> None:
        count[0] += COUNTED

    def watch(connection: object, *_: object) -> None:
        connection.set_progress_handler(counted, COUNTED)  # type: ignore[attr-defined]

    event.listen(Engine, "connect", watch)
    try:
        ask()
    finally:
        event.remove(Engine, "connect", watch)
    return count[0]


def test_on_a_journal_ten_times_as_long_nothing_takes_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", 0)  # small files are read whole when they are opened
    monkeypatch.setattr("edge_agent.journal.purge.LOOK", 600)
    taken: list[dict[str, int]] = []
    for count in (1000, 10_000):
        url = f"sqlite:///{tmp_path}/{count}.db"
        Journal.open(url).close()
        fill(tmp_path / f"{count}.db", count, NOW)

        def opened(ask: Callable[[Journal], object], url: str = url) -> int:
            def whole() -> None:
                with closing(Journal.open(url)) as journal:
                    ask(journal)

            return steps(whole)

        def visited(station: str | None, count: int, url: str = url) -> None:
            with open_reader(url) as visitor:
                assert sum(map(len, visitor.inspections(NOW - DAY / 20, NOW - DAY / 40, station))) == count

        def record(journal: Journal) -> None:
            inspection = inspected(AlarmEvent.RAISED, file=stored_file("/pictures/new.png"), taken_at=NOW)
            assert journal.record(inspection, evidence(), [message(inspection)])

        taken.append(
            {
                "open": opened(lambda journal: None),
                "export": steps(partial(visited, None, 250)),
                "of one station": steps(partial(visited, "cam1", 31)),
                "record": opened(record),
                "outbox": opened(
                    lambda journal: (journal.outbox(MQTT).outbox_depth(), journal.outbox(MQTT).pending(100))
                ),
                "oldest": opened(lambda journal: journal.purge_oldest(500)),
                "size": opened(lambda journal: journal.size()),
            }
        )
    short, long = taken
    assert min(short["export"], short["oldest"], long["export"]) > 10 * COUNTED
    for name, count in long.items():
        assert count <= 1.05 * short[name] + 3 * COUNTED, (name, short, long)


def test_a_long_export_takes_as_many_steps_for_its_last_rows_as_for_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.journal.reader.PAGE", 100)
    url = f"sqlite:///{tmp_path}/journal.db"
    Journal.open(url).close()
    fill(tmp_path / "journal.db", 4000, NOW)

    def export(count: int) -> None:
        with open_reader(url) as visitor:
            pages = visitor.inspections(since=NOW - DAY)
            assert sum(len(next(pages)) for _ in range(count // 100)) == count

    quarter, whole = steps(lambda: export(1000)), steps(lambda: export(4000))
    assert 3 < whole / quarter < 4.2


def test_what_may_not_go_makes_no_step_of_retention_longer_however_much_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", 0)
    monkeypatch.setattr("edge_agent.journal.purge.LOOK", 50)
    taken: list[int] = []
    for count in (300, 900):
        file = tmp_path / f"{count}.db"
        Journal.open(f"sqlite:///{file}").close()
        fill(file, count + 30, NOW)
        with closing(sqlite3.connect(file)) as database:  # a broker that has been away since the beginning, but for 30
            database.execute("DELETE FROM outbox")
            database.execute(
                "INSERT INTO outbox (id, kind, station, payload, inspection, created_at) "
                "SELECT id, 'result', station, '{}', number, taken_at FROM inspections WHERE number <= ?",
                [count],
            )
            database.execute("DELETE FROM deliveries")
            database.execute("INSERT INTO deliveries (seq, receiver) SELECT seq, 'mqtt' FROM outbox")
            database.commit()
        taken.append(steps(partial(look, f"sqlite:///{file}")))
        with closing(Journal.open(f"sqlite:///{file}")) as journal:
            gone = rounds = 0
            while (step := journal.purge_oldest(10)).more:
                gone, rounds = gone + step.rows, rounds + 1
            assert gone == 29  # and not that on which a station's alarm rests
            assert rounds >= count / 50
            assert journal.outbox(MQTT).outbox_depth()[0] == count
    few, many = taken
    assert 10 * COUNTED < many <= 1.05 * few + 2 * COUNTED


def look(url: str) -> None:
    """The first step of a retention that finds nothing that may go."""
    with closing(Journal.open(url)) as journal:
        assert journal.purge_oldest(10) == PurgeStep(0, more=True)


def test_looking_through_a_journal_ten_times_as_long_takes_no_more_steps(tmp_path: Path) -> None:
    taken: list[dict[str, int]] = []
    for count in (1000, 10_000):
        url = f"sqlite:///{tmp_path}/{count}.db"
        Journal.open(url).close()
        fill(tmp_path / f"{count}.db", count, NOW)
        with closing(sqlite3.connect(tmp_path / f"{count}.db")) as database:
            database.execute(LABELS)
            database.commit()
        with open_review(url) as journal:
            newest = journal.page(Selection(which="all"), 1).inspections[0]
            hour = Selection("cam0", NOW - DAY / 24, NOW)
            looks: dict[str, Callable[[], object]] = {
                "stations": journal.stations,
                "worth a look": lambda: journal.page(Selection(), 10),
                "the next page": lambda: journal.page(Selection(), 4, journal.page(Selection(), 4).older),
                "of one station": lambda: journal.page(Selection("cam0"), 1),
                "of one hour": partial(journal.page, hour, 60),
                "of no station": lambda: journal.page(Selection("cam9"), 60),
                "neighbours": partial(journal.neighbours, newest.id, Selection("cam0")),
                "false alarms": lambda: journal.page(Selection(which="false_alarm"), 5),
                "misses of one station": lambda: journal.page(Selection("cam1", which="missed"), 2),
                "neighbours of a miss": partial(journal.neighbours, newest.id, Selection(which="missed")),
                "newest": lambda: journal.newest("cam3"),
                "alarm": lambda: journal.standing_alarm("cam0", str.upper),
                "counts": lambda: journal.counts("cam0", NOW - DAY / 24),
            }
            assert journal.page(Selection(), 10).older is not None
            assert len(journal.page(Selection(which="false_alarm"), 5).inspections) == 5
            assert len(journal.page(Selection("cam1", which="missed"), 2).inspections) == 2
            taken.append({name: steps(look) for name, look in looks.items()})
    for name, count in taken[1].items():
        assert count <= 1.1 * taken[0][name] + 3 * COUNTED, (name, taken)
