"""Old evidence, and rows of the journal that are old or too many, go a part at a time while the line works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from edge_agent.core import MQTT, AlarmEvent, Evidence, Inspection
from edge_agent.evidence.retention import Retention
from edge_agent.journal.journal import Journal
from edge_agent.journal.purge import PurgeStep
from tests.line import evidence, inspected, message, not_decidable, stored_file
from tests.postgres import Server

RAISED = AlarmEvent.RAISED
FOR_EVER = 1e9
ROOM = 40_000  # bytes: some dozens of rows


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    with closing(Journal.open(url)) as journal:
        yield journal


def retention(journal: Journal, keep_bytes: float, keep_days: float = FOR_EVER) -> Retention:
    return Retention(lambda moment: [], journal, keep_days=keep_days, keep_gb=keep_bytes / 1e9)


def sweep(retention: Retention, times: int = 200) -> None:
    """Run the periodic task so many times."""
    for _ in range(times):
        retention.run()


def fill(journal: Journal, count: int, make: Callable[[], Inspection] = inspected) -> list[str]:
    """Record so many inspections and return their ids."""
    made = [make() for _ in range(count)]
    for inspection in made:
        journal.record(inspection, evidence(inspection.id), [])
    return [inspection.id for inspection in made]


def held(journal: Journal) -> list[str]:
    return [found.id for found in journal.inspections()]


def test_rows_older_than_the_days_to_keep_go_and_newer_ones_stay(url: str) -> None:
    now = datetime.now(timezone.utc)
    recorded_at = [now - timedelta(days=days) for days in (40, 31, 29, 0)]
    moments = iter(recorded_at)
    with closing(Journal.open(url, clock=lambda: next(moments))) as journal:
        fill(journal, 4)
        with closing(retention(journal, keep_bytes=1e18, keep_days=30)) as sink:
            sink.run()
        assert [found.inspected_at for found in journal.inspections()] == recorded_at[2:]


class Rows:
    """A journal that says what it was told, and deletes as many rows at each call as `deleted` says."""

    def __init__(self, deleted: list[int], size: float = 0) -> None:
        self.deleted, self._size = deleted, size
        self.told: list[list[str]] = []
        self.asked: list[int] = []

    def clear_uris(self, uris: Iterable[str]) -> None:
        self.told.append(list(uris))

    def to_learn(self, since: datetime) -> list[str]:
        return []

    def purge_before(self, moment: datetime, limit: int, labelled_since: datetime) -> PurgeStep:
        rows = self.deleted.pop(0)
        return PurgeStep(rows, rows > 0)

    def purge_oldest(self, limit: int, labelled_since: datetime) -> PurgeStep:
        self.asked.append(limit)
        return PurgeStep(limit, True)

    def size(self) -> int:
        return int(self._size)


def test_what_the_sweep_deleted_is_told_to_the_journal_and_a_backlog_is_gone_on_with() -> None:
    rows = Rows([500, 7, 0, 0])
    sweeps = iter([["file:///a.png"], [], [], []])
    sweep(Retention(lambda moment: next(sweeps), rows, keep_days=FOR_EVER, keep_gb=10), times=5)
    assert rows.told == [["file:///a.png"]]
    assert rows.asked == []
    assert rows.deleted == [0]  # once nothing was left, the next look is a minute away


def test_what_made_way_between_two_sweeps_is_told_at_the_next_run_and_the_rest_at_the_end() -> None:
    rows, take_removed = Rows([0]), iter([["file:///a.png"], [], ["file:///b.png"]])
    sink = Retention(lambda moment: [], rows, keep_days=FOR_EVER, keep_gb=10, take_removed=lambda: next(take_removed))
    sweep(sink, times=3)  # the first of them sweeps
    assert rows.told == [["file:///a.png"]]
    sink.close()
    assert rows.told == [["file:///a.png"], ["file:///b.png"]]


def test_a_journal_below_its_limit_keeps_every_row(journal: Journal) -> None:
    kept = fill(journal, 30)
    sweep(retention(journal, keep_bytes=journal.size()))
    assert held(journal) == kept


def test_what_exceeds_the_limit_goes_the_oldest_ok_first_and_nothing_else(journal: Journal) -> None:
    first = fill(journal, 400)
    limit = journal.size()
    more = fill(journal, 120)
    assert journal.size() > limit
    sweep(retention(journal, keep_bytes=limit))
    assert limit - ROOM / 2 < journal.size() <= limit
    kept = held(journal)
    assert kept == [*first, *more][-len(kept) :]
    assert 400 - 40 < len(kept) < 400 + 40  # a page that some index fills in part is not free


def test_inspections_that_are_not_ok_outlive_newer_ones_that_are(journal: Journal) -> None:
    def not_ok() -> Inspection:
        return inspected(RAISED, simulated=True)  # so that none of them is its station's last alarm

    bad = fill(journal, 30, not_ok)
    undecided = fill(journal, 30, lambda: not_decidable("truncated"))
    good = fill(journal, 100)
    size = journal.size()
    sweep(retention(journal, keep_bytes=size - ROOM))
    kept = held(journal)
    assert [*bad, *undecided] == kept[:60]
    assert 0 < len(kept[60:]) < 100
    assert kept[60:] == good[-len(kept[60:]) :]

    while len(held(journal)) > 50:  # once no OK one is left, the oldest go whatever they are
        assert journal.purge_oldest(10).rows == 10 or held(journal) == [*bad, *undecided]
    assert held(journal) == [*bad, *undecided][-50:]


def test_rows_whose_messages_wait_and_the_last_alarm_stay_and_too_little_room_is_said_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="edge_agent")
    waiting, told, cleared = inspected(), inspected(RAISED), inspected(AlarmEvent.CLEARED)
    file = stored_file()
    for inspection in (waiting, told, cleared, inspected(file=file)):
        journal.record(inspection, Evidence(), [message(inspection)])
    waits, *others = journal.outbox(MQTT).pending(9)
    journal.outbox(MQTT).mark_sent(row.seq for row in others)
    fill(journal, 30)
    sink = retention(journal, keep_bytes=1)
    sweep(sink)
    assert held(journal) == [waiting.id, cleared.id]
    assert journal.standing_alarms() == {"cam1": frozenset()}
    assert [row.seq for row in journal.outbox(MQTT).pending(9)] == [waits.seq]
    assert journal.seen("cam1", file)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "more than database.keep_gb" in said[0]
    assert "raise keep_gb, or begin a new journal" in said[0]


def test_one_run_deletes_no_more_than_a_part_however_large_the_excess() -> None:
    rows = Rows([0], size=30e9)
    sweep(Retention(lambda moment: [], rows, keep_days=FOR_EVER, keep_gb=10), times=1)
    assert rows.asked == [500]


def test_rows_that_wait_are_gone_past_at_the_next_run_and_not_complained_of(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, logger="edge_agent")
    monkeypatch.setattr("edge_agent.journal.purge.LOOK", 10)
    waiting = [inspected() for _ in range(35)]
    for inspection in waiting:
        journal.record(inspection, Evidence(), [message(inspection)])
    fill(journal, 5)
    sink = retention(journal, keep_bytes=1)
    for _ in range(8):  # looks in eight parts of a minute that is not over yet
        sink.run()
    assert held(journal) == [inspection.id for inspection in waiting]
    assert not caplog.records
    sweep(sink)
    assert "no inspection is left that may go" in caplog.text  # once all were looked at in vain
    journal.outbox(MQTT).mark_sent(row.seq for row in journal.outbox(MQTT).pending(99))
    sweep(retention(journal, keep_bytes=1))
    assert held(journal) == []


def test_rows_that_went_make_room_for_new_ones_so_that_the_file_grows_no_further(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"

    def on_disk() -> int:
        with create_engine(f"sqlite:///{file}", poolclass=NullPool).connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.stat().st_size

    with closing(Journal.open(f"sqlite:///{file}")) as journal:
        fill(journal, 150)
        limit = journal.size()
        before = on_disk()
        assert before == limit
        for _ in range(10):
            fill(journal, 50)
            sweep(retention(journal, limit))
        assert journal.size() <= limit
        assert on_disk() < before + 60 * 1500  # what one round brought before its sweep, and no more


def test_the_size_of_a_postgresql_journal_falls_at_once_and_not_only_when_it_is_vacuumed(
    postgresql: Server, postgresql_url: str
) -> None:
    with closing(Journal.open(postgresql_url)) as journal:
        fill(journal, 300)
        full = journal.size()
        assert journal.purge_oldest(150).rows == 150
        half = journal.size()
        assert 0.4 < half / full < 0.6
        with create_engine(
            postgresql_url.replace("postgresql://", "postgresql+psycopg://"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        ).connect() as connection:
            connection.exec_driver_sql("VACUUM")
        assert journal.size() == pytest.approx(half, rel=0.1)


def test_the_oldest_ok_inspections_are_found_by_an_index(url: str, journal: Journal) -> None:
    fill(journal, 1)
    assert journal.purge_oldest(1).rows == 1
    query = "SELECT number FROM inspections WHERE evaluation = 'OK' ORDER BY inspected_at LIMIT 500"
    with create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
    ).connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql("SELECT 1" if sqlite else "SET enable_seqscan = off")  # as in a large table
        plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{query}").all()
    assert "ix_inspections_ok" in str(plan)
    assert "Sort" not in str(plan)
    assert "TEMP B-TREE" not in str(plan)
