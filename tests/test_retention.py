"""Old evidence and old rows go together, a part at a time, while the line works."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge_agent.core import Evidence
from edge_agent.journal import Journal
from edge_agent.sinks.retention import Retention
from tests.line import inspected


def test_rows_older_than_the_days_to_keep_go_and_newer_ones_stay(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    with closing(Journal.open(f"sqlite:///{tmp_path}/journal.db")) as journal:
        for days in (40, 31, 29, 0):
            journal.record(inspected(taken_at=now - timedelta(days=days)), Evidence(), [])
        retention = Retention(lambda moment: [], journal.forget_files, journal.forget_before, keep_days=30)
        retention.write(inspected(), Evidence())
        retention.close()
        assert [round((now - found.taken_at).days) for found in journal.inspections()] == [29, 0]


def test_what_the_sweep_deleted_is_told_to_the_journal_and_a_backlog_is_gone_on_with() -> None:
    told: list[list[str]] = []
    deleted = [500, 7, 0, 0]
    sweeps = iter([["file:///a.png"], [], [], []])
    retention = Retention(
        lambda moment: next(sweeps), lambda uris: told.append(list(uris)), lambda moment: deleted.pop(0), 1e9
    )
    for _ in range(5):
        retention.write(inspected(), Evidence())
    assert told == [["file:///a.png"]]
    assert deleted == [0]  # once nothing was left, the next look is a minute away
