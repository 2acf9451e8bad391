"""A recorder that is killed at any moment leaves whole inspections only, and every one that it had been promised."""

from __future__ import annotations

import random
import time
from contextlib import closing, suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from edge_agent.core import MQTT, AlarmEvent
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
from edge_agent.journal.rows import RecordedInspection
from tests.agent import forks
from tests.conftest import PATIENCE_S, wait_until
from tests.line import DEFECTS, NOON, evidence, inspected, message, stored_file


def record_for_ever(url: str, acknowledged: Path, first: int) -> None:
    """Record inspections, every other one with an alarm, and note the id of each as soon as `record` has returned."""
    with acknowledged.open("ab", buffering=0) as note:
        note.write(b"\n")
        with closing(Journal.open(url)) as journal:
            while True:
                alarm = AlarmEvent.RAISED if first % 2 else None
                file = stored_file(f"/pictures/{first}.png", str(first), inode=first)
                inspection = inspected(alarm, file=file, taken_at=NOON + timedelta(seconds=first))
                assert journal.record(inspection, evidence(), [message(inspection)] if alarm else [])
                note.write(inspection.id.encode() + b"\n")
                first += 1


def open_when_let_go(url: str) -> Journal:
    """Open the journal of a killed process: a PostgreSQL server needs a moment to see that it is gone."""

    def opened() -> Journal | None:
        with suppress(JournalError):
            return Journal.open(url)
        return None

    return wait_until(opened, f"{url} can be opened")


def kill_while_it_works(process: BaseProcess, acknowledged: Path, records: int, pause: float) -> None:
    """Start, wait for so many records (0: for it to open the journal), and kill it so many seconds later."""
    size = acknowledged.stat().st_size
    process.start()
    enough = size + 37 * records  # an id and the end of its line
    wait_until(lambda: acknowledged.stat().st_size > enough or not process.is_alive(), f"{records} records")
    assert process.is_alive()
    time.sleep(pause)
    process.kill()
    process.join(PATIENCE_S)
    assert process.exitcode == -9


def test_a_killed_recorder_leaves_nothing_half_and_loses_nothing_it_acknowledged(url: str, tmp_path: Path) -> None:
    context = forks()  # it has everything imported, so that each kill meets the journal, not an import
    chance = random.Random(4711)
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    found: list[RecordedInspection] = []
    least = 0
    for kill in range(1, 1 + (15 if url.startswith("sqlite") else 5)):
        work = context.Process(target=record_for_ever, args=(url, acknowledged, len(found)))
        records = chance.choice([0, 0, 1, 2, 5, 9])
        kill_while_it_works(work, acknowledged, records, pause=chance.uniform(0, 0.03 if records else 0.3))
        least += records
        with closing(open_when_let_go(url)) as journal:
            found = journal.inspections()
            sent = journal.outbox(MQTT).pending(10**9)
            files = [
                journal.seen("cam1", stored_file(f"/pictures/{number}.png", str(number), inode=number))
                for number in range(len(found) + 1)
            ]
        promised = acknowledged.read_text().split()
        ids = [inspection.id for inspection in found]
        alarms = [inspection.id for inspection in found if inspection.verdict.alarm]
        assert [row.message.payload["inspection"] for row in sent] == alarms
        assert all(inspection.verdict.regions == DEFECTS for inspection in found if inspection.verdict.alarm)
        assert all(inspection.evidence == evidence() for inspection in found)
        assert [inspection.origin for inspection in found] == [f"/pictures/{n}.png" for n in range(len(found))]
        assert files == [True] * len(found) + [False]
        assert set(promised) <= set(ids)
        assert len(ids) - len(promised) <= kill  # at most the one that each kill kept from being acknowledged
        assert len(ids) >= least
