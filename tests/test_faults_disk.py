"""A full disk: alarms go on being recorded, evidence makes way, and what was kept for this moment is kept again after it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent import ballast
from edge_agent.core import AlarmEvent
from edge_agent.errors import JournalError
from edge_agent.journal import Journal
from tests.line import evidence, inspected, message


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB, which only root can mount."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> Path:
    """A file of somebody else's that takes all there is."""
    others = disk / "others"
    with others.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return others


def record(journal: Journal) -> str:
    """Record one alarm, as the line does: what failed is tried again."""
    inspection = inspected(AlarmEvent.RAISED)
    try:
        assert journal.record(inspection, evidence(), [message(inspection)])
    except JournalError:
        assert journal.record(inspection, evidence(), [message(inspection)])
    return inspection.id


def test_alarms_are_recorded_on_a_full_disk_and_room_is_kept_again_after_it(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ballast, "AGAIN_S", 0.0)
    kept = disk / "journal.db.ballast"
    with closing(Journal.open(f"sqlite:///{disk / 'journal.db'}", ballast=True)) as journal:
        assert kept.stat().st_size == 64 * 2**20 // 40
        others = fill(disk)
        assert shutil.disk_usage(disk).free == 0
        ids = [record(journal) for _ in range(20)]
        assert not kept.exists()
        assert caplog.text.count(f"the disk of {disk} is full: 1.7 MB that were kept for this moment are free now") == 1
        others.unlink()
        ids.append(record(journal))
        assert kept.exists()
        assert [row.message.payload["inspection"] for row in journal.pending(100)] == ids


def test_a_journal_on_a_full_disk_opens_by_what_was_kept_for_it(disk: Path) -> None:
    path = disk / "journal.db"
    with closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal:
        first = record(journal)
    fill(disk)
    with closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal:
        second = record(journal)
        assert [row.message.payload["inspection"] for row in journal.pending(100)] == [first, second]


def test_a_locked_journal_is_no_reason_to_give_room_away(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.databases.sqlite.BUSY_MS", 50)
    path = disk / "journal.db"
    with (
        closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal,
        closing(sqlite3.connect(path, isolation_level=None)) as stranger,
    ):
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            journal.mark_sent([1])
    assert (disk / "journal.db.ballast").exists()


def test_only_what_asks_for_it_keeps_room(disk: Path) -> None:
    Journal.open(f"sqlite:///{disk / 'journal.db'}").close()
    assert sorted(path.name for path in disk.iterdir()) == ["journal.db", "journal.db.lock"]
