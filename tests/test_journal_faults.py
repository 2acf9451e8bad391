"""What the SQLite journal says, and keeps, when its file, folder or disk is not as it should be."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from edge_agent.core import MQTT, AlarmEvent, Evidence
from edge_agent.errors import JournalError, JournalGone, JournalOverwritten
from edge_agent.journal import sqlite
from edge_agent.journal.journal import Journal
from tests.conftest import PATIENCE_S
from tests.line import evidence, inspected, message, stored_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "journal.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """The file of a closed journal that holds 40 inspections."""
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        for _ in range(40):
            record(journal)
    return path


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts things, as `mount OPTIONS... PLACE` does, and undoes it; skips where that is not allowed."""
    places: list[Path] = []

    def mount(place: Path, *options: str) -> Path:
        done = subprocess.run(["mount", *options, place], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount: {done.stderr.splitlines()[0]}")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", place], check=True)


def record(journal: Journal) -> str:
    inspection = inspected(AlarmEvent.RAISED)
    assert journal.record(inspection, evidence(), [message(inspection)])
    return inspection.id


def refusal(path: Path | str) -> str:
    """What is said when `path` is opened; nothing that is there may be changed by it."""
    path = Path(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError) as refused:
        Journal.open(f"sqlite:///{path}")
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_the_folder_of_a_new_journal_is_created_and_nothing_but_the_journal_stays(path: Path) -> None:
    Journal.open(f"sqlite:///{path}").close()
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "journal.db",
        "journal.db.epoch",
        "journal.db.lock",
        "journal.db.writing",
    ]


def test_a_relative_path_is_taken_from_where_the_agent_was_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)
    Journal.open("sqlite:///data/journal.db").close()
    assert path.exists()


def test_commits_are_on_disk_and_only_one_connection_writes(path: Path) -> None:
    statements: list[str] = []
    event.listen(Engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        record(journal)
        journal.outbox(MQTT).pending(1)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with journal._writing() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        with journal._reading() as connection:
            assert connection.exec_driver_sql("PRAGMA query_only").scalar() == 1
    assert "BEGIN IMMEDIATE" in statements


def test_a_text_file_is_not_taken_for_a_journal(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("shopping list: bread, milk, solder")
    assert "not an SQLite database" in refusal(path)


def test_an_empty_file_is_reported_as_lost_data_not_filled_anew(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert "empty, so what it held is lost: restore a backup" in refusal(path)


def test_a_folder_is_not_taken_for_a_journal(path: Path) -> None:
    path.mkdir(parents=True)
    assert "Is a directory: name a file" in refusal(path)


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    assert "database of something else (it has the table bookmarks)" in refusal(path)


def test_a_file_that_was_cut_off_is_damaged(filled: Path) -> None:
    os.truncate(filled, filled.stat().st_size // 2)
    assert "it is damaged" in refusal(filled)


def test_a_file_with_pages_of_garbage_is_damaged(filled: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8 * 4096))
    assert "it is damaged: stop the agent, keep copies of the file" in refusal(filled)


def test_damage_that_is_only_met_in_use_is_said_too(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", 0)  # as if the file were too large to be checked throughout
    with closing(sqlite3.connect(filled)) as database:
        query = "SELECT rootpage FROM sqlite_schema WHERE name IN ('inspections', 'outbox')"
        roots = [page for (page,) in database.execute(query)]
    with filled.open("r+b") as file:
        for page in roots:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
    with closing(Journal.open(f"sqlite:///{filled}")) as journal:
        with pytest.raises(JournalError, match="it is damaged"):
            record(journal)
        with pytest.raises(JournalError, match="it is damaged"):
            journal.inspections()


def test_a_journal_of_a_newer_version_is_left_alone(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as database:
        database.execute("UPDATE journal_version SET version_num = '9999'")
        database.commit()
    assert "written by a newer edge-agent (schema 9999; this one knows up to" in refusal(filled)


def test_a_missing_file_whose_log_is_still_there_is_not_begun_anew(filled: Path) -> None:
    filled.rename(filled.with_name("moved.db"))
    Path(f"{filled}-wal").write_bytes(b"rows")
    assert "the file is gone but its newest rows are still in journal.db-wal" in refusal(filled)
    assert not filled.exists()


def test_a_creation_that_was_cut_short_leaves_no_journal_and_is_begun_again(path: Path) -> None:
    path.parent.mkdir()
    Path(f"{path}.new").write_bytes(b"SQLite format 3\0 and then the power went")
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        record(journal)
    assert not Path(f"{path}.new").exists()


def test_a_folder_that_may_not_be_written_is_named(filled: Path, mounted: Callable[..., Path]) -> None:
    mounted(filled.parent, "--bind", "-o", "ro", str(filled.parent))
    assert "Read-only file system: choose a folder with room, which the agent's user may write" in refusal(filled)


def test_a_file_that_may_not_be_written_is_named(filled: Path, mounted: Callable[..., Path]) -> None:
    mounted(filled, "--bind", "-o", "ro", str(filled))
    assert "Read-only file system: name a file that the agent's user may read and write" in refusal(filled)


def test_a_second_journal_in_the_same_process_is_refused_until_the_first_is_closed(path: Path) -> None:
    with closing(Journal.open(f"sqlite:///{path}")):
        assert f"another agent uses it (process {os.getpid()}): stop that one" in refusal(path)
    Journal.open(f"sqlite:///{path}").close()


def hold(url: str, ours: Connection) -> None:
    journal = Journal.open(url)
    ours.send("open")
    ours.recv()
    journal.close()


def test_a_second_agent_is_refused_with_the_process_of_the_first(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    agent = context.Process(target=hold, args=(f"sqlite:///{path}", theirs))
    agent.start()
    assert ours.poll(60)
    assert ours.recv() == "open"
    assert f"another agent uses it (process {agent.pid})" in refusal(path)
    agent.kill()
    agent.join(PATIENCE_S)
    Journal.open(f"sqlite:///{path}").close()


def test_a_file_that_a_stranger_holds_is_waited_for_then_said(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 50)
    with closing(sqlite3.connect(filled, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        assert "database is locked: another program keeps it locked: end that program" in refusal(filled)
        stranger.execute("ROLLBACK")
        with closing(Journal.open(f"sqlite:///{filled}")) as journal:
            stranger.execute("BEGIN IMMEDIATE")
            inspection = inspected(AlarmEvent.RAISED, file=stored_file())
            with pytest.raises(JournalError, match="database is locked"):
                journal.record(inspection, evidence(), [message(inspection)])
            assert len(journal.inspections()) == 40
            stranger.execute("ROLLBACK")
            assert journal.record(inspection, evidence(), [message(inspection)])
            assert journal.outbox(MQTT).outbox_depth()[0] == 41


@pytest.mark.parametrize(("spare", "checks"), [(1, True), (0, False)])
def test_a_file_is_checked_completely_when_it_is_opened_unless_it_is_large(
    filled: Path, monkeypatch: pytest.MonkeyPatch, spare: int, checks: bool
) -> None:
    assert sqlite.CHECKED_BYTES == 64 << 20
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", filled.stat().st_size + spare)
    run: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        run.append(statement)

    try:
        Journal.open(f"sqlite:///{filled}").close()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert ("PRAGMA quick_check(1)" in run) is checks


def test_the_lock_for_writing_is_waited_for_just_as_long_as_a_locked_database(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([100.0, 104.9, 105.0, 105.1])  # of the clock, in seconds: the wait begins at the first

    class Clock:
        monotonic = staticmethod(lambda: next(looks))
        sleep = staticmethod(lambda _s: None)

    with Path(f"{filled}.writing").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(sqlite, "time", Clock)
        assert "another process has been writing for 5 s: end that one" in refusal(filled)
        assert next(looks, None) is None


def test_a_full_disk_undoes_the_record_that_did_not_fit_and_later_ones_succeed(
    tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    (tmp_path / "small").mkdir()
    disk = mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "none")
    path = disk / "journal.db"
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        kept = [record(journal)]
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 65536))
        unwritten = inspected()

        def record_until_full() -> None:
            nonlocal unwritten
            while True:
                unwritten = inspected(AlarmEvent.RAISED, file=stored_file(content=str(len(kept))))
                journal.record(unwritten, evidence(), [message(unwritten)])
                kept.append(unwritten.id)

        with pytest.raises(JournalError, match="disk is full: nothing of this was written: free space"):
            record_until_full()
        assert [found.id for found in journal.inspections()] == kept
        assert [row.message.payload["inspection"] for row in journal.outbox(MQTT).pending(10**6)] == kept
        assert unwritten.frame.file is not None
        assert not journal.seen("cam1", unwritten.frame.file)

        (disk / "ballast").unlink()
        assert journal.record(unwritten, evidence(), [message(unwritten)])
        assert [found.id for found in journal.inspections()] == [*kept, unwritten.id]


def test_a_disk_too_full_for_a_new_journal_is_said_and_leaves_none(
    tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    (tmp_path / "small").mkdir()
    disk = mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=64k", "none")
    assert "disk is full" in refusal(disk / "journal.db")
    assert not (disk / "journal.db").exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////tmp/j.db?timeout=3"])
def test_a_journal_needs_a_file_and_no_options(url: str) -> None:
    with pytest.raises(JournalError, match="write sqlite:///PATH"):
        Journal.open(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://agent:hush@host/line", "mysql:// is not supported; use sqlite:/// or postgresql://"),
        ("postgresql+psycopg2://agent:hush@host/line", r"postgresql\+psycopg2:// is not supported"),
        ("journal.db", "cannot be read; write sqlite:///relative/journal.db"),
        ("postgresql://agent:hush@host:port/line", "cannot be read"),
        ("postgresql://agent:hush@hush@host/line", "write an @ of the user name or password as %40"),
    ],
)
def test_a_url_that_is_not_understood_is_refused_without_showing_its_password(url: str, said: str) -> None:
    with pytest.raises(JournalError, match=said) as refused:
        Journal.open(url)
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_no_question_is_answered_by_reading_a_whole_table(path: Path) -> None:
    asked: list[tuple[str, object]] = []

    def note(
        connection: object, cursor: object, statement: str, parameters: object, context: object, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            asked.append((statement, parameters[0] if many else parameters))  # type: ignore[index]

    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        event.listen(Engine, "before_cursor_execute", note)
        try:
            inspection = inspected(AlarmEvent.RAISED, file=stored_file())
            journal.record(inspection, Evidence(), [message(inspection)])
            journal.seen("cam1", stored_file())
            journal.seen_stats("cam1", {"/pictures/a.png": (1, 2, 3)})
            journal.outbox(MQTT).pending(10)
            journal.outbox(MQTT).mark_sent([1])
            journal.outbox(MQTT).outbox_depth()
            journal.standing_alarms()
            journal.inspections("cam1", since=inspection.frame.taken_at)
            journal.inspections(since=inspection.frame.taken_at)
            journal.clear_uris(["file:///a.png"])
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) >= 12
    # An index with a WHERE holds only the few rows it is about; reading it whole, and it alone, is fine. So does that of
    # alarms that no picture made.
    partial = ("ix_outbox_unsent", "ix_inspections_alarm", "ix_alarm_changes_station")

    def quick(step: str, statement: str) -> bool:
        if step.startswith("SCAN "):
            return step == "SCAN CONSTANT ROW" or (step.endswith(partial) and ("COVER" in step or "LIMIT" in statement))
        return True

    with closing(sqlite3.connect(path)) as database:
        for statement, parameters in asked:
            for *_, step in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):  # type: ignore[arg-type]
                assert quick(step, statement), (statement, step)


# What another program does to the files of an open journal


def overwritten(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def replaced(path: Path) -> None:
    shutil.copy(path, f"{path}.copy")
    os.rename(f"{path}.copy", path)


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 8192 * 4096)


@pytest.mark.parametrize("spoil", [os.unlink, replaced], ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_that_is_deleted_is_noticed_at_the_next_commit_and_no_row_is_lost(
    path: Path, suffix: str, spoil: Callable[[Path], None]
) -> None:
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        kept = [record(journal) for _ in range(5)]
        spoil(Path(f"{path}{suffix}"))
        for _ in range(2):
            with pytest.raises(
                JournalGone, match=rf"its journal\.db{suffix} was deleted or replaced .* start the agent again"
            ):
                record(journal)
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        assert [one.id for one in journal.inspections()] == kept
        record(journal)


@pytest.mark.parametrize(
    "spoil", [overwritten, lambda path: os.truncate(path, 0), halved], ids=["junk", "empty", "half"]
)
def test_a_log_that_is_overwritten_is_noticed_and_spoils_nothing_of_the_file(
    path: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        kept = [record(journal) for _ in range(5)]
    log = Path(f"{path}-wal")
    journal = Journal.open(f"sqlite:///{path}")
    for _ in range(5):
        record(journal)
    spoil(log)
    with pytest.raises(JournalOverwritten, match=r"journal\.db-wal was (cut|overwritten).* start the agent again"):
        record(journal)
    before = path.read_bytes(), log.read_bytes()
    journal.close()
    assert (path.read_bytes(), log.read_bytes()) == before
    other = tmp_path / "at-the-next-start" / "journal.db"  # in this process the connection stays open
    other.parent.mkdir()
    for file in (path, log):
        shutil.copy(file, other.parent)
    with closing(Journal.open(f"sqlite:///{other}")) as journal:
        assert [one.id for one in journal.inspections()][:5] == kept
        record(journal)


@pytest.mark.parametrize(
    "spoil", [lambda path: os.truncate(path, 0), halved, overwritten], ids=["empty", "half", "junk"]
)
def test_a_file_that_is_cut_or_overwritten_in_place_is_noticed_and_its_log_is_kept_for_whoever_rescues_it(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    journal = Journal.open(f"sqlite:///{path}")
    for _ in range(5):
        record(journal)
    spoil(path)
    with pytest.raises(JournalOverwritten, match="while the agent used it: nothing more is written to it: keep copies"):
        record(journal)
    before = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    journal.close()
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before
    with pytest.raises(JournalError):
        Journal.open(f"sqlite:///{path}")


def test_a_checkpoint_or_a_vacuum_by_another_program_is_taken_for_no_damage(path: Path) -> None:
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(RESTART)"):
            for _ in range(20):
                record(journal)
            journal.purge_oldest(15)
            with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
                stranger.execute(statement).fetchall()
            record(journal)


# Disks and file systems that fail


def test_a_file_system_without_locks_is_named_and_the_line_tries_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        with monkeypatch.context() as patched:
            patched.setattr("fcntl.flock", no_lock)
            with pytest.raises(JournalError, match=r"gives no lock \(No locks available\): use a local disk"):
                record(journal)
        record(journal)
    monkeypatch.setattr("fcntl.flock", no_lock)
    with pytest.raises(JournalError, match="gives no lock"):
        Journal.open(f"sqlite:///{path}")


def test_a_disk_that_cannot_be_read_is_no_reason_to_restore_a_backup(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert "the disk fails" in sqlite._remedy_of(
        "*** in database main *** Page 4: unable to get the page. error code=266"
    )
    assert "restore a backup" in sqlite._remedy_of(
        "*** in database main *** Page 4: btreeInitPage() returns error code 11"
    )
    with closing(Journal.open(f"sqlite:///{path}")) as journal:
        with monkeypatch.context() as patched:
            patched.setattr("os.pread", fails)
            with pytest.raises(JournalError, match="Input/output error: the disk fails"):
                record(journal)
        record(journal)
