"""Periodic work goes by the clock: an idle line deletes by age, too, and one failing task holds up no other."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.errors import JournalError
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.line.periodic import Periodic, Task
from tests.agent import Daemon, write_config
from tests.conftest import wait_until
from tests.line import inspected

OLD = datetime.now(timezone.utc) - timedelta(days=90)


def test_an_idle_line_deletes_pictures_and_rows_that_are_too_old(tmp_path: Path) -> None:
    config = write_config(tmp_path, evidence={"keep_days": 30}, database={"keep_days": 30})
    data = tmp_path / "data"
    moments = (OLD, datetime.now(timezone.utc))
    recorded_at = iter(moments)
    with closing(Journal.open(f"sqlite:///{data}/journal.db", clock=lambda: next(recorded_at))) as journal:
        store = EvidenceStore(data / "evidence", originals="all", overlays="none", keep_days=1e9)
        for moment in moments:
            one = inspected(at=moment, taken_at=moment)
            journal.record(one, store.save(one), ())
        assert len(pictures(data)) == 2
    with Daemon(config) as daemon:
        daemon.until("ready: ")
        wait_until(lambda: len(pictures(data)) == 1, "the old picture is deleted")
        daemon.stop()
        assert "stopped: 0 inspected" in daemon.log
    with closing(Journal.open(f"sqlite:///{data}/journal.db")) as journal:
        (row,) = journal.inspections()
        assert row.taken_at > OLD + timedelta(days=60)
        assert row.evidence.image is not None


def pictures(data: Path) -> list[str]:
    return [name for _, _, names in os.walk(data / "evidence") for name in names]


def test_each_task_runs_again_and_again_and_one_that_fails_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    ran = threading.Semaphore(0)

    def fails() -> bool:
        raise JournalError("the journal is locked")

    def breaks() -> bool:
        raise ZeroDivisionError

    def works() -> bool:
        ran.release()
        return False

    periodic = Periodic([Task("fails", 0.0, fails), Task("breaks", 0.0, breaks), Task("works", 0.0, works)])
    periodic.start()
    try:
        assert all(ran.acquire(timeout=300) for _ in range(3))
        wait_until(lambda: min(periodic.failures["fails"], periodic.failures["breaks"]) >= 2, "they are tried again")
    finally:
        periodic.close()
    assert periodic.failures["works"] == 0
    assert "fails failed (the journal is locked); trying again in 0 s" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert not periodic.stage.hangs


def test_a_task_with_more_to_do_goes_on_long_before_its_interval_is_over() -> None:
    left, done = [5], threading.Event()

    def part() -> bool:
        left[0] -= 1
        if not left[0]:
            done.set()
        return left[0] > 0

    periodic = Periodic([Task("backlog", 3600.0, part)])
    periodic.start()
    try:
        assert done.wait(300)
    finally:
        periodic.close()
    assert left == [0]


def test_what_was_never_started_can_be_closed() -> None:
    Periodic([]).close()
