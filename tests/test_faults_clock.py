"""A clock that is set, back or forth, while the agent runs: every picture once, every alarm in order, nothing deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from edge_agent.config.load import load_config
from edge_agent.core import AlarmEvent
from edge_agent.daemon import Agent
from edge_agent.evidence.encoding import encode
from edge_agent.evidence.retention import Retention
from edge_agent.evidence.store import EvidenceStore
from edge_agent.health.systemd import Notifier
from edge_agent.io.clock import CautiousClock
from edge_agent.journal.journal import Journal
from edge_agent.line.ids import Ids
from tests.agent import journalled, part, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.line import inspected
from tests.mosquitto import Listener, Mosquitto
from tests.test_daemon import arrived_in_order


@pytest.fixture(scope="module")
def faketime() -> str:
    """The library that gives a process a clock of its own."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (Debian: apt install libfaketime)")
    return str(found[0])


def test_a_clock_that_is_set_costs_no_picture_and_no_alarm(faketime: str, tmp_path: Path) -> None:
    clock, log, journal = tmp_path / "clock", tmp_path / "log", tmp_path / "data" / "journal.db"
    clock.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # which no setting of a clock changes
        "NO_FAKE_STAT": "1",
    }
    with Mosquitto(tmp_path) as broker, Listener(broker) as listener:
        config = write_config(tmp_path, broker=broker)
        (tmp_path / "cam1").mkdir()
        command = [sys.executable, "-m", "edge_agent.cli", "run", "--config", config]
        with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
            try:
                wait_until(lambda: "station cam1: watches" in log.read_text(), "it watches")
                days = set()
                for step, said in enumerate(("+0", "-2h", "+3d", "-10d")):
                    clock.write_text(said)
                    for number in range(3):
                        part(tmp_path / "cam1" / f"{step}{number}.png", 3 * step + number)
                    wait_until(lambda: len(journalled(journal)) == 3 * step + 3, f"all are inspected at {said}")  # noqa: B023
                    days.add(journalled(journal)[-1]["inspected_at"][:10])
                    wait_until(lambda: len(listener.ids("alarm")) == 3 * step + 3, f"all alarms come at {said}")  # noqa: B023
                assert len(days) >= 3, "the clock was really set"
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0, log.read_text()
            finally:
                process.kill()
        rows = journalled(journal)
        assert arrived_in_order(listener) == [row["id"] for row in rows]
        assert len({row["id"] for row in rows}) == len({row["origin"] for row in rows}) == 12
    assert all(Path(row["image_uri"].removeprefix("file://")).exists() for row in rows), "no evidence is taken for old"


NOISE = np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8)
NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def test_a_clock_that_leaps_forward_is_doubted_for_an_hour_and_then_believed(caplog: pytest.LogCaptureFixture) -> None:
    seconds, leap = 0.0, timedelta()
    clock = CautiousClock(lambda: NOON + timedelta(seconds=seconds) + leap, lambda: seconds)
    seconds = 60.0
    assert clock() == NOON + timedelta(minutes=1)
    leap = timedelta(days=3650)
    for minute in (2, 3, 58):
        seconds = 60.0 * minute
        assert clock() == NOON + timedelta(minutes=minute)
    assert caplog.text.count("the clock leapt from 2026-11-20 12:02 to 2036-11-17 12:02: nothing is deleted") == 1
    seconds = 60.0 * 62
    assert clock() == NOON + timedelta(minutes=62) + leap
    seconds = 60.0 * 63
    assert clock() == NOON + timedelta(minutes=63) + leap


def test_a_wrong_year_that_is_set_right_again_deletes_nothing(tmp_path: Path) -> None:
    seconds, leap = 0.0, timedelta()
    clock = CautiousClock(lambda: datetime.now(timezone.utc) + timedelta(seconds=seconds) + leap, lambda: seconds)
    store = EvidenceStore(tmp_path / "evidence", render=lambda one, largest: one.frame.pixels)
    with closing(Journal.open(f"sqlite:///{tmp_path / 'journal.db'}")) as journal:
        retention = Retention(store.sweep, journal, keep_days=30, keep_gb=1, clock=clock)
        made = inspected(AlarmEvent.RAISED, taken_at=datetime.now(timezone.utc))
        kept = store.save(made)
        journal.record(made, kept, [])
        for days in (3650, 0, -3650):
            leap, seconds = timedelta(days=days), seconds + 100.0
            retention._next = 0.0
            retention.run()
        (row,) = journal.inspections()
        assert row.evidence == kept
        assert kept.image is not None
        assert Path(kept.image.uri.removeprefix("file://")).exists()


def test_a_start_long_after_the_last_inspection_is_doubted_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    seconds = 0.0
    wrong = NOON + timedelta(days=3650)
    clock = CautiousClock(lambda: wrong, lambda: seconds, last_known=NOON)
    assert "the last inspection was on 2026-11-20 12:00 and the clock says 2036-11-17 12:00" in caplog.text
    seconds = 3500.0
    assert clock() == NOON + timedelta(seconds=3500)
    seconds = 3700.0
    assert clock() == wrong
    assert CautiousClock(lambda: NOON, lambda: 0.0, last_known=wrong)() == NOON
    assert CautiousClock(lambda: NOON, lambda: 0.0, last_known=NOON - timedelta(hours=23))() == NOON


def test_an_agent_that_starts_in_a_wrong_year_deletes_nothing_for_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=3650)

    data, path = tmp_path / "data", write_config(tmp_path)
    with closing(Journal.open(f"sqlite:///{data / 'journal.db'}")) as journal:
        made = inspected(AlarmEvent.RAISED, at=datetime.now(timezone.utc))
        for one in (made, inspected(AlarmEvent.REPEATED)):
            journal.record(one, EvidenceStore(data / "evidence").save(one), [])
    monkeypatch.setattr("edge_agent.io.clock.datetime", Wrong)
    with Agent(load_config(path), path, Notifier(None)) as agent:
        agent._retention.run()
    assert len(rows := journalled(data / "journal.db")) == 2
    assert Path(rows[0]["image_uri"].removeprefix("file://")).exists()


def test_ids_sort_by_time_and_follow_a_clock_that_is_set_back() -> None:
    ms = [1000.0, 1000.0, 999.0, 3_600_000.0, 3_599_000.0, 50_000.0, 50_000.0]
    times = iter(ms)
    new_id = Ids(lambda: int(next(times) * 1e6))
    made = [UUID(new_id()) for _ in ms]
    assert [one.int >> 80 for one in made] == [1000, 1001, 1002, 3_600_000, 3_600_001, 50_000, 50_001]
    assert {one.version for one in made} == {7}


def test_what_was_taken_while_the_clock_was_not_set_goes_for_its_size_alone(tmp_path: Path) -> None:
    dates = [datetime(1970, 1, 1, tzinfo=timezone.utc), NOON, NOON + timedelta(days=20)]
    moments = iter(dates)
    store = EvidenceStore(tmp_path / "evidence", originals="all")
    with closing(Journal.open(f"sqlite:///{tmp_path / 'journal.db'}", clock=lambda: next(moments))) as journal:
        made = [inspected(at=date) for date in dates]
        for one in made:
            journal.record(one, store.save(one), [])
        clock = iter([NOON + timedelta(days=40)] * 2)
        retention = Retention(store.sweep, journal, keep_days=30, keep_gb=1, clock=lambda: next(clock))
        retention.run()
        assert [one.id for one in journal.inspections()] == [made[0].id, made[2].id]
        assert sorted(day.name for day in (tmp_path / "evidence" / "cam1").iterdir()) == ["1970-01-01", "2026-12-10"]
        assert journal.last_inspected_at() == dates[2]
        assert journal.purge_oldest(1).rows == 1
        assert [one.id for one in journal.inspections()] == [made[2].id]


def test_evidence_of_a_year_to_come_makes_way_for_what_is_taken_after_it(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    size = len(encode(NOISE, "png"))
    store = EvidenceStore(tmp_path / "evidence", originals="all", overlays="none", keep_gb=3.5 * size / 1e9)
    for at in (now - timedelta(days=1), now + timedelta(days=3650), now, now):
        assert store.save(inspected(at=at, pixels=NOISE)).image
    days = sorted(path.parent.name for path in (tmp_path / "evidence").rglob("*.png"))
    assert days == [f"{now - timedelta(days=1):%Y-%m-%d}", f"{now:%Y-%m-%d}", f"{now:%Y-%m-%d}"]


def test_clocks_that_go_backward_are_believed_at_once() -> None:
    leap = timedelta()
    clock = CautiousClock(lambda: NOON + leap, lambda: 0.0)
    leap = timedelta(days=-365)
    assert clock() == NOON + leap
