"""No (epoch, seq) is given twice, whatever is restored; and a journal that just goes on keeps its epoch."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.core import MQTT, AlarmEvent
from edge_agent.journal.journal import Journal
from edge_agent.journal.remembered import epoch
from tests.line import evidence, inspected, message


def open_in(folder: Path) -> Journal:
    return Journal.open(f"sqlite:///{folder}/journal.db", agent="box")


def tell(journal: Journal, count: int) -> list[tuple[str, int]]:
    """Record alarms; return the epoch and seq of each, as they are sent."""
    for _ in range(count):
        made = inspected(AlarmEvent.RAISED)
        journal.record(made, evidence(), [message(made)])
    rows = journal.outbox(MQTT).pending(1000)[-count:]
    journal.outbox(MQTT).mark_sent(row.seq for row in rows)
    return [(row.epoch, row.seq) for row in rows]


def backed_up(folder: Path, to: Path) -> None:
    """As docs/operation.md says, while the agent runs."""
    with (
        closing(sqlite3.connect(folder / "journal.db")) as source,
        closing(sqlite3.connect(to / "journal.db")) as target,
    ):
        source.backup(target)


def in_place(backup: Path, folder: Path) -> None:
    shutil.copyfile(backup / "journal.db", folder / "journal.db")


def renamed(backup: Path, folder: Path) -> None:
    shutil.copyfile(backup / "journal.db", folder / "new")
    (folder / "new").rename(folder / "journal.db")


def with_its_marker(backup: Path, folder: Path) -> None:
    in_place(backup, folder)
    shutil.copyfile(backup / "journal.db.epoch", folder / "journal.db.epoch")
    os.utime(folder / "journal.db.epoch", (1e9, 1e9))  # as cp -a and tar do


def without_marker(backup: Path, folder: Path) -> None:
    in_place(backup, folder)
    (folder / "journal.db.epoch").unlink()


@pytest.mark.parametrize("restore", [in_place, renamed, with_its_marker, without_marker])
def test_a_restored_backup_begins_a_new_epoch(
    tmp_path: Path, restore: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder, backup = tmp_path / "data", tmp_path / "backup"
    backup.mkdir()
    with closing(open_in(folder)) as journal:
        sent = tell(journal, 3)
        backed_up(folder, backup)
        shutil.copyfile(folder / "journal.db.epoch", backup / "journal.db.epoch")
        sent += tell(journal, 4)
    restore(backup, folder)
    for leftover in ("journal.db-wal", "journal.db-shm"):
        (folder / leftover).unlink(missing_ok=True)
    with closing(open_in(folder)) as journal:
        assert "a new epoch of its messages begins, as it was restored or moved: " in caplog.text
        sent += tell(journal, 5)
    assert [seq for _, seq in sent] == [1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8]
    assert len(set(sent)) == len(sent)
    with closing(open_in(folder)) as journal:
        assert journal.epoch == sent[-1][0], "and only one"
        assert tell(journal, 1)[0] not in sent


def test_a_journal_that_goes_on_keeps_its_epoch_however_it_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_in(tmp_path / "data")) as journal:
        sent = tell(journal, 2)
    with closing(open_in(tmp_path / "data")) as journal:
        sent += tell(journal, 2)
        # What lies on the disk after a kill, and after a power cut, which may forget the last writes of the marker.
        shutil.copytree(tmp_path / "data", tmp_path / "kept", copy_function=os.link, dirs_exist_ok=True)
    marker = tmp_path / "data" / "journal.db.epoch"
    marker.write_text(marker.read_text().replace("4\n", "3\n"))
    with closing(open_in(tmp_path / "data")) as journal:
        sent += tell(journal, 1)
    assert [seq for _, seq in sent] == [1, 2, 3, 4, 5]
    assert len({epoch for epoch, _ in sent}) == 1
    assert "new epoch" not in caplog.text


def test_a_journal_on_a_cloned_or_new_machine_begins_a_new_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_in(tmp_path)) as journal:
        sent = tell(journal, 2)
    monkeypatch.setattr(epoch, "machine_hash", lambda purpose: "f" * 64)
    with closing(open_in(tmp_path)) as journal:
        sent += tell(journal, 2)
    assert [seq for _, seq in sent] == [1, 2, 3, 4]
    assert len({epoch for epoch, _ in sent}) == 2


def test_what_waited_when_the_journal_was_restored_keeps_the_epoch_that_it_had(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as journal:
        made = inspected(AlarmEvent.RAISED)
        journal.record(made, evidence(), [message(made)])
        before = journal.epoch
    (tmp_path / "journal.db.epoch").unlink()
    with closing(open_in(tmp_path)) as journal:
        assert journal.epoch != before
        assert [row.epoch for row in journal.outbox(MQTT).pending(9)] == [before]


def test_a_marker_that_cannot_be_written_is_said_once_and_keeps_nothing_from_being_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal.db.epoch").mkdir()
    with closing(open_in(tmp_path)) as journal:
        assert len(tell(journal, 3)) == 3
    assert caplog.text.count("a restored journal may go unnoticed") == 1


def test_every_journal_has_an_epoch_of_its_own_on_a_server_too(url: str) -> None:
    with closing(Journal.open(url)) as journal:
        first = journal.epoch
        sent = tell(journal, 2)
    with closing(Journal.open(url)) as journal:
        assert journal.epoch == first
        assert sent == [(first, 1), (first, 2)]
