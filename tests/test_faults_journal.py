"""A journal that cannot be used ends the daemon with a clear error, and is neither replaced nor written past."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.core import AlarmEvent
from edge_agent.errors import JournalGone
from edge_agent.journal.journal import Journal
from tests.agent import Daemon, part, write_config
from tests.line import evidence, inspected, message


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE journal_version SET version_num = '9999'")
        database.commit()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (newer, "written by a newer edge-agent (schema 9999"),
        (emptied, "the file is empty, so what it held is lost: restore a backup"),
        (overwritten, "this is not an SQLite database, or its beginning is damaged: check the path"),
    ],
)
def test_a_daemon_does_not_begin_anew_where_a_journal_is_spoilt(
    spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "journal.db"
    Journal.open(f"sqlite:///{path}").close()
    spoil(path)
    before = path.read_bytes()
    part(tmp_path / "cam1" / "a.png")
    with Daemon(write_config(tmp_path)) as daemon:
        assert daemon.ended() == 1
        assert said in daemon.log
        assert "Traceback" not in daemon.log
    assert path.read_bytes() == before


def test_a_locked_journal_ends_the_start_of_a_daemon_with_who_may_lock_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "journal.db"
    Journal.open(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with Daemon(write_config(tmp_path)) as daemon:
            assert daemon.ended() == 1
            assert "database is locked: another program keeps it locked: end that program" in daemon.log
            assert "Traceback" not in daemon.log


def test_nothing_is_recorded_in_a_file_that_was_deleted_and_none_is_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        first = inspected(AlarmEvent.RAISED)
        journal.record(first, evidence(), [message(first)])
        path.rename(tmp_path / "moved.db")
        for _ in range(2):
            second = inspected(AlarmEvent.RAISED)
            with pytest.raises(JournalGone, match="deleted or replaced while the agent used it"):
                journal.record(second, evidence(), [message(second)])
        assert not path.exists()
        (tmp_path / "moved.db").rename(path)
        assert journal.record(second, evidence(), [message(second)])


def test_a_daemon_whose_journal_is_deleted_stops_to_be_started_again(tmp_path: Path) -> None:
    part(tmp_path / "cam1" / "a.png", 1)
    with Daemon(write_config(tmp_path)) as daemon:
        daemon.has_inspected("a.png")
        (tmp_path / "data" / "journal.db").unlink()
        part(tmp_path / "cam1" / "b.png", 2)
        assert daemon.ended() == 1
        assert "journal.db: the file was deleted or replaced while the agent used it" in daemon.log
        assert not (tmp_path / "data" / "journal.db").exists()
